package filestore

import (
	"errors"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// A rename waits while the journal of the file system is being written, and
// under load that is most of the time. So commits whose files are prepared are
// installed together: checked and renamed one after the other, and published as
// one view.

// prepared is a commit whose file is written and flushed.
type prepared struct {
	d         *directory
	tmp       *renameio.PendingFile
	name      string
	old, mine *File // what is at the name in the view; mine is nil if somebody else's
	oldParts  []part
	content   *content
	check     bool // against the rest of the spool
	checked   *precheck
	since     time.Time // when the change began

	gone replaced      // what was at the name
	wake chan struct{} // told once: installed, or to install what is queued
	done bool          // installed or refused; of whoever installs, then of its own commit
	err  error
}

// turns is the queue of prepared commits. Whoever finds nobody at work installs
// what is queued, his own first, and hands what has come since, or was left, to the
// first in the queue. The others sleep until they are done: for each to come and
// see under a mutex would take a change of threads for each.
type turns struct {
	mu    sync.Mutex
	queue []*prepared
	busy  bool
}

// enter queues a commit and returns when it is done or has to install.
func (t *turns) enter(p *prepared) {
	p.wake = make(chan struct{}, 1)
	t.mu.Lock()
	t.queue = append(t.queue, p)
	wait := t.busy
	t.busy = true
	t.mu.Unlock()
	if wait {
		<-p.wake
	}
}

func (t *turns) take() []*prepared {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch := t.queue
	t.queue = nil
	return batch
}

// putBack queues what is not done yet before what came since.
func (t *turns) putBack(left []*prepared) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(left, t.queue...)
}

// leave hands the turn to the first in the queue.
func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.busy = false
		return
	}
	t.queue[0].wake <- struct{}{}
}

// install makes a prepared file the group's, if it may be, and publishes it.
func (s *Store) install(p *prepared) error {
	s.turns.enter(p)
	if p.done {
		return p.err
	}
	defer s.turns.leave()
	s.installQueued(p)
	return p.err
}

// installQueued installs what is queued, of which our own comes first and is done
// in any case. Another process is waited for before the queue is taken, so what
// comes meanwhile shares the wait.
func (s *Store) installQueued(own *prepared) {
	var batch []*prepared
	var ended bool
	defer func() {
		if batch == nil {
			batch = s.turns.take()
		}
		var left []*prepared
		for _, p := range batch {
			if !ended && !p.done { // a panic
				p.done, p.err = true, errAgain
			}
			switch {
			case !p.done:
				left = append(left, p)
			case p != own:
				p.wake <- struct{}{}
			}
		}
		s.turns.putBack(left)
	}()
	h, err := s.exclusion.exclude(own.d, own.since)
	batch = s.turns.take()
	if err != nil {
		for _, p := range batch {
			if p == own || p.d == own.d && (!errors.Is(err, ErrBusy) || s.exclusion.sharedFailure(p.since)) {
				p.done, p.err = true, err
			}
		}
	} else {
		defer h.release()
		s.installAll(batch)
	}
	ended = true
}

// installAll installs what of the batch does not touch each other. The rest is
// for another turn. No other change is under way.
func (s *Store) installAll(batch []*prepared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := batch[0].d
	if d.current() != nil {
		for _, p := range batch {
			if p.d == d {
				p.done, p.err = true, errReplaced
			}
		}
		return
	}

	var fits []*prepared
	seen := newContact()
	for _, p := range batch {
		if p.d != d {
			continue
		}
		// A large one is installed alone, so that the others wait for it no longer than they must.
		large := len(p.content.parts) > checkAtOnce
		if large && len(fits) > 0 || len(batch) > 1 && seen.touches(p.content) {
			continue
		}
		if p.err = s.mayInstall(p, fits); p.err == nil {
			fits = append(fits, p)
		} else {
			p.done = true
		}
		if large {
			break
		}
	}
	s.renameAll(fits)

	updates := make([]update, 0, len(fits))
	for _, p := range fits {
		if p.err == nil {
			updates = append(updates, update{old: p.old, oldParts: p.oldParts, new: p.content})
		}
	}
	if len(updates) > 0 {
		s.publish(updates)
	}
	for _, p := range fits {
		p.done = true
	}
}

// renameAll puts the files in their places. One after the other: side by side they
// would wait for each other, and what takes long, to free what they replace, is put
// off.
func (s *Store) renameAll(fits []*prepared) {
	for _, p := range fits {
		var st unix.Stat_t
		st, p.gone, p.err = p.d.install(p.tmp, p.name)
		p.content.file.stamped(stampOf(&st))
	}
}

// mayInstall decides, under the lock of the Store and the one between processes,
// whether a prepared file may be renamed to its name, beside those that are
// going to be installed with it.
func (s *Store) mayInstall(p *prepared, with []*prepared) error {
	if s.merge.file(p.name) != p.old {
		return errAgain
	}
	at, _, err := statIn(p.d, p.name)
	switch {
	case errors.Is(err, unix.ENOENT):
		if p.old != nil {
			return errAgain
		}
	case err == nil && s.reader.isUnfit(p.name, at):
		// What is there is half-written or broken just now. The group is what was
		// good last, and that is what this commit builds on.
	case err == nil && p.old == nil, err == nil && p.old.stamp.ino != 0 && withoutYoung(p.old.stamp) != withoutYoung(at):
		return errAgain
	}
	if err := s.roomFor(p, with); err != nil {
		return err
	}
	if s.opts.Only == nil && !s.merge.mayHaveHelp(p.content, p.mine) {
		return errAgain
	}
	if p.check && !s.opts.Unchecked {
		if x := s.merge.check(p.content, p.oldParts, p.checked); x != nil {
			return x
		}
	}
	return nil
}
