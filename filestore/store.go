package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Options of a Store. The zero value of a field means its default.
type Options struct {
	// Own describes the metric families that the program serves itself, by
	// name. Files cannot displace them.
	Own map[string]Own
	// EmptyInstance spells out instance="" in pushed samples without an
	// instance, as Pushgateway does.
	EmptyInstance bool
	// Unchecked accepts pushes that contradict other files; what is later in
	// the order of the merge is then left out of it.
	Unchecked bool
	// MaxFileBytes is the size up to which files are read; default 16 MiB.
	MaxFileBytes int64
	// MaxGroups bounds the number of pushed groups; zero means no limit.
	MaxGroups int
	// Settle is how long a dropped file has to rest before a change of it is
	// read; zero means not at all.
	Settle time.Duration
	// Hold is how long the last good content of a file stands after the file
	// turned bad or empty; default 1 s.
	Hold time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// A Store is a directory and the current View of it. It is safe for concurrent
// use, also by several processes on one directory.
type Store struct {
	path string
	opts Options

	groups keyedMutex // held by the writer of a group from its reading to its rename

	mu    sync.Mutex // guards merge and the moment of a commit; never held while anything is flushed or read
	merge *merger

	dir  atomic.Pointer[directory]
	view atomic.Pointer[View]

	waitMu  sync.Mutex
	waiting map[string]time.Time // files that cannot be read yet, and since when

	probeMu   sync.Mutex
	probedAt  time.Time
	probeErr  error
	settling  sync.Mutex // one SettleHelp at a time
	observers Observers
}

// Observers are told how long the steps of a commit took, in seconds. They are
// called from many goroutines; nil ones are skipped.
type Observers struct {
	Flush  func(seconds float64) // one flush of a file
	Commit func(seconds float64) // a whole commit, from the temporary file to the flushed directory
}

// Observe sets the observers. It must be called before the first commit.
func (s *Store) Observe(o Observers) { s.observers = o }

// Open reads the whole directory; a returned Store is ready. It removes what
// killed processes left of their commits. opts may be nil.
func Open(dir string, opts *Options) (*Store, error) {
	s := &Store{path: dir, waiting: make(map[string]time.Time)}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.MaxFileBytes == 0 {
		s.opts.MaxFileBytes = 16 << 20
	}
	if s.opts.Hold == 0 {
		s.opts.Hold = time.Second
	}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, doing("opening the spool "+dir, err)
	}
	s.dir.Store(d)
	s.merge = newMerger(s.opts.Own)
	s.view.Store(s.merge.view())
	names, err := d.names()
	if err != nil {
		_ = d.close()
		return nil, doing("listing the spool "+dir, err)
	}
	d.sweep(names)
	s.load(d, names)
	return s, nil
}

// Close gives back what the Store holds of the operating system. Views stay
// valid.
func (s *Store) Close() error { return s.dir.Load().close() }

// Path returns the path that the Store was opened with.
func (s *Store) Path() string { return s.path }

// View returns the current view. It never blocks.
func (s *Store) View() *View { return s.view.Load() }

// Health reports whether the directory can be read and written, by writing. It
// asks the disk at most once a second.
func (s *Store) Health() error {
	s.probeMu.Lock()
	defer s.probeMu.Unlock()
	if now := time.Now(); s.probedAt.IsZero() || now.Sub(s.probedAt) >= time.Second {
		s.probedAt = now
		err := s.dir.Load().probe()
		if errors.Is(err, errReplaced) { // a new one at the same path is as good
			err = nil
		}
		s.probeErr = doing("writing to the spool "+s.path, err)
	}
	return s.probeErr
}

// Replace makes the families the whole content of the group, as PUT does. If
// they do not fit, the group stays as it was, but for the time of its last
// failure, and the error is a *Conflict or a *SyntaxError.
func (s *Store) Replace(g Group, f *Families, strip ...string) error {
	return s.push(g, f, false, strip)
}

// Update replaces the families of the names that are in f and keeps the
// group's others, as POST does. Errors are those of Replace.
func (s *Store) Update(g Group, f *Families, strip ...string) error {
	return s.push(g, f, true, strip)
}

// Fail notes that a push to the group was refused before it came here. The
// group is created if it is missing.
func (s *Store) Fail(g Group) error {
	defer s.groups.lock(g.FileName())()
	return s.stampFailure(g)
}

func (s *Store) push(g Group, f *Families, keep bool, strip []string) error {
	start := time.Now()
	unlock := s.groups.lock(g.FileName())
	defer func() {
		if unlock != nil {
			unlock()
		}
	}()
	now := s.opts.Now()
	fresh, series, err := s.canonical(g, f, strip)
	if err == nil {
		err = s.commit(g, true, func(old *File, oldParts []part) (*content, error) {
			failed := 0.0
			parts, n := fresh, series
			if old != nil {
				failed = old.failure
				if keep {
					parts, n = mergeParts(fresh, oldParts, f, series)
					if x := collision(parts, g.FileName()); x != nil {
						return nil, x
					}
				}
			}
			return s.groupContent(g, old, parts, n, seconds(now), failed), nil
		})
	}
	var clash *Conflict
	var bad *SyntaxError
	if errors.As(err, &clash) || errors.As(err, &bad) {
		return errors.Join(err, s.stampFailure(g))
	}
	if err != nil {
		return doing("storing group "+g.String(), err)
	}
	unlock()
	unlock = nil
	if err := s.flush(); err != nil {
		return doing("storing group "+g.String(), err)
	}
	if s.observers.Commit != nil {
		s.observers.Commit(time.Since(start).Seconds())
	}
	return nil
}

// flush waits until what was renamed so far is durable.
func (s *Store) flush() error {
	start := time.Now()
	if err := s.dir.Load().flush(); err != nil {
		return fmt.Errorf("flushing the directory: %w; %w", err, ErrInDoubt)
	}
	if s.observers.Flush != nil {
		s.observers.Flush(time.Since(start).Seconds())
	}
	return nil
}

// canonical makes the parts of a push, with the labels of the group.
func (s *Store) canonical(g Group, f *Families, strip []string) ([]part, int, error) {
	for _, name := range [...]string{pushTime, failureTime} {
		delete(f.byName, name) // ours, whatever was pushed
	}
	f.list = slices.DeleteFunc(f.list, func(f *rawFamily) bool { return f.name == pushTime || f.name == failureTime })
	over := g.Labels()
	slices.SortFunc(over, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range f.list {
		if f.typ == Unstated {
			f.typ = Untyped // a group's file states what it has
		}
	}
	parts, series, _, err := canonical(f, labelling{over, strip, s.opts.EmptyInstance}, false)
	return parts, series, err
}

// mergeParts adds to the parts of a POST those that the group keeps.
func mergeParts(fresh, old []part, f *Families, series int) ([]part, int) {
	parts := slices.Clone(fresh)
	for _, p := range old {
		name := p.desc.Value().name
		if _, replaced := f.byName[name]; replaced || name == pushTime || name == failureTime {
			continue
		}
		p.kept = true
		parts = append(parts, p)
		series += strings.Count(p.text, "\n")
	}
	return parts, series
}

// collision returns which family of a group looks like a part of a histogram
// or summary in the same group.
func collision(parts []part, file string) *Conflict {
	types := make(map[string]Type, len(parts))
	for i := range parts {
		d := parts[i].desc.Value()
		types[d.name] = d.typ
	}
	for name, t := range types {
		for _, suffix := range compositeSuffixes {
			if _, ok := types[name+suffix]; ok && t.reserves(suffix) {
				return &Conflict{Family: name + suffix, File: file, Kept: file, Reason: Duplicate}
			}
		}
	}
	return nil
}

// groupContent completes the parts of a group with its two times and with the
// HELP texts of the spool.
func (s *Store) groupContent(g Group, old *File, parts []part, series int, pushed, failed float64) *content {
	over := g.Labels()
	slices.SortFunc(over, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	times := Families{list: []*rawFamily{
		{name: failureTime, help: failureTimeHelp, typ: Gauge, samples: []sample{{name: failureTime, value: failed}}},
		{name: pushTime, help: pushTimeHelp, typ: Gauge, samples: []sample{{name: pushTime, value: pushed}}},
	}}
	own, n, _, err := canonical(&times, labelling{over: over, emptyInstance: s.opts.EmptyInstance}, false)
	if err != nil {
		panic("filestore: push times that are not canonical: " + err.Error())
	}
	parts = append(slices.Clip(parts), own...)
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.desc.Value().name, b.desc.Value().name) })
	wants := s.agreeOnHelp(parts, old, pushed)
	c := newContent(&ident{pushedKind, g.FileName()}, parts, series+n)
	c.file.group, c.file.wants = g, wants
	return c
}

// stampFailure sets the failure time of a group whose lock is held.
func (s *Store) stampFailure(g Group) error {
	now := s.opts.Now()
	err := s.commit(g, false, func(old *File, oldParts []part) (*content, error) {
		var parts []part
		n, pushed := 0, 0.0
		if old != nil {
			pushed = old.push
			for _, p := range oldParts {
				if name := p.desc.Value().name; name != pushTime && name != failureTime {
					p.kept = true
					parts = append(parts, p)
					n += strings.Count(p.text, "\n")
				}
			}
		}
		return s.groupContent(g, old, parts, n, pushed, seconds(now)), nil
	})
	if err == nil {
		err = s.flush()
	}
	return doing("noting the failure in group "+g.String(), err)
}

// errAgain asks commit to start over: the ground has shifted.
var errAgain = errors.New("changed meanwhile")

// commit writes what plan makes of the group as it is. Encoding, writing and
// flushing the file happen outside of every lock that another group needs; the
// check, the rename and the new view happen under the one of the Store.
func (s *Store) commit(g Group, check bool, plan func(old *File, oldParts []part) (*content, error)) error {
	name := g.FileName()
	for range 100 {
		d := s.dir.Load()
		s.mu.Lock()
		old := s.merge.file(name)
		var oldParts []part
		if old != nil {
			oldParts = s.merge.parts(old)
		}
		s.mu.Unlock()
		mine := old
		if old != nil && old.group.IsZero() {
			mine = nil // somebody's file under our name: replaced, not read
		}
		c, err := plan(mine, partsOf(mine, oldParts))
		if err != nil {
			return err
		}
		data := c.encode()
		if int64(len(data)) > s.opts.MaxFileBytes {
			return &SyntaxError{Reason: TooLarge, Msg: fmt.Sprintf("the group would take %d bytes, more than the limit of %d for one file", len(data), s.opts.MaxFileBytes)}
		}
		start := time.Now()
		tmp, err := d.prepare(name, data, c.keepTime())
		if err != nil {
			if d.current() != nil { // not a fault of the disk: the directory is gone
				if err := s.reopen(d); err != nil {
					return err
				}
				continue
			}
			return err
		}
		if s.observers.Flush != nil {
			s.observers.Flush(time.Since(start).Seconds())
		}
		c.file.size, c.file.hash = int64(len(data)), hashOf(data)

		if err = s.install(d, tmp, name, old, mine, c, check, oldParts); err == nil {
			return nil
		}
		_ = tmp.Cleanup()
		switch {
		case errors.Is(err, errReplaced), errors.Is(err, fs.ErrNotExist):
			if err := s.reopen(d); err != nil {
				return err
			}
		case errors.Is(err, errAgain):
			if _, err := s.Reload(name); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return fmt.Errorf("the group changes too often: %w", ErrBusy)
}

// install makes a prepared file the group's, if it may be, under the lock of the
// Store.
func (s *Store) install(d *directory, tmp *renameio.PendingFile, name string, old, mine *File, c *content, check bool, oldParts []part) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayInstall(d, name, old, mine, c, check, oldParts); err != nil {
		return err
	}
	defer d.unlock()
	at, err := d.install(tmp, name)
	if err != nil {
		return err
	}
	c.file.stamp, c.file.mtime = at, time.Unix(0, at.mtime)
	s.publish([]update{{old: old, oldParts: oldParts, new: c}})
	return nil
}

func partsOf(f *File, parts []part) []part {
	if f == nil {
		return nil
	}
	return parts
}

// mayInstall decides, under the lock of the Store, whether a prepared file may
// be renamed to its name. If so the lock between processes is held on return.
func (s *Store) mayInstall(d *directory, name string, old, mine *File, c *content, check bool, oldParts []part) error {
	if err := d.current(); err != nil {
		return err
	}
	if err := d.lock(); err != nil {
		return err
	}
	err := func() error {
		if s.merge.file(name) != old {
			return errAgain
		}
		at, _, err := d.stat(name)
		switch {
		case errors.Is(err, unix.ENOENT):
			if old != nil {
				return errAgain
			}
		case err == nil && old == nil, err == nil && old.stamp.ino != 0 && withoutYoung(old.stamp) != withoutYoung(at):
			return errAgain
		}
		if mine == nil && s.opts.MaxGroups > 0 && s.merge.totals.Groups >= s.opts.MaxGroups {
			return fmt.Errorf("the spool holds %d groups, the limit: %w", s.merge.totals.Groups, ErrFull)
		}
		if !c.settled && !s.merge.helpAgreed(c, mine) {
			return errAgain
		}
		if check && !s.opts.Unchecked {
			if x := s.merge.check(c, oldParts); x != nil {
				return x
			}
		}
		return nil
	}()
	if err != nil {
		d.unlock()
	}
	return err
}

func withoutYoung(s stamp) stamp {
	s.young = false
	return s
}

// ErrFull is what a push's error wraps when the spool's own limit is reached.
var ErrFull = errors.New("the limit of the spool is reached")

// Delete removes the group. Deleting what is not there is no error, and a file
// of the group's name that was not pushed is left alone.
func (s *Store) Delete(g Group) error {
	err := s.remove([]string{g.FileName()})
	return doing("deleting group "+g.String(), err)
}

// Wipe removes every pushed group and no dropped file.
func (s *Store) Wipe() error {
	var names []string
	for f := range s.View().Files() {
		if f.id.kind == pushedKind {
			names = append(names, f.Name())
		}
	}
	return doing("wiping the spool", s.remove(names))
}

// remove deletes pushed files by name and makes that durable.
func (s *Store) remove(names []string) error {
	var firstErr error
	removed := false
	for _, name := range names {
		unlock := s.groups.lock(name)
		done, err := s.removeOne(name)
		unlock()
		removed = removed || done
		if err != nil && firstErr == nil {
			firstErr = err
		}
	}
	if removed {
		if err := s.flush(); err != nil {
			return err
		}
	}
	return firstErr
}

func (s *Store) removeOne(name string) (removed bool, err error) {
	for range 100 {
		d := s.dir.Load()
		if err := d.current(); err != nil {
			if err := s.reopen(d); err != nil {
				return false, err
			}
			continue
		}
		if _, err := s.Reload(name); err != nil { // another process may have made it
			return false, err
		}
		s.mu.Lock()
		old := s.merge.file(name)
		if old == nil || old.group.IsZero() {
			s.mu.Unlock()
			return false, nil
		}
		if err := d.lock(); err != nil {
			s.mu.Unlock()
			return false, err
		}
		at, _, err := d.stat(name)
		if err == nil && withoutYoung(at) == withoutYoung(old.stamp) {
			if err = d.root.Remove(name); err == nil {
				s.publish([]update{{old: old, oldParts: s.merge.parts(old)}})
			}
			d.unlock()
			s.mu.Unlock()
			return err == nil, err
		}
		d.unlock()
		s.mu.Unlock()
	}
	return false, fmt.Errorf("the file changes too often: %w", ErrBusy)
}

// publish brings merge and view up to date. The lock of the Store is held.
func (s *Store) publish(updates []update) {
	s.merge.apply(updates)
	s.view.Store(s.merge.view())
}

// Reload brings the view of the named files up to date with the directory and
// returns the names that it could not settle, because a writer is at work on
// them or has just left them broken: they have to be asked for again soon.
func (s *Store) Reload(names ...string) (again []string, err error) {
	d := s.dir.Load()
	if d.current() != nil {
		return s.Rescan()
	}
	return s.load(d, names), nil
}

// Rescan is Reload for every name in the directory or in the view. Unchanged
// files cost a stat each. If the directory is gone the view becomes empty.
func (s *Store) Rescan() (again []string, err error) {
	d := s.dir.Load()
	if d.current() != nil {
		if err := s.reopen(d); err != nil {
			return nil, err
		}
		d = s.dir.Load()
	}
	names, err := d.names()
	if err != nil {
		return nil, doing("listing the spool "+s.path, err)
	}
	return s.load(d, s.withKnown(names)), nil
}

// withKnown adds the names of the view.
func (s *Store) withKnown(names []string) []string {
	for f := range s.View().Files() {
		names = append(names, f.Name())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// reopen follows the path to the directory that it leads to now.
func (s *Store) reopen(old *directory) error {
	s.mu.Lock()
	if s.dir.Load() != old {
		s.mu.Unlock()
		return nil // somebody else did
	}
	d, err := openDirectory(s.path)
	if err != nil {
		var updates []update
		for f := range s.merge.files.all() {
			updates = append(updates, update{old: f, oldParts: s.merge.parts(f)})
		}
		s.publish(updates)
		s.mu.Unlock()
		return doing("opening the spool "+s.path, err)
	}
	// The old one is closed by the collector: others may be about to use it.
	s.dir.Store(d)
	s.mu.Unlock()
	names, err := d.names()
	if err != nil {
		return doing("listing the spool "+s.path, err)
	}
	d.sweep(names)
	s.load(d, s.withKnown(names))
	return nil
}

// load brings the names up to date: they are read without a lock and published
// together.
func (s *Store) load(d *directory, names []string) (again []string) {
	names = slices.DeleteFunc(names, func(n string) bool { return !IsSpoolFile(n) || strings.ContainsRune(n, os.PathSeparator) })
	outcomes := s.lookAll(d, names)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir.Load() != d {
		return names
	}
	var updates []update
	for _, o := range outcomes {
		if o.again {
			again = append(again, o.name)
		}
		if !o.changed {
			continue
		}
		// Unless somebody was faster: a push, or whoever writes the file.
		old := s.merge.file(o.name)
		at, _, err := d.stat(o.name)
		gone := errors.Is(err, unix.ENOENT)
		if old != o.old || gone != (o.new == nil) || !gone && err == nil && o.new.file.heldFrom.IsZero() && withoutYoung(at) != withoutYoung(o.stamp) {
			again = append(again, o.name)
			continue
		}
		u := update{old: old, new: o.new}
		if old != nil {
			u.oldParts = s.merge.parts(old)
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

// lookAll looks at many names at once.
func (s *Store) lookAll(d *directory, names []string) []outcome {
	v := s.View()
	outcomes := make([]outcome, len(names))
	if len(names) < 64 {
		for i, name := range names {
			outcomes[i] = s.look(d, name, v.File(name))
		}
		return outcomes
	}
	workers := runtime.GOMAXPROCS(0)
	var next atomic.Int64
	var group errgroup.Group
	for range workers {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(names) {
					return nil
				}
				outcomes[i] = s.look(d, names[i], v.File(names[i]))
			}
		})
	}
	_ = group.Wait() // the workers have no errors
	return outcomes
}
