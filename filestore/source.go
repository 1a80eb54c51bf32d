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
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A Source is a directory whose files take part in the merge of a Store: the
// spool itself, or one that is only read. It is safe for concurrent use.
type Source struct {
	store  *Store
	path   string
	prefix string // of the names of its files in the view; empty for the spool
	dir    atomic.Pointer[directory]

	links   linkSet
	reports atomic.Pointer[func(name string) (serial uint64, closed, renamed, opened bool)]
	failure atomic.Pointer[DirectoryError] // changed under the lock of the Store
	removed bool                           // guarded by the lock of the Store
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
	if d == nil || d.use() != nil {
		return src.reopen(d)
	}
	defer d.done()
	if d.current() != nil {
		return src.reopen(d)
	}
	return src.load(d, names), nil
}

// Rescan is Reload for every name in the directory or in the view. Unchanged
// files cost a stat each. If the directory is gone its files leave the view.
func (src *Source) Rescan() (again []string, err error) {
	d := src.dir.Load()
	if d == nil || d.use() != nil {
		return src.reopen(d)
	}
	defer d.done()
	if d.current() != nil {
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
func (src *Source) list(d *directory) ([]string, error) {
	s := src.store
	if src == s.spool && s.opts.Only != nil {
		return slices.Clone(s.opts.Only), nil
	}
	names, err := d.names()
	if err != nil {
		return nil, doing("listing the directory "+src.path, err)
	}
	if src == s.spool && !s.opts.NoSweep {
		d.sweep(names)
		if f, err := d.openSpoolLock(); err == nil {
			_ = f.Close() // it is there before the disk is full, and before somebody else puts something in its place
		}
	}
	return names, nil
}

// inUse returns the directory, after following the path to another one if it
// leads there by now. Whoever called it calls done on it.
func (src *Source) inUse() (*directory, error) {
	for range 10 {
		d := src.dir.Load()
		if d != nil && d.use() == nil {
			return d, nil
		}
		if _, err := src.reopen(d); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the directory %s is replaced too often: %w", src.path, ErrBusy)
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
func (src *Source) base(f *File) (string, bool) {
	base, ok := strings.CutPrefix(f.Name(), src.prefix)
	return base, ok && !strings.ContainsRune(base, filepath.Separator)
}

// reopen follows the path to the directory that it leads to now, and loads it.
func (src *Source) reopen(old *directory) (again []string, err error) {
	d, err := src.openAnew(old)
	if d == nil {
		return nil, err
	}
	defer d.done()
	if old != nil && old.pinned {
		old.done() // for good, once nobody works in it
	}
	if old != nil && !d.pinned && old.id == d.id {
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
func (src *Source) openAnew(old *directory) (*directory, error) {
	s := src.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if src.dir.Load() != old || src.removed {
		return nil, nil
	}
	d, err := openDirectory(src.path)
	if err != nil {
		isNews := src.setFailure(err)
		// Only if there is no directory there are no files: a shortage of
		// descriptors, say, takes nothing away. Nor is there one beside the spool that
		// may not be read, or what is served would depend on what could be read once.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || src != s.spool && errors.Is(err, fs.ErrPermission) {
			s.publish(src.allGone())
		} else if isNews {
			s.view.Store(s.merge.view())
		}
		return nil, doing("opening the directory "+src.path, err)
	}
	d.doubt = old != nil && (old.doubt || old.failed.Load()) && old.id == d.id
	src.dir.Store(d)
	return d, nil
}

// allGone takes all files of the source out of the merge. The lock of the Store
// is held.
func (src *Source) allGone() []update {
	var updates []update
	for f := range src.store.merge.all() {
		if _, ok := src.base(f); ok {
			updates = append(updates, update{old: f, oldParts: src.store.View().parts(f)})
		}
	}
	return updates
}

// load brings the names up to date: they are read without a lock and published
// together.
func (src *Source) load(d *directory, names []string) (again []string) {
	names = slices.DeleteFunc(names, func(n string) bool { return !IsSpoolFile(n) || strings.ContainsRune(n, os.PathSeparator) })
	s := src.store
	before := s.View()
	if before.isEmpty() {
		return src.loadFirst(d, names, before)
	}
	return src.accept(d, names, src.lookAll(d, names))
}

// accept publishes what was found of the names, unless it has changed since.
func (src *Source) accept(d *directory, names []string, outcomes []outcome) (again []string) {
	s := src.store
	known := s.View().contents()
	for i := range outcomes {
		if outcomes[i].changed {
			known.read(outcomes[i].old)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if src.dir.Load() != d {
		return names
	}
	var updates []update
	for i := range outcomes {
		o := &outcomes[i]
		if o.again {
			again = append(again, o.base)
		}
		if !o.changed {
			continue
		}
		// Unless somebody was faster: a push, or whoever writes the file. What was read
		// of a dropped file was whole, and one that is written all the time has changed
		// once more by now: then it is the newest that there is to serve.
		old := s.merge.file(o.key)
		at, _, err := statIn(d, o.base)
		gone := errors.Is(err, unix.ENOENT)
		if old != o.old || gone != (o.new == nil) {
			again = append(again, o.base)
			continue
		}
		if !gone && err == nil && o.new.file.heldFrom.IsZero() && withoutYoung(at) != withoutYoung(o.stamp) {
			again = append(again, o.base)
			if f := o.new.file; !f.group.IsZero() || f.err != nil && !f.isBusy() {
				continue
			}
		}
		u := update{old: old, new: o.new}
		if old != nil {
			u.oldParts = known.of(old, s.View())
		}
		if u.new != nil && u.new.parts == nil && len(u.new.file.parts) > 0 {
			u.new.parts = slices.Clone(u.oldParts) // the same content under a new stamp
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
func (src *Source) loadFirst(d *directory, names []string, before *View) (again []string) {
	s := src.store
	lots := make(chan []outcome, 1)
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
	m := s.merge.newSuccessor(s.opts.Own)
	s.mu.Unlock()
	g := m.newChange()
	for lot := range lots {
		updates := make([]update, 0, len(lot))
		for i := range lot {
			o := &lot[i]
			if o.again {
				again = append(again, o.base)
			}
			if o.new != nil {
				updates = append(updates, update{new: o.new})
			}
		}
		g.take(updates)
	}
	g.finish()
	v := m.view()
	if src.begin(d, before, m, v) {
		return again
	}
	var found []outcome
	for f := range v.Files() {
		if base, ok := src.base(f); ok {
			found = append(found, outcome{base: base, key: f.Name(), new: &content{file: f, parts: slices.Clone(v.parts(f))}, changed: true, stamp: f.stamp})
		}
	}
	again = append(again, src.accept(d, names, found)...)
	slices.Sort(again)
	return slices.Compact(again)
}

// begin makes a merge the one of the Store if nothing was published since the view
// before, and reports whether it did.
func (src *Source) begin(d *directory, before *View, m *merger, v *View) bool {
	s := src.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.View() != before || src.dir.Load() != d {
		return false
	}
	m.succeed(s.merge, v)
	s.merge = m
	for f := range m.all() {
		s.due.note(&update{new: &content{file: f}}, &s.opts.Lifetimes)
	}
	s.view.Store(v)
	return true
}

// lookAll looks at many names at once.
func (src *Source) lookAll(d *directory, names []string) []outcome {
	v := src.store.View()
	outcomes := make([]outcome, len(names))
	look := func(i int) {
		key := src.key(names[i])
		outcomes[i] = src.store.reader.look(d, outcome{src: src, base: names[i], key: key, old: v.File(key)})
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
