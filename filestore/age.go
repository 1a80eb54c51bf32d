package filestore

import (
	"cmp"
	"container/heap"
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

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// Lifetimes end by the clock of the host, which may be wrong: it may be set while
// the agent runs, or start years off after a boot without a battery. A jump of the
// clock must not expire everything. So its progress is compared with the monotonic
// clock.
//
// A jump forward takes effect only after the new time has been steady for a while,
// because it may be right, as after a suspend. A jump back takes effect at once,
// because it ends no lifetime. The first time after the start cannot be verified. It
// takes effect at once in the view, which can be reverted, and only after that while
// in files. For pushes to this Store the monotonic clock proves the age, see due.
const (
	clockConfirm = 5 * time.Minute
	clockSlack   = time.Minute // maximum difference of the two clocks between two looks
)

// steadyClock is the clock for lifetimes. It is safe for concurrent use.
type steadyClock struct {
	wall func() time.Time

	mu          sync.Mutex
	start       time.Time     // by the monotonic clock
	elapsed     time.Duration // since start, at the last look
	trusted     time.Time     // the time then
	stableSince time.Duration // elapsed at the last jump
	jump        time.Duration // a jump forward that has no effect yet; 0 if there is none
	since       time.Duration // elapsed at that jump
	seen        reading       // jumps that have not been returned yet
}

func newSteadyClock(wall func() time.Time) *steadyClock {
	return &steadyClock{wall: wall, start: time.Now(), trusted: wall().Round(0)}
}

// reading is the result of a look at the clock.
type reading struct {
	now     time.Time
	steady  bool // no jump for long enough
	trusted bool // set by trust
	back    bool // jumped back since the last look
	forward bool // jumped forward since the last look
}

// now returns the time for lifetimes.
func (c *steadyClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = c.read()
	return c.seen.now
}

// look returns the time and the jumps since the last look.
func (c *steadyClock) look() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.read()
	c.seen = reading{}
	return r
}

// trust makes the clock of the host take effect as it is.
func (c *steadyClock) trust() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.elapsed, c.trusted, c.jump = time.Since(c.start), c.wall().Round(0), 0
	return reading{now: c.trusted, steady: true, trusted: true}
}

func (c *steadyClock) read() reading {
	before := c.elapsed
	c.elapsed = time.Since(c.start)
	wall, expected := c.wall().Round(0), c.trusted.Add(c.elapsed-before)
	r := reading{back: c.seen.back, forward: c.seen.forward}
	switch gap := wall.Sub(expected); {
	case gap < -clockSlack:
		c.trusted, c.stableSince, c.jump, r.back = wall, c.elapsed, 0, true
	case gap <= clockSlack:
		c.trusted, c.jump = wall, 0
	case c.jump == 0 || (gap-c.jump).Abs() > clockSlack:
		c.trusted, c.jump, c.since, r.forward = expected, gap, c.elapsed, true
	case c.elapsed-c.since >= clockConfirm:
		c.trusted, c.jump = wall, 0
	default:
		c.trusted = expected
	}
	r.now = c.trusted
	r.steady = c.jump == 0 && c.elapsed-c.stableSince >= clockConfirm
	return r
}

// due has queues of the times at which files expire and are archived, and of expired
// files that must be rewritten. A change of a file costs the logarithm of their
// number, and nothing if no file has a lifetime. Store.mu guards it.
//
// dies and leaves have times of the host's clock, all others those of the monotonic
// clock.
type due struct {
	dies, leaves queue
	pending      map[*record.ID]time.Time // files to rewrite, with the earliest time after a failure
	sooner       chan struct{}            // gets a value when the next time becomes earlier

	taken  map[*record.ID]proof // pushes to this Store in groups with a lifetime
	proven queue                // files of pending, with the time at which their age is proven
	rests  queue                // files that were just rewritten, with the earliest time of the next rewrite
	budget budget
}

// A proof is the time at which the lifetime of a push has ended by the monotonic
// clock.
type proof struct {
	push float64 // the time of the push in the file
	at   time.Time
}

func newDue() due {
	return due{
		dies: newQueue(), leaves: newQueue(), pending: map[*record.ID]time.Time{}, sooner: make(chan struct{}, 1),
		taken: map[*record.ID]proof{}, proven: newQueue(), rests: newQueue(),
	}
}

// A file is rewritten when its lifetime has ended, at most once every rewriteRest.
// Groups with short lifetimes share a budget, which keeps the number of rewrites well
// below that of pushes.
const (
	rewriteRest  = 30 * time.Second
	rewriteBurst = 256
	rewriteEach  = 50 * time.Millisecond
)

// budget limits the rewrites of files whose groups are pushed to this Store.
type budget struct {
	left int
	at   time.Time // of the last refill
}

// refill adds the budget for the time since the last refill.
func (b *budget) refill(now time.Time) {
	if b.at.IsZero() {
		b.left, b.at = rewriteBurst, now
	}
	n := int(now.Sub(b.at) / rewriteEach)
	b.at = b.at.Add(time.Duration(n) * rewriteEach)
	b.left = min(b.left+n, rewriteBurst)
}

// noteAll records the times of files after updates of the merge. The caller holds
// Store.mu.
func (s *Store) noteAll(updates []merge.Update) {
	for i := range updates {
		s.due.note(&updates[i], &s.opts.Lifetimes)
	}
}

// note records the times of a file after an update.
func (d *due) note(u *merge.Update, l *record.Lifetimes) {
	if u.Old != nil && (u.New == nil || u.New.File.ID() != u.Old.ID()) {
		d.dies.remove(u.Old.ID())
		d.leaves.remove(u.Old.ID())
		d.rests.remove(u.Old.ID())
		d.written(u.Old.ID())
	}
	if u.New == nil {
		return
	}
	f := u.New.File
	first := false
	at, ok := l.ExpiresAt(f)
	if ok {
		first = d.dies.set(f.ID(), at)
	} else {
		d.dies.remove(f.ID())
	}
	d.noteTaken(f, u.New.Fresh, at, ok)
	if at, ok := l.ArchivesAt(f); ok {
		first = d.leaves.set(f.ID(), at) || first
	} else {
		d.leaves.remove(f.ID())
	}
	if f.Ended() != nil && f.Ended().Pending {
		if _, ok := d.pending[f.ID()]; !ok {
			d.wait(f.ID(), time.Time{})
			first = true
		}
	} else {
		delete(d.pending, f.ID())
		d.proven.remove(f.ID())
	}
	if first {
		select {
		case d.sooner <- struct{}{}:
		default:
		}
	}
}

// noteTaken records when the age of a push to this Store is proven, if it has a
// lifetime.
func (d *due) noteTaken(f *record.File, fresh bool, at time.Time, dies bool) {
	switch {
	case dies && fresh:
		d.taken[f.ID()] = proof{f.Pushed(), time.Now().Add(at.Sub(f.LastPush()))}
	case len(d.taken) == 0:
	case f.Ended() != nil && !f.Ended().Pending, f.Ended() == nil && !dies, d.taken[f.ID()].push != f.Pushed():
		delete(d.taken, f.ID()) // rewritten, without a lifetime, or pushed to by another process
	}
}

// wait schedules the rewrite of a file, not before that time.
func (d *due) wait(id *record.ID, notBefore time.Time) {
	d.pending[id] = notBefore
	x, ok := d.taken[id]
	if !ok {
		return
	}
	at := x.at
	if notBefore.After(at) {
		at = notBefore
	}
	if rest := d.rests.at[id]; rest != nil && rest.at.After(at) {
		at = rest.at
	}
	d.proven.set(id, at)
}

// written cancels the rewrite of a file.
func (d *due) written(id *record.ID) {
	delete(d.pending, id)
	delete(d.taken, id)
	d.proven.remove(id)
}

// writable returns up to n files that may be rewritten now: those whose age is proven
// and, if the clock is steady, all others that are due. With a trusted clock all
// files may be.
func (d *due) writable(n int, r reading) []*record.ID {
	now := time.Now()
	for len(d.rests.take(now, n)) > 0 { // delete those in the past
	}
	d.budget.refill(now)
	var ids []*record.ID
	if !r.steady {
		for _, id := range d.proven.take(now, min(n, d.budget.left)) {
			if rest := d.rests.at[id]; rest != nil { // rewritten after it was queued
				d.proven.set(id, rest.at)
				continue
			}
			d.budget.left--
			ids = append(ids, id)
		}
		return ids
	}
	for id, notBefore := range d.pending {
		_, rests := d.rests.at[id]
		_, taken := d.taken[id]
		switch {
		case notBefore.After(now):
			continue
		case r.trusted:
		case rests, taken && d.budget.left == 0:
			continue
		case taken:
			d.budget.left--
		}
		if ids = append(ids, id); len(ids) == n {
			break
		}
	}
	return ids
}

// untilWritable returns the time until the next proven file may be rewritten.
func (d *due) untilWritable() (time.Duration, bool) {
	at, ok := d.proven.next()
	if !ok {
		return 0, false
	}
	wait := time.Until(at)
	if d.budget.left == 0 {
		wait = max(wait, time.Second) // some at a time
	}
	return max(wait, time.Millisecond), true
}

// deadline is a time in a queue.
type deadline struct {
	id    *record.ID
	at    time.Time
	index int
}

// queue is a set of files, each with a time, the earliest first.
type queue struct {
	list []*deadline
	at   map[*record.ID]*deadline
}

func newQueue() queue { return queue{at: map[*record.ID]*deadline{}} }

// Len and the others are for container/heap.
func (q *queue) Len() int { return len(q.list) }

func (q *queue) Less(i, j int) bool {
	if n := q.list[i].at.Compare(q.list[j].at); n != 0 {
		return n < 0
	}
	return record.Compare(q.list[i].id, q.list[j].id) < 0 // neighbors in the merge together
}

func (q *queue) Swap(i, j int) {
	q.list[i], q.list[j] = q.list[j], q.list[i]
	q.list[i].index, q.list[j].index = i, j
}

func (q *queue) Push(x any) {
	d := x.(*deadline)
	d.index = len(q.list)
	q.list = append(q.list, d)
}

func (q *queue) Pop() any {
	last := q.list[len(q.list)-1]
	q.list[len(q.list)-1] = nil
	q.list = q.list[:len(q.list)-1]
	return last
}

// set adds the file to the queue and reports whether it is the first one now.
func (q *queue) set(id *record.ID, at time.Time) (first bool) {
	if d := q.at[id]; d != nil {
		d.at = at
		heap.Fix(q, d.index)
		return d.index == 0
	}
	d := &deadline{id: id, at: at}
	q.at[id] = d
	heap.Push(q, d)
	return d.index == 0
}

func (q *queue) remove(id *record.ID) {
	if d := q.at[id]; d != nil {
		heap.Remove(q, d.index)
		delete(q.at, id)
	}
}

// take removes up to n files whose time has come.
func (q *queue) take(now time.Time, n int) []*record.ID {
	var ids []*record.ID
	for len(ids) < n && len(q.list) > 0 && !q.list[0].at.After(now) {
		ids = append(ids, q.list[0].id)
		q.remove(q.list[0].id)
	}
	return ids
}

// next returns the earliest time.
func (q *queue) next() (time.Time, bool) {
	if len(q.list) == 0 {
		return time.Time{}, false
	}
	return q.list[0].at, true
}

// A Step is a stage in the expiry of a file.
type Step string

// The steps. With the first the payload is no longer served and the record stays: in
// the view at once, and in the file of a group when its age is proven or the clock is
// steady.
const (
	Withheld Step = "withheld"
	Archived Step = "archived" // moved from the spool to the archive
	Removed  Step = "removed"  // from the archive
)

// Aged is a step that was taken or will be.
type Aged struct {
	Step  Step
	File  string       // its name in the view or, for Removed, in the archive
	Group grouping.Key // zero for a dropped file
	Since time.Time    // when the step was or will be due
	Err   error        // why the step failed; it is retried
}

const (
	sweepBatch = 128              // files that expire under one hold of the lock
	sweepWrite = 256              // files that are written or moved between two looks at the clock
	sweepRest  = 30 * time.Second // maximum time between two looks at the clock
	sweepRetry = time.Minute
	pruneEvery = time.Hour
)

// Age expires, archives and deletes files when they are due, until ctx ends. It costs
// nothing if no file has a lifetime. It reports each step to tell, also from several
// goroutines at once. It must not run twice for a Store. Without it no file expires
// while the Store is open.
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

// Expire takes the steps that are due now and returns. It trusts the clock. The error
// joins those that were reported.
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

// sweep takes the steps that are due and returns the time until the next one.
func (s *Store) sweep(ctx context.Context, r reading, tell func(Aged)) time.Duration {
	if r.back {
		s.recheckAfterClockJump(r.now)
	}
	for ctx.Err() == nil {
		n := s.withholdDue(r.now, tell)
		if n > 0 {
			continue // expire all in the view before files are written
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

// withholdDue removes the payload of some expired files from the view.
func (s *Store) withholdDue(now time.Time, tell func(Aged)) int {
	n, updates := s.withholdSome(now)
	for i := range updates {
		if f := updates[i].New.File; f.Group().IsZero() {
			tell(Aged{Step: Withheld, File: f.Name(), Since: f.Expired()})
		}
	}
	return n
}

func (s *Store) withholdSome(now time.Time) (n int, updates []merge.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.due.dies.take(now, sweepBatch)
	for _, id := range ids {
		f := s.merge.ByID(id)
		if at, ok := s.opts.Lifetimes.ExpiresAt(f); ok {
			parts := s.View().Parts(f)
			updates = append(updates, merge.Update{Old: f, OldParts: parts, New: record.Withhold(f, parts, at)})
		}
	}
	if len(updates) > 0 {
		s.publish(updates)
	}
	return len(ids), updates
}

// writePending records the expiry in the files of some groups. It returns the number
// of attempts.
func (s *Store) writePending(ctx context.Context, r reading, tell func(Aged)) int {
	files := s.toRewrite(r)
	var busy atomic.Bool
	var group errgroup.Group
	group.SetLimit(4) // pushes wait for the disk as well
	for _, f := range files {
		group.Go(func() error {
			if ctx.Err() != nil || busy.Load() {
				s.retryLater(f.ID())
				return nil
			}
			since, err := s.writeWithheld(f.Group())
			switch {
			case err != nil:
				busy.Store(errors.Is(err, ErrBusy)) // then the others would wait for the same
				s.retryLater(f.ID())
			case !since.IsZero():
				s.rest(f.ID())
			}
			if err != nil || !since.IsZero() {
				tell(Aged{Step: Withheld, File: f.Name(), Group: f.Group(), Since: f.Expired(), Err: err})
			}
			return nil
		})
	}
	_ = group.Wait() // each has reported its error
	return len(files)
}

// toRewrite returns files of groups that have expired in the view only.
func (s *Store) toRewrite(r reading) []*record.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.due.writable(sweepWrite, r)
	files := make([]*record.File, len(ids))
	for i, id := range ids {
		files[i] = s.merge.ByID(id)
	}
	return files
}

// retryLater schedules the next attempt to write a file.
func (s *Store) retryLater(id *record.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.due.pending[id]; ok {
		s.due.wait(id, time.Now().Add(sweepRetry))
	}
}

// rest delays the next rewrite of a file.
func (s *Store) rest(id *record.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.merge.ByID(id) != nil {
		s.due.rests.set(id, time.Now().Add(rewriteRest))
	}
}

// untilNext returns the time until the next step.
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

// recheckAfterClockJump reads files again that have expired in the view only, after
// the clock was set back.
func (s *Store) recheckAfterClockJump(now time.Time) {
	updates, sources := s.forget(now)
	for _, src := range sources {
		var names []string
		for i := range updates {
			if base, ok := src.base(updates[i].New.File); ok {
				names = append(names, base)
			}
		}
		if len(names) > 0 {
			_, _ = src.Reload(names...) // the view reports errors
		}
	}
}

// forget marks files that have expired in the view only as unread. It returns them and
// all sources.
func (s *Store) forget(now time.Time) (updates []merge.Update, sources []*Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.merge.All() {
		if f.Ended() == nil || f.Ended().Since <= record.Seconds(now) || !f.Ended().Pending && f.Fault() == nil {
			continue
		}
		again := f.Unread()
		parts := s.View().Parts(f)
		again.Parts = slices.Clone(parts)
		updates = append(updates, merge.Update{Old: f, OldParts: parts, New: again})
	}
	if len(updates) > 0 {
		s.publish(updates)
	}
	return updates, append([]*Source{s.spool}, s.sources...)
}

// Ageing returns the next step of each file that has a lifetime, the earliest first.
func (s *Store) Ageing() []Aged {
	var list []Aged
	for f := range s.View().Files() {
		a := Aged{Step: Withheld, File: f.Name(), Group: f.Group()}
		ok := false
		if f.Ended() != nil && f.Ended().Pending {
			a.Since, ok = f.Expired(), true
		} else if a.Since, ok = s.opts.Lifetimes.ExpiresAt(f); !ok {
			a.Step = Archived
			a.Since, ok = s.opts.Lifetimes.ArchivesAt(f)
		}
		if ok {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b Aged) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.File, b.File)) })
	return list
}

// writeWithheld writes the file of a group that has expired in the view. The file
// keeps its mtime, which is the time of the push.
func (s *Store) writeWithheld(g grouping.Key) (since time.Time, err error) {
	defer s.groups.lock(g.FileName())()
	at, err := s.commit(g, false, func(old *record.Content) (*record.Content, error) {
		if old == nil || old.File.Ended() == nil || !old.File.Ended().Pending {
			return nil, errNothing // pushed to or deleted
		}
		since = old.File.Expired()
		return old.Rewritten(), nil
	})
	switch {
	case errors.Is(err, errNothing):
		return time.Time{}, nil
	case err == nil:
		err = s.syncDirectory(at)
	}
	return since, disk.Wrap("withholding the payload of group "+g.String(), err)
}

// errNotExpired is the error of a restore of a group that has not expired.
var errNotExpired = fmt.Errorf("the group has not expired: %w", fs.ErrNotExist)

// Restore serves an expired group again. Its push times are kept. It does not expire
// again until the next push, which restarts the lifetime. If the group does not exist
// or has not expired the error wraps fs.ErrNotExist. If its payload conflicts with
// another file the error is a *Conflict. Otherwise the guarantees are those of
// Replace.
func (s *Store) Restore(g grouping.Key) error {
	at, err := func() (pendingSync, error) {
		defer s.groups.lock(g.FileName())()
		return s.commit(g, true, func(old *record.Content) (*record.Content, error) {
			if old == nil || old.File.Ended() == nil {
				return nil, errNotExpired
			}
			return record.Revive(old)
		})
	}()
	if err == nil {
		err = s.syncDirectory(at)
	}
	var clash *record.Conflict
	if errors.As(err, &clash) {
		return err
	}
	return disk.Wrap("restoring group "+g.String(), err)
}
