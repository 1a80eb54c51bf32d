package filestore

import (
	"container/heap"
	"time"
)

// due is what is known of the times to come: when which file dies and leaves,
// the next one first, and which files have yet to be told that theirs is over.
// A change of a file costs the logarithm of their number, and nothing where no
// file has a lifetime. The lock of the Store guards it.
type due struct {
	dies, leaves queue
	pending      map[*ident]time.Time // and when to try, after a failure
	sooner       chan struct{}        // gets a value when there is something to do earlier than before
}

func newDue() due {
	return due{dies: queue{at: map[*ident]*deadline{}}, leaves: queue{at: map[*ident]*deadline{}}, pending: map[*ident]time.Time{}, sooner: make(chan struct{}, 1)}
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
		delete(d.pending, u.old.id)
	}
	if u.new == nil {
		return
	}
	f := u.new.file
	first := false
	if at, ok := l.dies(f); ok {
		first = d.dies.set(f.id, at)
	} else {
		d.dies.remove(f.id)
	}
	if at, ok := l.leaves(f); ok {
		first = d.leaves.set(f.id, at) || first
	} else {
		d.leaves.remove(f.id)
	}
	if f.age != nil && f.age.pending {
		if _, ok := d.pending[f.id]; !ok {
			d.pending[f.id] = time.Time{}
			first = true
		}
	} else {
		delete(d.pending, f.id)
	}
	if first {
		select {
		case d.sooner <- struct{}{}:
		default:
		}
	}
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
