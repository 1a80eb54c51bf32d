package filestore

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// ErrExists is what [Store.Adopt] returns if the group, or a file with its name,
// is there already.
var ErrExists = errors.New("it is there already")

// Adopt makes the families the whole content of a group, with the times that
// came with it. When it returns nil, the group is on stable storage and in every
// later View. On an error nothing has changed, unless the error is [ErrInDoubt];
// other than a refused push it leaves no trace. It keeps nothing of f.
func (s *Store) Adopt(g grouping.Key, f *exposition.Families, a record.Adoption) error {
	defer s.groups.lock(g.FileName())()
	change := s.changeOf(g)
	parts, series, err := change.Canonical(f, nil)
	if err != nil {
		return err
	}
	p := &record.Pushed{Parts: parts, Series: series, Has: f.Has}
	at, err := s.commit(g, true, func(old *record.Content) (*record.Content, error) {
		if !a.Overwrite && s.fileOf(g) != nil {
			return nil, ErrExists
		}
		return change.Adopt(old, p, a)
	})
	if err != nil {
		return err
	}
	if a.DryRun {
		at.d.Release()
		return nil
	}
	return s.syncDirectory(at)
}

// dryRun publishes a commit without writing it.
func (s *Store) dryRun(p *pendingCommit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkInstall(p, nil); err != nil {
		return err
	}
	s.publish([]merge.Update{{Old: p.old, OldParts: p.oldParts, New: p.content}})
	return nil
}

// Amend changes a group by what it holds: edit is given that, and what it
// returns is done. Nobody else changes the group in between, neither in this
// process nor in another: if somebody did, edit is called again with what is
// there then, so it must not do anything but decide. If it returns nil and no
// error, nothing is done; its error becomes that of Amend, as it is.
//
// Samples get the labels of the group and never an empty instance, whoever
// amends: programs that open the spool with other options write the same series.
//
// Otherwise the promise and the errors are those of Update, but for this: a
// refusal does not set the time of the group's last failure.
func (s *Store) Amend(g grouping.Key, edit func(held *record.Held) (*record.Edit, error)) error {
	start := time.Now()
	unlock := s.groups.lock(g.FileName())
	defer func() {
		if unlock != nil {
			unlock()
		}
	}()
	var refused error // by edit
	change := s.changeOf(g)
	change.EmptyInstance = false
	at, err := s.commit(g, true, func(old *record.Content) (*record.Content, error) {
		refused = nil
		if old == nil {
			if err := record.Unreadable(s.fileOf(g)); err != nil {
				return nil, err
			}
		}
		e, err := edit(record.HeldBy(old))
		switch {
		case err != nil:
			refused = err
			return nil, err
		case e == nil:
			return nil, errNothing
		}
		return change.Amend(old, e)
	})
	var clash *record.Conflict
	var bad *exposition.SyntaxError
	switch {
	case refused != nil:
		return refused
	case errors.Is(err, errNothing):
		return nil
	case errors.As(err, &clash), errors.As(err, &bad):
		return err
	case err != nil:
		return disk.Wrap("storing group "+g.String(), err)
	}
	unlock()
	unlock = nil
	if err := s.syncDirectory(at); err != nil {
		return disk.Wrap("storing group "+g.String(), err)
	}
	if s.observers.Commit != nil {
		s.observers.Commit(time.Since(start).Seconds())
	}
	return nil
}

// Replace makes the families the whole content of the group, as PUT does. If
// they do not fit, the group stays as it was, but for the time of its last
// failure, and the error is a *Conflict or a *SyntaxError.
func (s *Store) Replace(g grouping.Key, f *exposition.Families, opts record.PushOptions) error {
	return s.push(g, f, false, opts)
}

// Update replaces the families of the names that are in f and keeps the
// group's others, as POST does. Errors are those of Replace.
func (s *Store) Update(g grouping.Key, f *exposition.Families, opts record.PushOptions) error {
	return s.push(g, f, true, opts)
}

// Fail notes that a push to the group was refused before it came here. The
// group is created if it is missing.
func (s *Store) Fail(g grouping.Key) error { return s.FailFor(g, record.Refusal{}) }

// FailFor is Fail with the reason, which is kept with the group until a push succeeds.
func (s *Store) FailFor(g grouping.Key, r record.Refusal) error {
	defer s.groups.lock(g.FileName())()
	return s.stampFailure(g, r)
}

// Refuse keeps with a group why a push to it was refused that could not be read. Other
// than FailFor it makes no group and changes no time. It writes at a bounded rate: what is
// refused meanwhile is not kept. It is never an error that nothing could be written.
func (s *Store) Refuse(g grouping.Key, r record.Refusal) {
	f := s.fileOf(g)
	if f == nil || f.Group().IsZero() || !s.refusals.allow(g.FileName()) {
		return
	}
	defer s.groups.lock(g.FileName())()
	change := s.changeOf(g)
	at, err := s.commit(g, false, func(old *record.Content) (*record.Content, error) {
		if old == nil {
			return nil, errNothing
		}
		return change.Refuse(old, r), nil
	})
	if err == nil {
		_ = s.syncDirectory(at) // the group is as it was in any case
	}
}

// refusals limits how often refusals are written: once a second for a group, and in all
// refusalsPerSecond times. Its zero value is ready.
type refusals struct {
	mu     sync.Mutex
	second int64               // guards the two that follow
	groups map[string]struct{} // that were written in that second
}

const refusalsPerSecond = 20

// allow reports whether a refusal of the group may be written now.
func (l *refusals) allow(group string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now().Unix(); now != l.second || l.groups == nil {
		l.second, l.groups = now, make(map[string]struct{}, refusalsPerSecond)
	}
	if _, ok := l.groups[group]; ok || len(l.groups) >= refusalsPerSecond {
		return false
	}
	l.groups[group] = struct{}{}
	return true
}

func (s *Store) push(g grouping.Key, f *exposition.Families, keep bool, opts record.PushOptions) error {
	start := time.Now()
	unlock := s.groups.lock(g.FileName())
	defer func() {
		if unlock != nil {
			unlock()
		}
	}()
	var at pendingSync
	change := s.changeOf(g)
	parts, series, err := change.Canonical(f, opts.Strip)
	if err == nil {
		p := &record.Pushed{Parts: parts, Series: series, Has: f.Has, Keep: keep, Opts: opts}
		at, err = s.commit(g, true, func(old *record.Content) (*record.Content, error) {
			return change.Push(old, p, s.fileOf(g))
		})
	}
	var clash *record.Conflict
	var bad *exposition.SyntaxError
	switch {
	case err != nil && opts.DryRun:
		return err
	case errors.As(err, &clash), errors.As(err, &bad) && bad.Decoded:
		return errors.Join(err, s.stampFailure(g, record.RefusalOf(err, "", opts.Client)))
	case bad != nil:
		return err
	}
	if err != nil {
		return disk.Wrap("storing group "+g.String(), err)
	}
	unlock()
	unlock = nil
	if opts.DryRun {
		at.d.Release()
		return nil
	}
	if err := s.syncDirectory(at); err != nil {
		return disk.Wrap("storing group "+g.String(), err)
	}
	if s.observers.Commit != nil {
		s.observers.Commit(time.Since(start).Seconds())
	}
	return nil
}

// syncDirectory waits until the change, and what was renamed in the directory before, is
// durable, and ends the use of the directory.
func (s *Store) syncDirectory(p pendingSync) error {
	defer p.d.Release()
	defer p.old.Release()()
	start := time.Now()
	if err := p.d.Sync(); err != nil {
		// Not its *fs.PathError, for which doing would forget the doubt.
		return fmt.Errorf("%w; %w", disk.Wrap("flushing the directory", err), ErrInDoubt)
	}
	if s.observers.Flush != nil {
		s.observers.Flush(time.Since(start).Seconds())
	}
	return nil
}

// changeOf returns what makes changes of a group.
func (s *Store) changeOf(g grouping.Key) *record.Change {
	return &record.Change{Key: g, EmptyInstance: s.opts.EmptyInstance, Now: record.Seconds(s.opts.Now()), Own: s.ownType}
}

// ownType returns the type of a family that the program serves itself.
func (s *Store) ownType(family string) (exposition.Type, bool) {
	o, ok := s.opts.Own[family]
	return o.Type, ok
}

// fileOf returns the file that has the name of a group, whatever it is.
func (s *Store) fileOf(g grouping.Key) *record.File { return s.View().File(g.FileName()) }

// stampFailure sets the failure time of a group whose lock is held.
func (s *Store) stampFailure(g grouping.Key, r record.Refusal) error {
	change := s.changeOf(g)
	at, err := s.commit(g, false, func(old *record.Content) (*record.Content, error) {
		if old == nil && (s.fileOf(g) != nil || !s.hasRoomForFailure()) {
			return nil, errNothing
		}
		return change.Fail(old, r)
	})
	switch {
	case errors.Is(err, errNothing):
		err = nil
	case err == nil:
		err = s.syncDirectory(at)
	}
	return disk.Wrap("noting the failure in group "+g.String(), err)
}

// MayChange returns an error that wraps ErrNotOwner if a group as it is now may
// not be changed in the name of the writer, who may be nil where groups have no
// owners. A later change looks again.
func (s *Store) MayChange(g grouping.Key, w *record.Writer) error {
	f := s.View().File(g.FileName())
	if f == nil || !f.Group().IsZero() {
		return w.MayChange(f)
	}
	return w.MayReplace(f)
}
