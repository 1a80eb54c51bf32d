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

// clockGrain is a generous bound for the step of a file system's clock.
const clockGrain = 20 * time.Millisecond

func stampOf(st *unix.Stat_t) record.Stamp {
	m, c := disk.StatTimes(st)
	return record.Stamp{Dev: uint64(st.Dev), Ino: uint64(st.Ino), Size: st.Size, Mtime: m, Ctime: c}
}

// statIn returns the stamp of a name in a directory, following a symbolic link, and
// what the name itself is.
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
	clock *steadyClock // nil if no lifetime ends

	waitMu  sync.Mutex       // guards waiting
	waiting map[string]*wait // files that cannot be read yet, and since when
}

// readResult is what came of looking at one name.
type readResult struct {
	src     *Source // nil if it is not of a Store that is kept up to date
	base    string  // the name in the directory
	key     string  // the name in the view
	old     *record.File
	new     *record.Content // nil if there is no such file
	changed bool
	retry   bool // ask again soon: what is there now is not to be served, or not yet
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

// bad makes the outcome for a file that cannot be used.
func (o readResult) bad(at record.Stamp, mtime time.Time, err *exposition.SyntaxError) readResult {
	o.new = record.Bad(o.key, err)
	o.stamp = at
	o.new.File.Found(at, mtime)
	o.changed = true
	return o
}

// read loads a file: one open that cannot block, one look at what was opened,
// and the content only if nobody is writing it.
func (r *reader) read(d *disk.Dir, o readResult, at record.Stamp, link *unix.Stat_t) readResult {
	mtime := time.Unix(0, at.Mtime)
	reported := o.written(0) // before the open: the report is about what is opened, or the content is newer
	fd, st, err := d.OpenRegular(o.base, link)
	switch {
	case err == nil:
		defer unix.Close(fd) //nolint:errcheck // only read
		if reported.serial != 0 && !reported.opened {
			defer o.written(reported.serial) // the open was ours
		}
	case errors.Is(err, disk.ErrRetry), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		o.retry = true // replaced just now, or a shortage that passes
		return o
	case errors.Is(err, disk.ErrNotRegular), errors.Is(err, disk.ErrLinkNowhere):
		return o.bad(at, time.Time{}, &exposition.SyntaxError{Reason: exposition.NotRegular, Msg: err.Error()})
	case errors.Is(err, disk.ErrForeignLink):
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
		// Whoever publishes a file by a link has two names for it for a moment.
		if now.Sub(time.Unix(0, at.Ctime)) < r.opts.Hold {
			return r.wait(o, now, whyShared)
		}
		return o.bad(at, mtime, &exposition.SyntaxError{Reason: exposition.Unreadable, Msg: disk.ErrSecret.Error()})
	}
	heeded := !o.link && st.Nlink <= 1
	if !heeded {
		reported = written{} // it may be written to by a name that nothing is reported of
	}
	quiet := now.Sub(mtime)
	if quiet < 0 {
		quiet = slowestRest // its time is to come, and tells nothing
	}
	whole := reported.renamed || reported.serial == 0 && o.isAnother(at)
	if quiet < r.opts.Settle && !whole {
		return r.wait(o, now, fmt.Sprintf(whyRest, "--spool.settle="+r.opts.Settle.String()))
	}
	busy, known := false, true
	// What a push wrote came whole, by a rename. Whoever else has written there has
	// long been done: a start need not ask about each of ten thousand files.
	if quiet < oldGroup || o.link || !strings.HasPrefix(o.base, "job=") || !d.IsOwn(&st) {
		busy, known = disk.HasWriter(fd)
	}
	switch {
	case known:
	case reported.serial != 0 && !reported.closed:
		truncated := !reported.opened && o.old != nil && at.Size < o.old.Stamp().Size
		busy = !truncated || quiet < unknownRest
	case reported.serial != 0 && reported.opened && quiet < unknownRest:
		busy = !reported.renamed // perhaps by a writer, who may have written a part
	case reported.serial != 0:
	case quiet < unknownRest:
		busy = !r.renamedIn(o, at, now) // or so we assume
	}
	if busy && !r.waitedTooLong(o.key, mtime, now) {
		// Another process of ours has its file open for a moment after the rename.
		if now.Sub(r.waitsSince(o.key, now)) >= r.opts.Hold {
			r.markBad(o.key, at, now)
		}
		return r.wait(o, now, whyOpen)
	}
	data, err := readAll(fd, int(st.Size))
	if err != nil {
		return o.bad(at, mtime, &exposition.SyntaxError{Reason: exposition.Unreadable, Msg: "cannot be read: " + disk.PlainError(err)})
	}
	// Whoever opened it meanwhile may have changed what was read.
	if err := unix.Fstat(fd, &st); err != nil || stampOf(&st) != record.WithoutLink(before) || int64(len(data)) != before.Size {
		return r.wait(o, now, whyChanging)
	}
	if !known && heeded && o.written(0).serial != reported.serial { // opened it has been by now, here
		return r.wait(o, now, whyChanging) // its clock is too coarse to tell
	}
	at.Young = now.Sub(mtime) < clockGrain || now.Sub(time.Unix(0, at.Ctime)) < clockGrain
	if at.Young && !r.waitedTooLong(o.key, mtime, now) {
		// Its clock need not tell what was written while we read.
		if busy, known := disk.HasWriter(fd); known && busy {
			return r.wait(o, now, whyChanging)
		}
	}
	foreign := o.link || !d.Trusts(st.Uid)
	if o.old != nil && o.old.IsOf(data, foreign, d.Author(&st)) {
		o.new = o.old.Again()
	} else {
		o.new = record.ParseAs(o.key, data, foreign)
		o.new.File.SetFileUID(d.Author(&st))
		if o.new.File.Problem() != nil && isPublic(d, &st) {
			o.new.File.SetPublic(data)
		}
	}
	if quiet < o.new.Rest && !whole {
		return r.wait(o, now, fmt.Sprintf(whyRest, "the "+o.new.Rest.String()+" of its line promspool:settle"))
	}
	// What was good and has turned bad or empty just now is often a writer
	// between two steps: the last good content stands for a moment longer.
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

// readAll reads a file of that size. What comes after it is not looked at: if the
// file has grown its stamp tells.
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

// Why a file is waited for. They are said of it once that has lasted for long.
const (
	whyRest     = "is written in place, and never rests for %s"
	whyOpen     = "a writer has it open, or keeps changing it"
	whyChanging = "changes whenever it is read"
	whyBroken   = "is written again and again, and broken in between"
	whyShared   = "gets another hard link again and again"
)

// oldGroup is the age from which a group's file of ours is taken for whole.
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

// written is what was reported of the writers of a file, see [Source.UseReports].
// The zero value says that nothing was.
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

// isAnother reports whether a file has the looks of one that has taken the place
// of the one before by a rename, where no report says so: it is another inode,
// changed after the last write to it. After a start that is not known.
func (o *readResult) isAnother(at record.Stamp) bool {
	return o.old != nil && o.old.Stamp().Ino != 0 && !o.link && o.old.Stamp().Ino != at.Ino && at.Ctime > at.Mtime
}

// Some programs keep their file open for ever. After a while what they wrote
// counts as complete once it has rested.
//
// Where the kernel does not say whether there is a writer, neither when asked nor
// by a report, a file has to rest for a moment: few pause for longer within one
// file. A report that a file was changed without one that it was closed stands
// for an open file, unless it became smaller and no open was reported: that is
// truncate(2).
const (
	unknownRest   = 200 * time.Millisecond
	writerTimeout = 30 * time.Second
	writerRest    = 5 * time.Second
	slowestRest   = 1<<63 - 1 // longer than any rest
)

// renamedIn reports whether a file has the looks of one that was complete when it
// was put in its place: its inode was changed after the last write to it, as a
// rename does. Where the clock is too coarse for that, another inode each time we
// look will do after a while, or a file that is replaced very often would never
// be read.
func (r *reader) renamedIn(o readResult, at record.Stamp, now time.Time) bool {
	if at.Ctime > at.Mtime {
		return true
	}
	return o.old != nil && o.old.Stamp().Ino != at.Ino && now.Sub(r.waitsSince(o.key, now)) > r.opts.Hold
}

func (r *reader) waitedTooLong(name string, mtime, now time.Time) bool {
	return now.Sub(r.waitsSince(name, now)) > writerTimeout && now.Sub(mtime) > writerRest
}

// wait is what is known of a file that cannot be read yet.
type wait struct {
	since time.Time
	bad   record.Stamp // of what was found half-written or broken; zero if nothing was
}

// waitsSince returns since when the file is being waited for.
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

// markBad takes note that the file as it is with this stamp is half-written or
// broken.
func (r *reader) markBad(name string, at record.Stamp, now time.Time) {
	r.waitMu.Lock()
	defer r.waitMu.Unlock()
	r.waitFor(name, now).bad = record.WithoutYoung(at)
}

// isBad reports whether the file with this stamp was found so. Nothing is lost
// if a push replaces it.
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
