package filestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Step is what becomes of a file with age.
type Step string

// The steps. At the first the payload is withheld and the record stays: in the
// view at once, and in the file of a group as soon as its age is proven or the clock
// is to be trusted.
const (
	Withheld Step = "withheld"
	Archived Step = "archived" // moved from the spool to the archive
	Removed  Step = "removed"  // from the archive
)

// Aged tells of a step that was taken, or is to be.
type Aged struct {
	Step  Step
	File  string    // its name in the view or, for Removed, in the archive
	Group Group     // zero for a dropped file
	Since time.Time // when its time had come, or will have
	Err   error     // why it could not be done; it is tried again
}

const (
	sweepBatch = 128              // files that are withheld under one hold of the lock
	sweepWrite = 256              // files that are written or moved before the clock is looked at again
	sweepRest  = 30 * time.Second // until the clock is looked at again
	sweepRetry = time.Minute
	pruneEvery = time.Hour
)

// Age does what lifetimes and retention ask for, each when its time has come,
// until ctx ends. It costs nothing where no file has a lifetime. What it does it
// tells; tell may be called by several goroutines at once. It must run once for a
// Store, if at all: without it nothing dies while the Store is open.
func (s *Store) Age(ctx context.Context, tell func(Aged)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.due.sooner:
		}
		timer.Reset(s.sweep(ctx, s.clock.look(), tell))
	}
}

// Expire does what is due now and returns. It trusts the clock. The error joins
// those that were told.
func (s *Store) Expire(ctx context.Context, tell func(Aged)) error {
	var errs []error
	done := make(chan Aged)
	var group sync.WaitGroup
	group.Go(func() {
		for a := range done {
			if a.Err != nil {
				errs = append(errs, a.Err)
			}
			tell(a)
		}
	})
	func() {
		defer close(done)
		s.sweep(ctx, s.clock.trust(), func(a Aged) { done <- a })
	}()
	group.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// sweep does what is due and returns when to come again.
func (s *Store) sweep(ctx context.Context, r reading, tell func(Aged)) time.Duration {
	if r.back {
		s.reconsider(r.now)
	}
	for ctx.Err() == nil {
		n := s.withholdDue(r.now, tell)
		if n > 0 {
			continue // what is served comes first
		}
		n += s.writePending(ctx, r, tell)
		if r.steady {
			n += s.archiveDue(ctx, r.now, tell)
		}
		if n == 0 {
			break
		}
	}
	if r.steady {
		s.pruneArchive(r.now, tell)
	}
	return s.untilNext(r)
}

// withholdDue takes the payload of some files whose time has come out of the view.
func (s *Store) withholdDue(now time.Time, tell func(Aged)) int {
	n, updates := s.withholdSome(now)
	for i := range updates {
		if f := updates[i].new.file; f.group.IsZero() {
			tell(Aged{Step: Withheld, File: f.Name(), Since: f.Expired()})
		}
	}
	return n
}

func (s *Store) withholdSome(now time.Time) (n int, updates []update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.due.dies.take(now, sweepBatch)
	for _, id := range ids {
		f := s.merge.byID(id)
		if at, ok := s.opts.Lifetimes.dies(f); ok {
			parts := s.View().parts(f)
			updates = append(updates, update{old: f, oldParts: parts, new: withhold(f, parts, at)})
		}
	}
	if len(updates) > 0 {
		s.publish(updates)
	}
	return len(ids), updates
}

// writePending makes the files of some groups say that their payload is withheld. It
// returns how many it has tried.
func (s *Store) writePending(ctx context.Context, r reading, tell func(Aged)) int {
	files := s.toRewrite(r)
	var busy atomic.Bool
	var group errgroup.Group
	group.SetLimit(4) // pushes wait for the disk as well
	for _, f := range files {
		group.Go(func() error {
			if ctx.Err() != nil || busy.Load() {
				s.putOff(f.id)
				return nil
			}
			since, err := s.writeWithheld(f.group)
			switch {
			case err != nil:
				busy.Store(errors.Is(err, ErrBusy)) // then the others would wait for the same
				s.putOff(f.id)
			case !since.IsZero():
				s.rest(f.id)
			}
			if err != nil || !since.IsZero() {
				tell(Aged{Step: Withheld, File: f.Name(), Group: f.group, Since: f.Expired(), Err: err})
			}
			return nil
		})
	}
	_ = group.Wait() // each has told its error
	return len(files)
}

// toRewrite returns the files of some groups whose payload is withheld in the view
// alone.
func (s *Store) toRewrite(r reading) []*File {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.due.writable(sweepWrite, r)
	files := make([]*File, len(ids))
	for i, id := range ids {
		files[i] = s.merge.byID(id)
	}
	return files
}

// putOff has a file written some time later.
func (s *Store) putOff(id *ident) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.due.pending[id]; ok {
		s.due.wait(id, time.Now().Add(sweepRetry))
	}
}

// rest keeps a file that was rewritten from being rewritten again soon.
func (s *Store) rest(id *ident) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.merge.byID(id) != nil {
		s.due.rests.set(id, time.Now().Add(rewriteRest))
	}
}

// untilNext returns for how long there is nothing to do.
func (s *Store) untilNext(r reading) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := pruneEvery
	if len(s.due.pending) > 0 {
		wait = sweepRest
	}
	if at, ok := s.due.untilWritable(); ok {
		wait = min(wait, at)
	}
	for i, q := range [...]*queue{&s.due.dies, &s.due.leaves} {
		if at, ok := q.next(); ok {
			wait = min(wait, sweepRest)
			if i == 0 || r.steady {
				wait = min(wait, max(at.Sub(r.now), time.Millisecond))
			}
		}
	}
	return wait
}

// reconsider looks again at what was withheld and not written, after the clock
// was set back.
func (s *Store) reconsider(now time.Time) {
	updates, sources := s.forget(now)
	for _, src := range sources {
		var names []string
		for i := range updates {
			if base, ok := src.base(updates[i].new.file); ok {
				names = append(names, base)
			}
		}
		if len(names) > 0 {
			_, _ = src.Reload(names...) // what cannot be read is told by the view
		}
	}
}

// forget has files that were withheld and not written read anew, whatever they look
// like. It returns them and all sources.
func (s *Store) forget(now time.Time) (updates []update, sources []*Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.merge.all() {
		if f.age == nil || f.age.since <= seconds(now) || !f.age.pending && f.err == nil {
			continue
		}
		again := f.unread() // to be read whatever it looks like
		parts := s.View().parts(f)
		again.parts = slices.Clone(parts)
		updates = append(updates, update{old: f, oldParts: parts, new: again})
	}
	if len(updates) > 0 {
		s.publish(updates)
	}
	return updates, append([]*Source{s.spool}, s.sources...)
}

// Ageing returns what is to come: for each file that has a lifetime its next
// step, the earliest first.
func (s *Store) Ageing() []Aged {
	var list []Aged
	for f := range s.View().Files() {
		a := Aged{Step: Withheld, File: f.Name(), Group: f.group}
		ok := false
		if f.age != nil && f.age.pending {
			a.Since, ok = f.Expired(), true
		} else if a.Since, ok = s.opts.Lifetimes.dies(f); !ok {
			a.Step = Archived
			a.Since, ok = s.opts.Lifetimes.leaves(f)
		}
		if ok {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b Aged) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.File, b.File)) })
	return list
}

// writeWithheld makes the file of a group say what the view does already: that
// its payload is withheld. The file keeps its time, which is that of the push.
func (s *Store) writeWithheld(g Group) (since time.Time, err error) {
	defer s.groups.lock(g.FileName())()
	at, err := s.commit(g, false, func(old *content) (*content, error) {
		if old == nil || old.file.age == nil || !old.file.age.pending {
			return nil, errNothing // pushed to, or removed
		}
		since = old.file.Expired()
		return old.rewritten(), nil
	})
	switch {
	case errors.Is(err, errNothing):
		return time.Time{}, nil
	case err == nil:
		err = s.flush(at)
	}
	return since, doing("withholding the payload of group "+g.String(), err)
}

// errNotExpired says that there is nothing to restore.
var errNotExpired = fmt.Errorf("nothing of it is withheld: %w", fs.ErrNotExist)

// Restore serves again what is withheld of a group whose lifetime has ended. Its
// push times stay what they are, and what was restored does not expire again
// until the next push, which begins a new lifetime. If the group is not there or
// not expired the error wraps fs.ErrNotExist; if what was withheld contradicts
// another file by now it is a *Conflict. Otherwise the promise is that of Replace.
func (s *Store) Restore(g Group) error {
	at, err := func() (placed, error) {
		defer s.groups.lock(g.FileName())()
		return s.commit(g, true, func(old *content) (*content, error) {
			if old == nil || old.file.age == nil {
				return nil, errNotExpired
			}
			return revived(old)
		})
	}()
	if err == nil {
		err = s.flush(at)
	}
	var clash *Conflict
	if errors.As(err, &clash) {
		return err
	}
	return doing("restoring group "+g.String(), err)
}
