package watcher

import (
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// An inbox connects the goroutine that listens to the kernel with the one that calls
// the Target. The first only adds to it and never waits.
type inbox struct {
	dir    string
	match  func(string) bool
	settle time.Duration

	// wake holds a token when there is something new.
	wake chan struct{}

	mu      sync.Mutex
	pending pending
	follows bool      // the time of events is recorded in eventAt
	eventAt time.Time // first event since clearEvent; zero without one
	trouble trouble   // the first one reported
}

// trouble is a reason why events may be lost. The zero value is none.
type trouble struct {
	cause cause
	err   error // the details, never nil
}

var (
	errEnded   = errors.New("the watch ended by itself")
	errChanged = errors.New("the directory was removed, moved or given another mode")
)

func newInbox(dir string, match func(string) bool, settle time.Duration) *inbox {
	return &inbox{dir: dir, match: match, settle: settle, wake: make(chan struct{}, 1)}
}

// listen reads events of the kernel until their channel is closed.
// This is the loop that must keep up: nothing in it waits for a file or for the
// Target.
func (b *inbox) listen(events <-chan fsnotify.Event, errs <-chan error, m *metrics) {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				b.report(causeError, errEnded)
				return
			}
			m.events.Inc()
			b.receive(e)
		case err, ok := <-errs:
			switch {
			case !ok:
				errs = nil // closed just before the other
			case errors.Is(err, fsnotify.ErrEventOverflow):
				m.overflows.Inc()
				b.report(causeOverflow, err)
			default:
				b.report(causeError, err)
			}
		}
	}
}

// receive takes one event. Which kind of event it was does not matter for a
// file: a change of mode is the only sign that an unreadable file has become
// readable, and of a rename we see either half alone.
func (b *inbox) receive(e fsnotify.Event) {
	if e.Name == b.dir {
		// The directory itself was removed, moved away or given other permissions.
		if e.Op&(fsnotify.Remove|fsnotify.Rename|fsnotify.Chmod) != 0 {
			b.report(causeDirectory, errChanged)
		}
		return
	}
	b.noteEvent()
	name := filepath.Base(e.Name)
	if !b.match(name) {
		return
	}
	b.put(name, time.Now().Add(b.settle), 0)
}

// retry schedules a retry of a name, after this many attempts in a row.
func (b *inbox) retry(name string, tries int) {
	b.put(name, time.Now().Add(backoff(tries)), tries)
}

func (b *inbox) put(name string, due time.Time, tries int) {
	b.mu.Lock()
	sooner := b.pending.put(name, due, tries)
	b.mu.Unlock()
	if sooner {
		b.signal()
	}
}

// closed schedules a name whose writer has closed the file, or which was renamed
// into the directory. It must not wait.
func (b *inbox) closed(name string) {
	now := time.Now()
	b.mu.Lock()
	sooner := b.pending.put(name, b.pending.dueAfterClose(name, now, now.Add(b.settle)), 0)
	b.mu.Unlock()
	if sooner {
		b.signal()
	}
}

// follow starts to record the time of events.
func (b *inbox) follow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.follows = true
}

// noteEvent records that the directory had an event.
func (b *inbox) noteEvent() {
	b.mu.Lock()
	isNew := b.follows && b.eventAt.IsZero()
	if isNew {
		b.eventAt = time.Now()
	}
	b.mu.Unlock()
	if isNew {
		b.signal()
	}
}

// clearEvent waits for the next event.
func (b *inbox) clearEvent() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.eventAt = time.Time{}
}

// firstEvent returns the time of the first event since clearEvent, zero without one.
func (b *inbox) firstEvent() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.eventAt
}

// report records that events may be lost.
func (b *inbox) report(c cause, err error) {
	b.mu.Lock()
	isNew := b.trouble.cause == ""
	if isNew {
		b.trouble = trouble{c, err}
	}
	b.mu.Unlock()
	if isNew {
		b.signal()
	}
}

// forget drops a trouble that is being handled.
func (b *inbox) forget() {
	b.mu.Lock()
	b.trouble = trouble{}
	b.mu.Unlock()
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take removes and returns the names that are due.
func (b *inbox) take(now time.Time) []*entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pending.take(now)
}

// state returns the trouble and the time when the next name is due.
func (b *inbox) state() (t trouble, next time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, ok = b.pending.next()
	return b.trouble, next, ok
}

// len returns the number of waiting names.
func (b *inbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending.queue)
}
