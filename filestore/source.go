package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// failed notes what came of reading the directory; nil if all is well.
func (src *Source) failed(err error) {
	if err == nil && src.failure.Load() == nil {
		return
	}
	s := src.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if !src.removed && src.setFailure(err) {
		s.view.Store(s.merge.View())
	}
}

// setFailure has the next view say why the directory cannot be read, and reports
// whether that is news. The lock of the Store is held.
func (src *Source) setFailure(err error) bool {
	var now *record.DirectoryError
	if err != nil {
		now = &record.DirectoryError{Directory: src.path, Reason: record.DirectoryFailed, Err: err, Text: disk.PlainError(err)}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			now.Reason = record.DirectoryMissing
		case errors.Is(err, unix.ENOTDIR):
			now.Reason = record.DirectoryIsNone
		case errors.Is(err, fs.ErrPermission):
			now.Reason = record.DirectoryUnreadable
		}
	}
	before := src.failure.Load()
	if before == nil && now == nil || before != nil && now != nil && before.Error() == now.Error() {
		return false
	}
	src.failure.Store(now)
	s := src.store
	var failures []*record.DirectoryError // views have the old one
	for _, x := range append([]*Source{s.spool}, s.sources...) {
		if f := x.failure.Load(); f != nil {
			failures = append(failures, f)
		}
	}
	s.merge.SetFailures(failures)
	return true
}

// UseReports has f asked about the writers of the directory's files, where the
// kernel does not answer by itself. It returns the number of the last report
// about the content of a file, 0 if nothing is known of it; whether a writer has
// closed the file and nothing was written to it after that; whether it came whole
// under its name by a rename; and whether it was opened after the close or rename,
// be it to read. A caller that has opened the file itself passes the number that it
// was given before, if opened was false then, else 0. Two calls with the same number
// mean that the content has not changed in between, unless a writer has just opened
// the file. It is called from many goroutines at once.
func (src *Source) UseReports(f func(name string, mine uint64) (serial uint64, closed, renamed, opened bool)) {
	src.reports.Store(&f)
}

// UseReports is that of the spool as a [Source].
func (s *Store) UseReports(f func(name string, mine uint64) (serial uint64, closed, renamed, opened bool)) {
	s.spool.UseReports(f)
}

// Follow is Reload for all symbolic links in the directory. What they lead to
// may change without a report.
func (src *Source) Follow() (again []string, err error) {
	names := src.links.list()
	if len(names) == 0 {
		return nil, nil
	}
	return src.Reload(names...)
}

// Follow is that of the spool as a [Source].
func (s *Store) Follow() (again []string, err error) { return s.spool.Follow() }

// linkSet holds the names of the symbolic links in a directory. It is safe for
// concurrent use.
type linkSet struct {
	some atomic.Bool // there may be one
	mu   sync.Mutex  // guards names
	name map[string]struct{}
}

// note notes whether a name is that of a link.
func (l *linkSet) note(name string, isLink bool) {
	if !isLink && !l.some.Load() {
		return // as in nearly every directory
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !isLink {
		delete(l.name, name)
		l.some.Store(len(l.name) > 0)
		return
	}
	if l.name == nil {
		l.name = make(map[string]struct{})
	}
	l.name[name] = struct{}{}
	l.some.Store(true)
}

// list returns the names in order.
func (l *linkSet) list() []string {
	if !l.some.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.name))
	for name := range l.name {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A Source is a directory whose files take part in the merge of a Store: the
// spool itself, or one that is only read. It is safe for concurrent use.
type Source struct {
	store  *Store
	path   string
	prefix string // of the names of its files in the view; empty for the spool
	dir    atomic.Pointer[disk.Dir]

	links   linkSet
	reports atomic.Pointer[func(name string, mine uint64) (serial uint64, closed, renamed, opened bool)]
	failure atomic.Pointer[record.DirectoryError] // changed under the lock of the Store
	removed bool                                  // guarded by the lock of the Store
}

// Path returns the path of the directory.
func (src *Source) Path() string { return src.path }

// key returns the name of a file in the view.
func (src *Source) key(base string) string { return src.prefix + base }

// Reload brings the view of the files with these names up to date with the
// directory and returns the names that it could not settle, because a writer is
// at work on them or has just left them broken: they have to be asked for again
// soon.
func (src *Source) Reload(names ...string) (again []string, err error) {
	d := src.dir.Load()
	if d == nil || d.Acquire() != nil {
		return src.reopen(d)
	}
	defer d.Release()
	if d.CheckPathLately() != nil {
		return src.reopen(d)
	}
	return src.load(d, names), nil
}

// Rescan is Reload for every name in the directory or in the view. Unchanged
// files cost a stat each. If the directory is gone its files leave the view.
func (src *Source) Rescan() (again []string, err error) {
	d := src.dir.Load()
	if d == nil || d.Acquire() != nil {
		return src.reopen(d)
	}
	defer d.Release()
	if d.CheckPath() != nil {
		return src.reopen(d)
	}
	names, err := src.list(d)
	src.failed(err)
	if err != nil {
		return nil, err
	}
	return src.load(d, src.withKnown(names)), nil
}

// list returns the names that are to be looked at, after sweeping.
func (src *Source) list(d *disk.Dir) ([]string, error) {
	s := src.store
	if src == s.spool && s.opts.Only != nil {
		return slices.Clone(s.opts.Only), nil
	}
	names, err := d.Names()
	if err != nil {
		return nil, disk.Wrap("listing the directory "+src.path, err)
	}
	if src == s.spool && !s.opts.NoSweep {
		d.Sweep(names)
		if f, err := d.OpenLock(); err == nil {
			_ = f.Close() // it is there before the disk is full, and before somebody else puts something in its place
		}
	}
	return names, nil
}

// inUse returns the directory, after following the path to another one if it
// leads there by now. Whoever called it calls done on it.
func (src *Source) inUse() (*disk.Dir, error) {
	for range 10 {
		d := src.dir.Load()
		if d != nil && d.Acquire() == nil {
			if d.CheckPath() == nil {
				return d, nil
			}
			d.Release()
		}
		if _, err := src.reopen(d); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the directory %s is replaced too often: %w", src.path, ErrBusy)
}

// acquire returns the directory for a change, which checks its path under the lock
// that all changes take.
func (src *Source) acquire() (*disk.Dir, error) {
	if d := src.dir.Load(); d != nil && d.Acquire() == nil {
		return d, nil
	}
	return src.inUse()
}

// withKnown adds the names that the view has.
func (src *Source) withKnown(names []string) []string {
	for f := range src.store.View().Files() {
		if base, ok := src.base(f); ok {
			names = append(names, base)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// base returns the name of a file in the directory, if it is of this source.
func (src *Source) base(f *record.File) (string, bool) {
	base, ok := strings.CutPrefix(f.Name(), src.prefix)
	return base, ok && !strings.ContainsRune(base, filepath.Separator)
}

// reopen follows the path to the directory that it leads to now, and loads it.
func (src *Source) reopen(old *disk.Dir) (again []string, err error) {
	d, err := src.openAnew(old)
	if d == nil {
		return nil, err
	}
	defer d.Release()
	old.Retire()
	if d.IsStill(old) {
		return nil, nil // only a flush has failed
	}
	names, err := src.list(d)
	src.failed(err)
	if err != nil {
		return nil, err
	}
	return src.load(d, src.withKnown(names)), nil
}

// openAnew opens the directory that the path leads to now, unless that was done
// since old: then it returns nil. The directory is in use.
func (src *Source) openAnew(old *disk.Dir) (*disk.Dir, error) {
	s := src.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if src.dir.Load() != old || src.removed {
		return nil, nil
	}
	d, err := disk.Open(src.path)
	if err != nil {
		isNews := src.setFailure(err)
		// Only if there is no directory there are no files: a shortage of
		// descriptors, say, takes nothing away. Nor is there one beside the spool that
		// may not be read, or what is served would depend on what could be read once.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || src != s.spool && errors.Is(err, fs.ErrPermission) {
			s.publish(src.removeAll())
		} else if isNews {
			s.view.Store(s.merge.View())
		}
		return nil, disk.Wrap("opening the directory "+src.path, err)
	}
	if src == s.spool {
		d.Keep()
	}
	d.Follow(old)
	src.dir.Store(d)
	return d, nil
}

// removeAll takes all files of the source out of the merge. The lock of the Store
// is held.
func (src *Source) removeAll() []merge.Update {
	var updates []merge.Update
	for f := range src.store.merge.All() {
		if _, ok := src.base(f); ok {
			updates = append(updates, merge.Update{Old: f, OldParts: src.store.View().Parts(f)})
		}
	}
	return updates
}

// load brings the names up to date: they are read without a lock and published
// together.
func (src *Source) load(d *disk.Dir, names []string) (again []string) {
	names = slices.DeleteFunc(names, func(n string) bool { return !grouping.IsSpoolFile(n) || strings.ContainsRune(n, os.PathSeparator) })
	s := src.store
	before := s.View()
	if before.IsEmpty() {
		return src.loadFirst(d, names, before)
	}
	return src.accept(d, names, src.lookAll(d, names))
}

// accept publishes what was found of the names, unless it has changed since.
func (src *Source) accept(d *disk.Dir, names []string, outcomes []readResult) (again []string) {
	s := src.store
	known := s.View().Contents()
	for i := range outcomes {
		if outcomes[i].changed {
			known.Read(outcomes[i].old)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if src.dir.Load() != d {
		return names
	}
	var updates []merge.Update
	for i := range outcomes {
		o := &outcomes[i]
		if o.retry {
			again = append(again, o.base)
		}
		if !o.changed {
			continue
		}
		// Unless somebody was faster: a push, or whoever writes the file. What was read
		// of a dropped file was whole, and one that is written all the time has changed
		// once more by now: then it is the newest that there is to serve.
		old := s.merge.File(o.key)
		at, _, err := statIn(d, o.base)
		gone := errors.Is(err, unix.ENOENT)
		if old != o.old || gone != (o.new == nil) {
			again = append(again, o.base)
			continue
		}
		if !gone && err == nil && o.new.File.HeldSince().IsZero() && record.WithoutYoung(at) != record.WithoutYoung(o.stamp) {
			again = append(again, o.base)
			if f := o.new.File; !f.Group().IsZero() || f.Fault() != nil && !f.IsBusy() {
				continue
			}
		}
		u := merge.Update{Old: old, New: o.new}
		if old != nil {
			u.OldParts = known.Of(old, s.View())
		}
		if u.New != nil && u.New.Parts == nil && len(u.New.File.Descs()) > 0 {
			u.New.Parts = slices.Clone(u.OldParts) // the same content under a new stamp
		}
		updates = append(updates, u)
	}
	if len(updates) > 0 {
		s.publish(updates)
	}
	slices.Sort(again)
	return slices.Compact(again)
}

// loadChunk is how many files are in memory at a time while a store is filled.
// Tests have smaller ones.
var loadChunk = 512

// loadFirst is load for a store without files. The files are merged some hundred at
// a time while the next ones are read: the names are in order, so each lot goes to
// the end of every family and little is built twice. All at once would take several
// times the memory of what stays.
//
// That goes into a merge of its own, without a lock, so that pushes and other sources
// do not wait for it. It takes the place of the empty one if nothing was published
// since the view before. Otherwise its files are added to what is there.
func (src *Source) loadFirst(d *disk.Dir, names []string, before *merge.View) (again []string) {
	s := src.store
	lots := make(chan []readResult, 1)
	over := make(chan struct{})
	defer close(over)
	go func() {
		defer close(lots)
		for lot := range slices.Chunk(names, loadChunk) {
			select {
			case lots <- src.lookAll(d, lot):
			case <-over:
				return
			}
		}
	}()
	s.mu.Lock()
	m := s.merge.NewSuccessor(s.opts.Own)
	s.mu.Unlock()
	g := m.NewChange()
	for lot := range lots {
		updates := make([]merge.Update, 0, len(lot))
		for i := range lot {
			o := &lot[i]
			if o.retry {
				again = append(again, o.base)
			}
			if o.new != nil {
				updates = append(updates, merge.Update{New: o.new})
			}
		}
		g.Take(updates)
	}
	g.Finish()
	v := m.View()
	if src.begin(d, before, m, v) {
		return again
	}
	var found []readResult
	for f := range v.Files() {
		if base, ok := src.base(f); ok {
			found = append(found, readResult{base: base, key: f.Name(), new: &record.Content{File: f, Parts: slices.Clone(v.Parts(f))}, changed: true, stamp: f.Stamp()})
		}
	}
	again = append(again, src.accept(d, names, found)...)
	slices.Sort(again)
	return slices.Compact(again)
}

// begin makes a merge the one of the Store if nothing was published since the view
// before, and reports whether it did.
func (src *Source) begin(d *disk.Dir, before *merge.View, m *merge.Merger, v *merge.View) bool {
	s := src.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.View() != before || src.dir.Load() != d {
		return false
	}
	m.Succeed(s.merge, v)
	s.merge = m
	for f := range m.All() {
		s.due.note(&merge.Update{New: &record.Content{File: f}}, &s.opts.Lifetimes)
	}
	s.view.Store(v)
	return true
}

// lookAll looks at many names at once.
func (src *Source) lookAll(d *disk.Dir, names []string) []readResult {
	v := src.store.View()
	outcomes := make([]readResult, len(names))
	look := func(i int) {
		key := src.key(names[i])
		outcomes[i] = src.store.reader.look(d, readResult{src: src, base: names[i], key: key, old: v.File(key)})
		src.links.note(names[i], outcomes[i].link)
	}
	if len(names) < 64 {
		for i := range names {
			look(i)
		}
		return outcomes
	}
	var next atomic.Int64
	var group errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(names); i = int(next.Add(1)) - 1 {
				look(i)
			}
			return nil
		})
	}
	_ = group.Wait() // the workers have no errors
	return outcomes
}
