package watcher

import (
	"container/heap"
	"time"
)

// pending is the set of names to reload, each with its due time. It is not safe for
// concurrent use; the inbox guards it.
type pending struct {
	byName map[string]*entry
	queue  queue
}

type entry struct {
	name  string
	due   time.Time
	since time.Time // time of the first put
	tries int       // number of retries in a row
	index int       // in the queue
}

// put makes the name due at the given time, or earlier if it was. Further events
// never postpone a name. put reports whether the whole set is due earlier than
// before.
func (p *pending) put(name string, due time.Time, tries int) (sooner bool) {
	e := p.byName[name]
	switch {
	case e == nil:
		if p.byName == nil {
			p.byName = make(map[string]*entry)
		}
		e = &entry{name: name, due: due, since: time.Now()}
		p.byName[name] = e
		heap.Push(&p.queue, e)
	case due.Before(e.due):
		e.due = due
		heap.Fix(&p.queue, e.index)
	default:
		e.tries = max(e.tries, tries)
		return false
	}
	e.tries = max(e.tries, tries)
	return p.queue[0] == e
}

// dueAfterClose returns when a name is due whose writer has just closed the file. If
// the name waits for that, it is due at once, but with a minimum interval.
func (p *pending) dueAfterClose(name string, now, due time.Time) time.Time {
	e := p.byName[name]
	if e == nil || e.tries == 0 {
		return due
	}
	if soonest := e.since.Add(closeRetry(e.tries)); soonest.After(now) {
		return soonest
	}
	return now
}

// take removes and returns the names that are due.
func (p *pending) take(now time.Time) []*entry {
	var due []*entry
	for len(p.queue) > 0 && !now.Before(p.queue[0].due) {
		e := heap.Pop(&p.queue).(*entry)
		delete(p.byName, e.name)
		due = append(due, e)
	}
	return due
}

// next returns when the first name is due.
func (p *pending) next() (time.Time, bool) {
	if len(p.queue) == 0 {
		return time.Time{}, false
	}
	return p.queue[0].due, true
}

// queue is a heap, earliest first.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	old := *q
	n := len(old) - 1
	e := old[n]
	old[n] = nil
	*q = old[:n]
	return e
}
