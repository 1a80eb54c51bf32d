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
// A jump forward takes effect only after the new time has been stable for a while,
// because it may be right, as after a suspend. A jump back takes effect at once,
// because it ends no lifetime. The first time after the start cannot be verified. It
// takes effect at once in the view, which can be reverted, and only after that while
// in files. For pushes to this Store the monotonic clock proves the age, see due.
const (
	clockConfirm = 5 * time.Minute
	clockSlack   = time.Minute // maximum difference of the two clocks between two looks
)

// lifetimeClock is the clock for lifetimes. It is safe for concurrent use.
type lifetimeClock struct {
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

func newLifetimeClock(wall func() time.Time) *lifetimeClock {
	return &lifetimeClock{wall: wall, start: time.Now(), trusted: wall().Round(0)}
}

// reading is the result of a look at the clock.
type reading struct {
	now     time.Time
	stable  bool // no jump for long enough
	trusted bool // set by trust
	back    bool // jumped back since the last look
	forward bool // jumped forward since the last look
}

// now returns the time for lifetimes.
func (c *lifetimeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = c.read()
	return c.seen.now
}

// look returns the time and the jumps since the last look.
func (c *lifetimeClock) look() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.read()
	c.seen = reading{}
	return r
}

// trust makes the clock of the host take effect as it is.
func (c *lifetimeClock) trust() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.elapsed, c.trusted, c.jump = time.Since(c.start), c.wall().Round(0), 0
	return reading{now: c.trusted, stable: true, trusted: true}
}

func (c *lifetimeClock) read() reading {
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
	r.stable = c.jump == 0 && c.elapsed-c.stableSince >= clockConfirm
	return r
}

// due has queues of the times at which files expire and are archived, and of expired
// files that must be rewritten. A change of a file costs the logarithm of their
// number, and nothing if no file has a lifetime. Store.mu guards it.
//
// expiresAt and archivesAt have times of the host's clock, all others those of the
// monotonic clock.
type due struct {
	expiresAt, archivesAt queue
	pending               map[*record.ID]time.Time // files to rewrite, with the earliest time after a failure
	wake                  chan struct{}            // gets a value when the next time becomes earlier

	proofs   map[*record.ID]proof // pushes to this Store in groups with a lifetime
	proven   queue                // files of pending, with the time at which their age is proven
	cooldown queue                // files that were just rewritten, with the earliest time of the next rewrite
	budget   budget
}

// A proof is the time at which the lifetime of a push has ended by the monotonic
// clock.
type proof struct {
	push float64 // the time of the push in the file
	at   time.Time
}

func newDue() due {
	return due{
		expiresAt: newQueue(), archivesAt: newQueue(), pending: map[*record.ID]time.Time{}, wake: make(chan struct{}, 1),
		proofs: map[*record.ID]proof{}, proven: newQueue(), cooldown: newQueue(),
	}
}

// A file is rewritten when its lifetime has ended, at most once every rewriteInterval.
// Groups with short lifetimes share a budget, which keeps the number of rewrites well
// below that of pushes.
const (
	rewriteInterval = 30 * time.Second
	rewriteBurst    = 256
	rewriteEach     = 50 * time.Millisecond
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
		d.expiresAt.remove(u.Old.ID())
		d.archivesAt.remove(u.Old.ID())
		d.cooldown.remove(u.Old.ID())
		d.cancelRewrite(u.Old.ID())
	}
	if u.New == nil {
		return
	}
	f := u.New.File
	first := false
	at, ok := l.ExpiresAt(f)
	if ok {
		first = d.expiresAt.set(f.ID(), at)
	} else {
		d.expiresAt.remove(f.ID())
	}
	d.noteProof(f, u.New.Fresh, at, ok)
	if at, ok := l.ArchivesAt(f); ok {
		first = d.archivesAt.set(f.ID(), at) || first
	} else {
		d.archivesAt.remove(f.ID())
	}
	if f.Ended() != nil && f.Ended().Pending {
		if _, ok := d.pending[f.ID()]; !ok {
			d.scheduleRewrite(f.ID(), time.Time{})
			first = true
		}
	} else {
		delete(d.pending, f.ID())
		d.proven.remove(f.ID())
	}
	if first {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

// noteProof records when the age of a push to this Store is proven, if it has a
// lifetime.
func (d *due) noteProof(f *record.File, fresh bool, at time.Time, expires bool) {
	switch {
	case expires && fresh:
		d.proofs[f.ID()] = proof{f.Pushed(), time.Now().Add(at.Sub(f.LastPush()))}
	case len(d.proofs) == 0:
	case f.Ended() != nil && !f.Ended().Pending, f.Ended() == nil && !expires, d.proofs[f.ID()].push != f.Pushed():
		delete(d.proofs, f.ID()) // rewritten, without a lifetime, or pushed to by another process
	}
}

// scheduleRewrite schedules the rewrite of a file, not before that time.
func (d *due) scheduleRewrite(id *record.ID, notBefore time.Time) {
	d.pending[id] = notBefore
	x, ok := d.proofs[id]
	if !ok {
		return
	}
	at := x.at
	if notBefore.After(at) {
		at = notBefore
	}
	if next := d.cooldown.at[id]; next != nil && next.at.After(at) {
		at = next.at
	}
	d.proven.set(id, at)
}

// cancelRewrite cancels the rewrite of a file.
func (d *due) cancelRewrite(id *record.ID) {
	delete(d.pending, id)
	delete(d.proofs, id)
	d.proven.remove(id)
}

// writable returns up to n files that may be rewritten now: those whose age is proven
// and, if the clock is stable, all others that are due. With a trusted clock all
// files may be.
func (d *due) writable(n int, r reading) []*record.ID {
	now := time.Now()
	for len(d.cooldown.take(now, n)) > 0 { // delete those in the past
	}
	d.budget.refill(now)
	var ids []*record.ID
	if !r.stable {
		for _, id := range d.proven.take(now, min(n, d.budget.left)) {
			if next := d.cooldown.at[id]; next != nil { // rewritten after it was queued
				d.proven.set(id, next.at)
				continue
			}
			d.budget.left--
			ids = append(ids, id)
		}
		return ids
	}
	for id, notBefore := range d.pending {
		_, isRecent := d.cooldown.at[id]
		_, hasProof := d.proofs[id]
		switch {
		case notBefore.After(now):
			continue
		case r.trusted:
		case isRecent, hasProof && d.budget.left == 0:
			continue
		case hasProof:
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

// A Stage is a step in the expiry of a file.
type Stage string

// The stages. With the first the payload is excluded and the record stays: in the view
// at once, and in the file of a group when its age is proven or the clock is stable.
const (
	Withheld Stage = "withheld"
	Archived Stage = "archived" // moved from the spool to the archive
	Removed  Stage = "removed"  // from the archive
)

// An ExpiryEvent is a step that was taken or will be.
type ExpiryEvent struct {
	Stage Stage
	File  string       // its name in the view or, for Removed, in the archive
	Group grouping.Key // zero for a dropped file
	Since time.Time    // when the step was or will be due
	Err   error        // why the step failed; it is retried
}

const (
	sweepBatch    = 128              // files that expire under one hold of the lock
	sweepWrite    = 256              // files that are written or moved between two looks at the clock
	sweepInterval = 30 * time.Second // maximum time between two looks at the clock
	sweepRetry    = time.Minute
	pruneEvery    = time.Hour
)

// RunExpiry expires, archives and deletes files when they are due, until ctx ends. It
// costs nothing if no file has a lifetime. It passes each step to report, also from
// several goroutines at once. It must not run twice for a Store. Without it no file
// expires while the Store is open.
func (s *Store) RunExpiry(ctx context.Context, report func(ExpiryEvent)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.due.wake:
		}
		timer.Reset(s.sweep(ctx, s.clock.look(), report))
	}
}

// Expire takes the steps that are due now and returns. It trusts the clock. The error
// joins those that were reported.
func (s *Store) Expire(ctx context.Context, report func(ExpiryEvent)) error {
	var errs []error
	done := make(chan ExpiryEvent)
	var group sync.WaitGroup
	group.Go(func() {
		for a := range done {
			if a.Err != nil {
				errs = append(errs, a.Err)
			}
			report(a)
		}
	})
	func() {
		defer close(done)
		s.sweep(ctx, s.clock.trust(), func(a ExpiryEvent) { done <- a })
	}()
	group.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// sweep takes the steps that are due and returns the time until the next one.
func (s *Store) sweep(ctx context.Context, r reading, report func(ExpiryEvent)) time.Duration {
	if r.back {
		s.recheckAfterClockJump(r.now)
	}
	for ctx.Err() == nil {
		n := s.withholdDue(r.now, report)
		if n > 0 {
			continue // expire all in the view before files are written
		}
		n += s.writePending(ctx, r, report)
		if r.stable {
			n += s.archiveDue(ctx, r.now, report)
		}
		if n == 0 {
			break
		}
	}
	if r.stable {
		s.pruneArchive(r.now, report)
	}
	return s.untilNext(r)
}

// withholdDue removes the payload of some expired files from the view.
func (s *Store) withholdDue(now time.Time, report func(ExpiryEvent)) int {
	n, updates := s.withholdSome(now)
	for i := range updates {
		if f := updates[i].New.File; f.Group().IsZero() {
			report(ExpiryEvent{Stage: Withheld, File: f.Name(), Since: f.Expired()})
		}
	}
	return n
}

func (s *Store) withholdSome(now time.Time) (n int, updates []merge.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.due.expiresAt.take(now, sweepBatch)
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
func (s *Store) writePending(ctx context.Context, r reading, report func(ExpiryEvent)) int {
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
				s.delayRewrite(f.ID())
			}
			if err != nil || !since.IsZero() {
				report(ExpiryEvent{Stage: Withheld, File: f.Name(), Group: f.Group(), Since: f.Expired(), Err: err})
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
		s.due.scheduleRewrite(id, time.Now().Add(sweepRetry))
	}
}

// delayRewrite delays the next rewrite of a file.
func (s *Store) delayRewrite(id *record.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.merge.ByID(id) != nil {
		s.due.cooldown.set(id, time.Now().Add(rewriteInterval))
	}
}

// untilNext returns the time until the next step.
func (s *Store) untilNext(r reading) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := pruneEvery
	if len(s.due.pending) > 0 {
		wait = sweepInterval
	}
	if at, ok := s.due.untilWritable(); ok {
		wait = min(wait, at)
	}
	for i, q := range [...]*queue{&s.due.expiresAt, &s.due.archivesAt} {
		if at, ok := q.next(); ok {
			wait = min(wait, sweepInterval)
			if i == 0 || r.stable {
				wait = min(wait, max(at.Sub(r.now), time.Millisecond))
			}
		}
	}
	return wait
}

// recheckAfterClockJump reads files again that have expired in the view only, after
// the clock was set back.
func (s *Store) recheckAfterClockJump(now time.Time) {
	updates, sources := s.markUnread(now)
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

// markUnread marks files that have expired in the view only as unread. It returns
// them and all sources.
func (s *Store) markUnread(now time.Time) (updates []merge.Update, sources []*Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.merge.All() {
		if f.Ended() == nil || f.Ended().Since <= record.Seconds(now) || !f.Ended().Pending && f.Fault() == nil {
			continue
		}
		unread := f.Unread()
		parts := s.View().Parts(f)
		unread.Parts = slices.Clone(parts)
		updates = append(updates, merge.Update{Old: f, OldParts: parts, New: unread})
	}
	if len(updates) > 0 {
		s.publish(updates)
	}
	return updates, append([]*Source{s.spool}, s.sources...)
}

// ExpirySchedule returns the next step of each file that has a lifetime, the earliest
// first.
func (s *Store) ExpirySchedule() []ExpiryEvent {
	var list []ExpiryEvent
	for f := range s.View().Files() {
		a := ExpiryEvent{Stage: Withheld, File: f.Name(), Group: f.Group()}
		ok := false
		if f.Ended() != nil && f.Ended().Pending {
			a.Since, ok = f.Expired(), true
		} else if a.Since, ok = s.opts.Lifetimes.ExpiresAt(f); !ok {
			a.Stage = Archived
			a.Since, ok = s.opts.Lifetimes.ArchivesAt(f)
		}
		if ok {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b ExpiryEvent) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.File, b.File)) })
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
	var conflict *record.Conflict
	if errors.As(err, &conflict) {
		return err
	}
	return disk.Wrap("restoring group "+g.String(), err)
}
