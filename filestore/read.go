package filestore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// clockGrain is an upper bound for the step of a file system's clock.
const clockGrain = 20 * time.Millisecond

func stampOf(st *unix.Stat_t) record.Stamp {
	m, c := disk.StatTimes(st)
	return record.Stamp{Dev: uint64(st.Dev), Ino: uint64(st.Ino), Size: st.Size, Mtime: m, Ctime: c}
}

// statIn returns the stamp of a name in a directory, following a symbolic link, and the
// state of the name itself.
func statIn(d *disk.Dir, name string) (record.Stamp, *unix.Stat_t, error) {
	st, link, err := d.Stat(name)
	if err != nil && !errors.Is(err, disk.ErrLeadsNowhere) {
		return record.Stamp{}, nil, err
	}
	if link.Mode&unix.S_IFMT != unix.S_IFLNK {
		return stampOf(&st), &link, nil
	}
	_, c := disk.StatTimes(&link)
	if err != nil {
		return record.Stamp{Link: c, Ino: uint64(link.Ino)}, &link, err
	}
	s := stampOf(&st)
	s.Link = c
	return s, &link, nil
}

// reader reads the files of directories. It is safe for concurrent use.
type reader struct {
	opts  *Options
	clock *lifetimeClock // nil if no lifetime ends

	waitMu  sync.Mutex       // guards waiting
	waiting map[string]*wait // files that cannot be read yet
}

// readResult is the result of a look at one name.
type readResult struct {
	src     *Source // nil outside of a Store that is kept up to date
	base    string  // name in the directory
	key     string  // name in the view
	old     *record.File
	new     *record.Content // nil if the file does not exist
	changed bool
	retry   bool // the file cannot be served yet
	link    bool // the name is a symbolic link
	stamp   record.Stamp
}

// look reads a file if it has changed since old was read.
func (r *reader) look(d *disk.Dir, o readResult) readResult {
	at, link, err := statIn(d, o.base)
	o.link = link != nil && link.Mode&unix.S_IFMT == unix.S_IFLNK
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			r.clearWait(o.key)
			o.changed = o.old != nil
			return o
		}
		if o.old != nil && o.old.Fault() != nil && o.old.Stamp() == at && !at.Young && o.old.Fault().Reason == exposition.Unreadable {
			return o
		}
		return o.bad(at, time.Time{}, &exposition.SyntaxError{Reason: exposition.Unreadable, Msg: statSentence(err)})
	}
	if o.old != nil && o.old.Stamp().SameContent(at) && o.old.HeldSince().IsZero() && !o.old.IsBusy() {
		r.clearWait(o.key)
		return o
	}
	return r.read(d, o, at, link)
}

func statSentence(err error) string {
	if errors.Is(err, disk.ErrLeadsNowhere) {
		return disk.ErrLeadsNowhere.Error()
	}
	return "cannot be looked at: " + disk.PlainError(err)
}

// bad returns the result for a file that cannot be used.
func (o readResult) bad(at record.Stamp, mtime time.Time, err *exposition.SyntaxError) readResult {
	o.new = record.Bad(o.key, err)
	o.stamp = at
	o.new.File.Found(at, mtime)
	o.changed = true
	return o
}

// read loads a file. The open cannot block, and the content is read only if no process
// is writing it.
func (r *reader) read(d *disk.Dir, o readResult, at record.Stamp, link *unix.Stat_t) readResult {
	mtime := time.Unix(0, at.Mtime)
	reported := o.written(0) // before the open, so that the content is never older than the report
	fd, st, err := d.OpenRegular(o.base, link)
	switch {
	case err == nil:
		defer unix.Close(fd) //nolint:errcheck // only read
		if reported.serial != 0 && !reported.opened {
			defer o.written(reported.serial) // the open was ours
		}
	case errors.Is(err, disk.ErrRetry), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		o.retry = true // replaced just now, or a temporary shortage
		return o
	case errors.Is(err, disk.ErrNotRegular), errors.Is(err, disk.ErrLinkNowhere):
		return o.bad(at, time.Time{}, &exposition.SyntaxError{Reason: exposition.NotRegular, Msg: err.Error()})
	case errors.Is(err, disk.ErrUntrustedLink):
		return o.bad(at, mtime, &exposition.SyntaxError{Reason: exposition.Unreadable, Msg: err.Error()})
	default:
		return o.bad(at, mtime, &exposition.SyntaxError{Reason: exposition.Unreadable, Msg: "cannot be opened: " + disk.PlainError(err)})
	}
	before := stampOf(&st)
	before.Link = at.Link
	if st.Size > r.opts.MaxFileBytes {
		return o.bad(before, mtime, &exposition.SyntaxError{Reason: exposition.TooLarge, Msg: fmt.Sprintf("larger than --spool.max-file-bytes=%d", r.opts.MaxFileBytes)})
	}
	at, mtime = before, time.Unix(0, before.Mtime)
	o.stamp = at
	now := r.opts.Now()
	if d.Secret(&st) {
		// A file that is published by a link has two names for a moment.
		if now.Sub(time.Unix(0, at.Ctime)) < r.opts.Hold {
			return r.wait(o, now, whyShared)
		}
		return o.bad(at, mtime, &exposition.SyntaxError{Reason: exposition.Unreadable, Msg: disk.ErrSecret.Error()})
	}
	heeded := !o.link && st.Nlink <= 1
	if !heeded {
		reported = written{} // writes through other names are not reported
	}
	quiet := now.Sub(mtime)
	if quiet < 0 {
		quiet = slowestRest // a time in the future gives no information
	}
	whole := reported.renamed || reported.serial == 0 && o.isAnother(at)
	if quiet < r.opts.Settle && !whole {
		return r.wait(o, now, fmt.Sprintf(whyRest, "--spool.settle="+r.opts.Settle.String()))
	}
	busy, known := false, true
	// Pushes write by a rename. Other writers of an old file have finished, so a start
	// need not check each of ten thousand files.
	if quiet < oldGroup || o.link || !strings.HasPrefix(o.base, "job=") || !d.IsOwn(&st) {
		busy, known = disk.HasWriter(fd)
	}
	switch {
	case known:
	case reported.serial != 0 && !reported.closed:
		truncated := !reported.opened && o.old != nil && at.Size < o.old.Stamp().Size
		busy = !truncated || quiet < unknownRest
	case reported.serial != 0 && reported.opened && quiet < unknownRest:
		busy = !reported.renamed // a writer may have opened it
	case reported.serial != 0:
	case quiet < unknownRest:
		busy = !r.renamedIn(o, at, now)
	}
	if busy && !r.waitedTooLong(o.key, mtime, now) {
		// Another promspool process has its file open for a moment after the rename.
		if now.Sub(r.waitsSince(o.key, now)) >= r.opts.Hold {
			r.markBad(o.key, at, now)
		}
		return r.wait(o, now, whyOpen)
	}
	data, err := readAll(fd, int(st.Size))
	if err != nil {
		return o.bad(at, mtime, &exposition.SyntaxError{Reason: exposition.Unreadable, Msg: "cannot be read: " + disk.PlainError(err)})
	}
	// A writer that opened it meanwhile may have changed the content.
	if err := unix.Fstat(fd, &st); err != nil || stampOf(&st) != record.WithoutLink(before) || int64(len(data)) != before.Size {
		return r.wait(o, now, whyChanging)
	}
	if !known && heeded && o.written(0).serial != reported.serial {
		return r.wait(o, now, whyChanging) // the clock of the file system is too coarse to show it
	}
	at.Young = now.Sub(mtime) < clockGrain || now.Sub(time.Unix(0, at.Ctime)) < clockGrain
	if at.Young && !r.waitedTooLong(o.key, mtime, now) {
		// The clock of the file system may not show a write during the read.
		if busy, known := disk.HasWriter(fd); known && busy {
			return r.wait(o, now, whyChanging)
		}
	}
	untrusted := o.link || !d.Trusts(st.Uid)
	if o.old != nil && o.old.IsOf(data, untrusted, d.Author(&st)) {
		o.new = o.old.Unchanged()
	} else {
		o.new = record.ParseAs(o.key, data, untrusted)
		o.new.File.SetFileUID(d.Author(&st))
		if o.new.File.Problem() != nil && isPublic(d, &st) {
			o.new.File.SetPublic(data)
		}
	}
	if quiet < o.new.Rest && !whole {
		return r.wait(o, now, fmt.Sprintf(whyRest, "the "+o.new.Rest.String()+" of its line promspool:settle"))
	}
	// A file that has just become bad or empty often has a writer between two steps, so
	// the last good content is served for a moment longer.
	if o.old != nil && o.old.Fault() == nil && o.old.Series() > 0 && (o.new.File.Fault() != nil || o.new.File.Series() == 0) {
		if quiet < r.opts.Hold {
			r.markBad(o.key, at, now)
			return r.wait(o, now, whyBroken)
		}
	}
	r.clearWait(o.key)
	file := o.new.File
	file.Found(at, mtime)
	o.changed = true
	if o.new.Parts != nil && r.clock != nil {
		if at, ok := r.opts.Lifetimes.ExpiresAt(file); ok && !at.After(r.clock.now()) {
			o.new = record.Withhold(file, o.new.Parts, at)
		}
	}
	return o
}

// isPublic reports whether every user may read a file in the directory.
func isPublic(d *disk.Dir, st *unix.Stat_t) bool {
	var dir unix.Stat_t
	return st.Mode&unix.S_IROTH != 0 && unix.Fstat(int(d.File.Fd()), &dir) == nil && dir.Mode&unix.S_IXOTH != 0
}

// readAll reads size bytes of a file. If the file has grown, its stamp differs.
func readAll(fd, size int) ([]byte, error) {
	b := make([]byte, size)
	for n := 0; n < size; {
		k, err := unix.Read(fd, b[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case k == 0:
			return b[:n], nil
		default:
			n += k
		}
	}
	return b, nil
}

// Reasons for the wait for a file. They appear in its error after a long wait.
const (
	whyRest     = "is written in place, and never rests for %s"
	whyOpen     = "a writer has it open, or keeps changing it"
	whyChanging = "changes whenever it is read"
	whyBroken   = "is written again and again, and broken in between"
	whyShared   = "gets another hard link again and again"
)

// oldGroup is the age from which a group's file is regarded as complete.
const oldGroup = time.Minute

// busyAfter is how long a file is waited for before it is named as busy.
const busyAfter = 5 * time.Second

// wait leaves the last good content in place. Once that has lasted for longer
// than a writer needs for a file it is said of the file, and after busyAfter why.
func (r *reader) wait(o readResult, now time.Time, why string) readResult {
	o.new, o.retry = nil, true
	since := r.waitsSince(o.key, now)
	waited := now.Sub(since)
	if o.old != nil && o.old.IsBusy() {
		return o // as it was named first, so that it is not published at each look
	}
	good := o.old != nil && o.old.Fault() == nil
	switch {
	case waited >= busyAfter:
		err := &exposition.SyntaxError{File: o.key, Reason: exposition.Busy, Msg: why + "; write to a temporary file and rename it"}
		if !good {
			o.new = record.Bad(o.key, err)
			o.new.File.Found(o.stamp, time.Time{})
			break
		}
		o.new = o.old.Held(since, err)
	case good && o.old.HeldSince().IsZero() && waited >= r.opts.Hold:
		o.new = o.old.Held(since, nil)
	}
	o.changed = o.new != nil
	return o
}

// written is the last report about writers of a file, see [Source.UseReports]. The
// zero value means that there is none.
type written struct {
	serial                  uint64
	closed, renamed, opened bool
}

// A caller that has opened the file passes the serial of the report that it had before.
func (o *readResult) written(mine uint64) (w written) {
	if o.src == nil {
		return w
	}
	if ask := o.src.reports.Load(); ask != nil {
		w.serial, w.closed, w.renamed, w.opened = (*ask)(o.base, mine)
	}
	return w
}

// isAnother reports whether a file seems to have replaced another one by a rename: it
// has another inode, which was changed after the last write. After a start this is
// unknown.
func (o *readResult) isAnother(at record.Stamp) bool {
	return o.old != nil && o.old.Stamp().Ino != 0 && !o.link && o.old.Stamp().Ino != at.Ino && at.Ctime > at.Mtime
}

// Some programs never close their file. After writerTimeout it counts as complete once
// it has been unchanged for writerRest.
//
// If the kernel does not report writers, a file must be unchanged for unknownRest: few
// writers pause for longer within one file. A reported change without a close means
// an open file, unless the file became smaller and no open was reported: then the
// change was by truncate(2).
const (
	unknownRest   = 200 * time.Millisecond
	writerTimeout = 30 * time.Second
	writerRest    = 5 * time.Second
	slowestRest   = 1<<63 - 1 // longer than all of them
)

// renamedIn reports whether a file seems to have been renamed to its place when it was
// complete: its inode was changed after the last write. If the clock is too coarse to
// show this, a new inode at each look suffices after a while. Otherwise a file that is
// replaced very often would never be read.
func (r *reader) renamedIn(o readResult, at record.Stamp, now time.Time) bool {
	if at.Ctime > at.Mtime {
		return true
	}
	return o.old != nil && o.old.Stamp().Ino != at.Ino && now.Sub(r.waitsSince(o.key, now)) > r.opts.Hold
}

func (r *reader) waitedTooLong(name string, mtime, now time.Time) bool {
	return now.Sub(r.waitsSince(name, now)) > writerTimeout && now.Sub(mtime) > writerRest
}

// wait is the state of a file that cannot be read yet.
type wait struct {
	since time.Time
	bad   record.Stamp // of half-written or broken content; zero if none was found
}

// waitsSince returns the start of the wait for the file.
func (r *reader) waitsSince(name string, now time.Time) time.Time {
	r.waitMu.Lock()
	defer r.waitMu.Unlock()
	return r.waitFor(name, now).since
}

func (r *reader) waitFor(name string, now time.Time) *wait {
	w := r.waiting[name]
	if w == nil {
		w = &wait{since: now}
		r.waiting[name] = w
	}
	return w
}

// markBad records that the file with this stamp is half-written or broken.
func (r *reader) markBad(name string, at record.Stamp, now time.Time) {
	r.waitMu.Lock()
	defer r.waitMu.Unlock()
	r.waitFor(name, now).bad = record.WithoutYoung(at)
}

// isBad reports whether the file with this stamp was found to be half-written or
// broken, so that a push may replace it.
func (r *reader) isBad(name string, at record.Stamp) bool {
	r.waitMu.Lock()
	defer r.waitMu.Unlock()
	w := r.waiting[name]
	return w != nil && w.bad == record.WithoutYoung(at)
}

// clearWait ends the wait for a file.
func (r *reader) clearWait(name string) {
	r.waitMu.Lock()
	defer r.waitMu.Unlock()
	if len(r.waiting) > 0 {
		delete(r.waiting, name)
	}
}

// forget ends the wait for the files with these names.
func (r *reader) forget(is func(name string) bool) {
	r.waitMu.Lock()
	defer r.waitMu.Unlock()
	for name := range r.waiting {
		if is(name) {
			delete(r.waiting, name)
		}
	}
}
