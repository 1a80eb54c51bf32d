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

// failed records the result of reading the directory; nil for success.
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

// setFailure sets the directory error of the next view, and reports whether it has
// changed. The caller holds Store.mu.
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

// UseReports sets the function that returns the kernel's last report about the content of
// a file. It is called from many goroutines at once. Its results are:
//
//   - the serial number of the report, 0 if there is none
//   - whether a writer has closed the file, without a write after that
//   - whether the file got its name by a rename, and is complete
//   - whether the file was opened after the close or rename, also to read
//
// A caller that has opened the file itself passes the number of its last call, if opened
// was false then, else 0. Two calls with the same number mean that the content has not
// changed in between, unless a writer has just opened the file.
func (src *Source) UseReports(f func(name string, mine uint64) (serial uint64, closed, renamed, opened bool)) {
	src.reports.Store(&f)
}

// UseReports calls [Source.UseReports] for the spool.
func (s *Store) UseReports(f func(name string, mine uint64) (serial uint64, closed, renamed, opened bool)) {
	s.spool.UseReports(f)
}

// Follow is Reload for all symbolic links in the directory, whose targets may change
// without an event.
func (src *Source) Follow() (again []string, err error) {
	names := src.links.list()
	if len(names) == 0 {
		return nil, nil
	}
	return src.Reload(names...)
}

// Follow calls [Source.Follow] for the spool.
func (s *Store) Follow() (again []string, err error) { return s.spool.Follow() }

// linkSet holds the names of the symbolic links in a directory. It is safe for
// concurrent use.
type linkSet struct {
	some atomic.Bool // there may be one
	mu   sync.Mutex  // guards names
	name map[string]struct{}
}

// note records whether a name is a link.
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

// A Source is a directory whose files a Store merges: the spool, or another one that is
// only read. It is safe for concurrent use.
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

// Reload reads the files with these names and publishes them. It returns the names to
// retry soon, because the file is being written or has just become corrupt.
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

// Rescan is Reload for every name in the directory or in the view. An unchanged file
// costs a stat. If the directory does not exist, the view has no files of it.
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

// list returns the names of the spool files in the directory, after a sweep.
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
			_ = f.Close() // created now, because the disk may be full later
		}
	}
	return names, nil
}

// inUse acquires the directory at the path, which may be another one than before. The
// caller must release it.
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

// acquire acquires the directory for a change. The change checks the path under the
// lock of all changes.
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

// reopen opens the path again and loads the directory.
func (src *Source) reopen(old *disk.Dir) (again []string, err error) {
	d, err := src.openAnew(old)
	if d == nil {
		return nil, err
	}
	defer d.Release()
	old.Retire()
	if d.IsStill(old) {
		return nil, nil // only a sync has failed
	}
	names, err := src.list(d)
	src.failed(err)
	if err != nil {
		return nil, err
	}
	return src.load(d, src.withKnown(names)), nil
}

// openAnew opens and acquires the directory at the path. It returns nil if that was
// done since old.
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
		// Files are dropped only if the directory does not exist, and not after
		// errors such as EMFILE. An unreadable source that is not the spool has no
		// files either, so the view does not depend on earlier permissions.
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

// removeAll returns the updates that remove all files of the source from the merge.
// The caller holds Store.mu.
func (src *Source) removeAll() []merge.Update {
	var updates []merge.Update
	for f := range src.store.merge.All() {
		if _, ok := src.base(f); ok {
			updates = append(updates, merge.Update{Old: f, OldParts: src.store.View().Parts(f)})
		}
	}
	return updates
}

// load reads the files with the names without a lock and publishes them together.
func (src *Source) load(d *disk.Dir, names []string) (again []string) {
	names = slices.DeleteFunc(names, func(n string) bool { return !grouping.IsSpoolFile(n) || strings.ContainsRune(n, os.PathSeparator) })
	s := src.store
	before := s.View()
	if before.IsEmpty() {
		return src.loadFirst(d, names, before)
	}
	return src.accept(d, names, src.lookAll(d, names))
}

// accept publishes the results of reading files, except those that have changed since.
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
		// Skip a file that a push or another writer has changed since. The content of
		// a dropped file is complete and served, because a file that is written
		// continuously has always changed.
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

// loadChunk is how many files are in memory at a time during the first load. Tests use
// a smaller number.
var loadChunk = 512

// loadFirst is load for a store without files. It merges some hundred files at a time
// while it reads the next ones, in the order of names, so each batch is appended to
// the families. All at once would temporarily take several times the memory.
//
// It uses a separate merge without a lock, so pushes and other sources do not wait. That
// merge replaces the empty one if nothing was published since the view before.
// Otherwise its files are added to the current merge.
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

// begin replaces the merge of the Store if nothing was published since the view
// before. It reports whether it did.
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

// lookAll reads many files in parallel.
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
