package filestore

import (
	"cmp"
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

// ErrExists is the error of [Store.Import] if the group, or a file with its name,
// exists.
var ErrExists = errors.New("it exists already")

// Import imports a group from another program: the families become its whole content,
// with the times in the options. When it returns nil, the group is on stable storage
// and in every later View. After an error nothing has changed, unless the error is
// [ErrInDoubt]; unlike for a push, a failure is not recorded.
func (s *Store) Import(g grouping.Key, f *exposition.Families, opts record.ImportOptions) error {
	defer s.groups.lock(g.FileName())()
	change := s.changeOf(g)
	parts, series, err := change.Canonical(f, nil)
	if err != nil {
		return err
	}
	p := &record.Pushed{Parts: parts, Series: series, Has: f.Has}
	at, err := s.commit(g, true, func(old *record.Content) (*record.Content, error) {
		if !opts.Overwrite && s.fileOf(g) != nil {
			return nil, ErrExists
		}
		return change.Import(old, p, opts)
	})
	if err != nil {
		return err
	}
	if opts.DryRun {
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

// Amend changes a group depending on its content, which it passes to edit. If the group
// changes before the commit, edit is called again with the new content, so it must
// have no side effects. If edit returns nil without an error, the group is not changed.
// Amend returns the error of edit unchanged.
//
// Samples get the labels of the group and never an empty instance, regardless of the
// options of the Store. So all programs write the same series.
//
// Otherwise the guarantees and errors are those of Update, but a rejected change does
// not set the time of the group's last failure.
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
	var conflict *record.Conflict
	var bad *exposition.SyntaxError
	switch {
	case refused != nil:
		return refused
	case errors.Is(err, errNothing):
		return nil
	case errors.As(err, &conflict), errors.As(err, &bad):
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

// Replace makes the families the whole content of the group, as PUT does. If they are
// invalid or conflict, the error is a *Conflict or a *SyntaxError, and only the time
// of the group's last failure changes.
func (s *Store) Replace(g grouping.Key, f *exposition.Families, opts record.PushOptions) error {
	return s.push(g, f, false, opts)
}

// Update replaces the families in f and keeps the group's others, as POST does. Errors
// are those of Replace.
func (s *Store) Update(g grouping.Key, f *exposition.Families, opts record.PushOptions) error {
	return s.push(g, f, true, opts)
}

// Fail records that a push to the group was rejected by the caller. It creates the
// group if missing.
func (s *Store) Fail(g grouping.Key) error { return s.FailFor(g, record.Refusal{}) }

// FailFor is Fail with a reason, which is kept until a push succeeds.
func (s *Store) FailFor(g grouping.Key, r record.Refusal) error {
	defer s.groups.lock(g.FileName())()
	return s.stampFailure(g, r)
}

// Refuse records why a push that could not be decoded was rejected. Unlike FailFor it
// creates no group and sets no time. It writes at a bounded rate and omits further
// rejections. It ignores errors.
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
		_ = s.syncDirectory(at) // the group is unchanged in any case
	}
}

// refusals limits the rate of recorded rejections: one a second for each group, and
// refusalsPerSecond in all. The zero value is ready for use.
type refusals struct {
	mu     sync.Mutex
	second int64               // guards the two that follow
	groups map[string]struct{} // written in that second
}

const refusalsPerSecond = 20

// allow reports whether a rejection may be recorded for the group now.
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
	var conflict *record.Conflict
	var bad *exposition.SyntaxError
	switch {
	case err != nil && opts.DryRun:
		return err
	case errors.As(err, &conflict), errors.As(err, &bad) && bad.Decoded:
		return errors.Join(err, s.stampFailure(g, record.RefusalOf(err, "", opts.Client)))
	case bad != nil:
		return err
	}
	if err != nil {
		return disk.Wrap("storing group "+g.String(), cmp.Or(s.directoryInPlace(g), err)) // POST cannot read it, PUT cannot replace it
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

// syncDirectory makes the change and all earlier renames in the directory durable, and
// releases the directory.
func (s *Store) syncDirectory(p pendingSync) error {
	defer p.d.Release()
	defer p.old.Release()()
	start := time.Now()
	if err := p.d.Sync(); err != nil {
		// Without its *fs.PathError, because Wrap would drop ErrInDoubt.
		return fmt.Errorf("%w; %w", disk.Wrap("flushing the directory", err), ErrInDoubt)
	}
	if s.observers.Flush != nil {
		s.observers.Flush(time.Since(start).Seconds())
	}
	return nil
}

// changeOf returns the Change for a group.
func (s *Store) changeOf(g grouping.Key) *record.Change {
	return &record.Change{Key: g, EmptyInstance: s.opts.EmptyInstance, Now: record.Seconds(s.opts.Now()), Own: s.ownType}
}

// ownType returns the type of a family of the agent itself.
func (s *Store) ownType(family string) (exposition.Type, bool) {
	o, ok := s.opts.Own[family]
	return o.Type, ok
}

// fileOf returns the file with the name of a group, valid or not.
func (s *Store) fileOf(g grouping.Key) *record.File { return s.View().File(g.FileName()) }

// stampFailure sets the failure time of a group. The caller holds its lock.
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

// MayChange returns an error that wraps ErrNotOwner if the writer may not change the
// group. The writer may be nil if owners are not checked. A later change checks again.
func (s *Store) MayChange(g grouping.Key, w *record.Writer) error {
	f := s.View().File(g.FileName())
	if f == nil || !f.Group().IsZero() {
		return w.MayChange(f)
	}
	return w.MayReplace(f)
}
