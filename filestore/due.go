package filestore

import (
	"container/heap"
	"time"
)

// due is what is known of the times to come: when which file dies and leaves,
// the next one first, and which files have yet to be told that theirs is over.
// A change of a file costs the logarithm of their number, and nothing where no
// file has a lifetime. The lock of the Store guards it.
//
// dies and leaves have times of the host's clock, all else those of the monotonic
// clock.
type due struct {
	dies, leaves queue
	pending      map[*ident]time.Time // files to rewrite, and not before when, after a failure
	sooner       chan struct{}        // gets a value when there is something to do earlier than before

	taken  map[*ident]proof // the pushes to groups with a lifetime that this Store took
	proven queue            // those of pending whose age is proven, or will be
	rests  queue            // files that were rewritten a short time ago, until when they are not again
	budget budget
}

// A proof says when the lifetime of a push has ended for certain, whatever the clock
// of the host says.
type proof struct {
	push float64 // the time of the push in the file
	at   time.Time
}

func newDue() due {
	return due{
		dies: newQueue(), leaves: newQueue(), pending: map[*ident]time.Time{}, sooner: make(chan struct{}, 1),
		taken: map[*ident]proof{}, proven: newQueue(), rests: newQueue(),
	}
}

// A file is rewritten when its lifetime has ended, and again after its next push, but
// not more often than each rewriteRest. Many groups with short lifetimes share a
// budget, so that what is rewritten stays little beside what is pushed.
const (
	rewriteRest  = 30 * time.Second
	rewriteBurst = 256
	rewriteEach  = 50 * time.Millisecond
)

// budget bounds how many files are rewritten whose groups are pushed to here.
type budget struct {
	left int
	at   time.Time // when left was brought up to date
}

// refill adds what has come in since the last time.
func (b *budget) refill(now time.Time) {
	if b.at.IsZero() {
		b.left, b.at = rewriteBurst, now
	}
	n := int(now.Sub(b.at) / rewriteEach)
	b.at = b.at.Add(time.Duration(n) * rewriteEach)
	b.left = min(b.left+n, rewriteBurst)
}

// noteAll takes note of updates that the merge has seen. The lock of the Store is
// held.
func (s *Store) noteAll(updates []update) {
	for i := range updates {
		s.due.note(&updates[i], &s.opts.Lifetimes)
	}
}

// note takes the times of a file after an update.
func (d *due) note(u *update, l *Lifetimes) {
	if u.old != nil && (u.new == nil || u.new.file.id != u.old.id) {
		d.dies.remove(u.old.id)
		d.leaves.remove(u.old.id)
		d.rests.remove(u.old.id)
		d.written(u.old.id)
	}
	if u.new == nil {
		return
	}
	f := u.new.file
	first := false
	at, ok := l.dies(f)
	if ok {
		first = d.dies.set(f.id, at)
	} else {
		d.dies.remove(f.id)
	}
	d.noteTaken(f, u.new.fresh, at, ok)
	if at, ok := l.leaves(f); ok {
		first = d.leaves.set(f.id, at) || first
	} else {
		d.leaves.remove(f.id)
	}
	if f.age != nil && f.age.pending {
		if _, ok := d.pending[f.id]; !ok {
			d.wait(f.id, time.Time{})
			first = true
		}
	} else {
		delete(d.pending, f.id)
		d.proven.remove(f.id)
	}
	if first {
		select {
		case d.sooner <- struct{}{}:
		default:
		}
	}
}

// noteTaken notes when the age of a push is proven, if this Store takes it and its
// lifetime ends.
func (d *due) noteTaken(f *File, fresh bool, at time.Time, dies bool) {
	switch {
	case dies && fresh:
		d.taken[f.id] = proof{f.push, time.Now().Add(at.Sub(f.LastPush()))}
	case len(d.taken) == 0:
	case f.age != nil && !f.age.pending, f.age == nil && !dies, d.taken[f.id].push != f.push:
		delete(d.taken, f.id) // rewritten, without a lifetime, or pushed to by another process
	}
}

// wait has a file rewritten, but not before that time.
func (d *due) wait(id *ident, notBefore time.Time) {
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

// written forgets that a file was to be rewritten.
func (d *due) written(id *ident) {
	delete(d.pending, id)
	delete(d.taken, id)
	d.proven.remove(id)
}

// writable returns up to n files that may be rewritten now: those whose age is
// proven and, if the clock is steady, all others that are due. A trusted clock
// leaves nothing for later.
func (d *due) writable(n int, r reading) []*ident {
	now := time.Now()
	for len(d.rests.take(now, n)) > 0 { // over
	}
	d.budget.refill(now)
	var ids []*ident
	if !r.steady {
		for _, id := range d.proven.take(now, min(n, d.budget.left)) {
			if rest := d.rests.at[id]; rest != nil { // since it came into the queue
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

// untilWritable returns for how long no proven file is to be rewritten.
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
	id    *ident
	at    time.Time
	index int
}

// queue is a set of files, each with a time, the earliest first.
type queue struct {
	list []*deadline
	at   map[*ident]*deadline
}

func newQueue() queue { return queue{at: map[*ident]*deadline{}} }

// Len and the others are for container/heap.
func (q *queue) Len() int { return len(q.list) }

func (q *queue) Less(i, j int) bool {
	if n := q.list[i].at.Compare(q.list[j].at); n != 0 {
		return n < 0
	}
	return compareIdent(q.list[i].id, q.list[j].id) < 0 // neighbours in the merge together
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

// set puts the file into the queue and reports whether it is the first now.
func (q *queue) set(id *ident, at time.Time) (first bool) {
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

func (q *queue) remove(id *ident) {
	if d := q.at[id]; d != nil {
		heap.Remove(q, d.index)
		delete(q.at, id)
	}
}

// take removes up to n files whose time has come.
func (q *queue) take(now time.Time, n int) []*ident {
	var ids []*ident
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
