package filestore

import (
	"errors"
	"fmt"
	"time"
)

// Replace makes the families the whole content of the group, as PUT does. If
// they do not fit, the group stays as it was, but for the time of its last
// failure, and the error is a *Conflict or a *SyntaxError.
func (s *Store) Replace(g Group, f *Families, opts PushOptions) error {
	return s.push(g, f, false, opts)
}

// Update replaces the families of the names that are in f and keeps the
// group's others, as POST does. Errors are those of Replace.
func (s *Store) Update(g Group, f *Families, opts PushOptions) error {
	return s.push(g, f, true, opts)
}

// Fail notes that a push to the group was refused before it came here. The
// group is created if it is missing.
func (s *Store) Fail(g Group) error {
	defer s.groups.lock(g.FileName())()
	return s.stampFailure(g)
}

func (s *Store) push(g Group, f *Families, keep bool, opts PushOptions) error {
	start := time.Now()
	unlock := s.groups.lock(g.FileName())
	defer func() {
		if unlock != nil {
			unlock()
		}
	}()
	var at placed
	change := s.changeOf(g)
	parts, series, err := change.canonical(f, opts.Strip)
	if err == nil {
		p := &pushed{parts: parts, series: series, has: f.Has, keep: keep, opts: opts}
		at, err = s.commit(g, true, func(old *content) (*content, error) {
			return change.push(old, p, s.fileOf(g))
		})
	}
	var clash *Conflict
	var bad *SyntaxError
	switch {
	case err != nil && opts.DryRun:
		return err
	case errors.As(err, &clash), errors.As(err, &bad) && bad.Decoded:
		return errors.Join(err, s.stampFailure(g))
	case bad != nil:
		return err
	}
	if err != nil {
		return doing("storing group "+g.String(), err)
	}
	unlock()
	unlock = nil
	if opts.DryRun {
		at.d.done()
		return nil
	}
	if err := s.flush(at); err != nil {
		return doing("storing group "+g.String(), err)
	}
	if s.observers.Commit != nil {
		s.observers.Commit(time.Since(start).Seconds())
	}
	return nil
}

// flush waits until the change, and what was renamed in the directory before, is
// durable, and ends the use of the directory.
func (s *Store) flush(p placed) error {
	defer p.d.done()
	defer p.old.letGo()()
	start := time.Now()
	if err := p.d.flush(); err != nil {
		// Not its *fs.PathError, for which doing would forget the doubt.
		return fmt.Errorf("%w; %w", doing("flushing the directory", err), ErrInDoubt)
	}
	if s.observers.Flush != nil {
		s.observers.Flush(time.Since(start).Seconds())
	}
	return nil
}

// changeOf returns what makes changes of a group.
func (s *Store) changeOf(g Group) *groupChange {
	return &groupChange{group: g, emptyInstance: s.opts.EmptyInstance, now: seconds(s.opts.Now())}
}

// fileOf returns the file that has the name of a group, whatever it is.
func (s *Store) fileOf(g Group) *File { return s.View().File(g.FileName()) }

// stampFailure sets the failure time of a group whose lock is held.
func (s *Store) stampFailure(g Group) error {
	change := s.changeOf(g)
	at, err := s.commit(g, false, func(old *content) (*content, error) {
		if old == nil && (s.fileOf(g) != nil || !s.mayRecordFailure()) {
			return nil, errNothing
		}
		return change.fail(old)
	})
	switch {
	case errors.Is(err, errNothing):
		err = nil
	case err == nil:
		err = s.flush(at)
	}
	return doing("noting the failure in group "+g.String(), err)
}

// MayChange returns an error that wraps ErrNotOwner if a group as it is now may
// not be changed in the name of the writer, who may be nil where groups have no
// owners. A later change looks again.
func (s *Store) MayChange(g Group, w *Writer) error {
	f := s.View().File(g.FileName())
	if f == nil || !f.group.IsZero() {
		return w.mayChange(f)
	}
	return w.mayReplace(f)
}
