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
// installed together: checked one after the other, renamed side by side, and
// published as one view.

// prepared is a commit whose file is written and flushed.
type prepared struct {
	d         *directory
	tmp       *renameio.PendingFile
	name      string
	old, mine *File // what is at the name in the view; mine is nil if somebody else's
	oldParts  []part
	content   *content
	check     bool // against the rest of the spool

	// Under the lock for turns.
	done bool
	err  error
}

// turns is the queue of prepared commits.
type turns struct {
	sync.Mutex // held by whoever installs

	mu    sync.Mutex
	queue []*prepared
}

func (t *turns) add(batch ...*prepared) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, batch...)
}

func (t *turns) take() []*prepared {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch := t.queue
	t.queue = nil
	return batch
}

// install makes a prepared file the group's, if it may be, and publishes it.
func (s *Store) install(p *prepared) error {
	s.turns.add(p)
	s.turns.Lock()
	defer s.turns.Unlock()
	for !p.done {
		batch := s.turns.take()
		if len(batch) == 0 {
			return errAgain // whoever had it did not come to its end
		}
		s.turns.add(s.installAll(batch)...)
	}
	return p.err
}

// installAll installs what of the batch does not touch each other, and returns
// what is left for another turn.
func (s *Store) installAll(batch []*prepared) (left []*prepared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := batch[0].d
	if err := s.mayCommit(d); err != nil {
		for _, p := range batch {
			if p.d != d {
				left = append(left, p)
				continue
			}
			p.done, p.err = true, err
		}
		return left
	}
	defer d.unlock()

	var fits []*prepared
	seen := contact{types: map[string]desc{}, hashes: map[uint64]struct{}{}}
	for _, p := range batch {
		switch {
		case p.d != d || len(batch) > 1 && s.merge.touches(&seen, p.content):
			left = append(left, p)
		default:
			if p.err = s.mayInstall(p, fits); p.err == nil {
				fits = append(fits, p)
			} else {
				p.done = true
			}
		}
	}
	s.renameAll(fits)

	updates := make([]update, 0, len(fits))
	for _, p := range fits {
		if p.done = true; p.err == nil {
			updates = append(updates, update{old: p.old, oldParts: p.oldParts, new: p.content})
		}
	}
	if len(updates) > 0 {
		s.publish(updates)
	}
	return left
}

func (s *Store) mayCommit(d *directory) error {
	if d.current() != nil {
		return errReplaced
	}
	return d.lock()
}

// renameAll puts the files in their places, side by side.
func (s *Store) renameAll(fits []*prepared) {
	rename := func(p *prepared) {
		at, err := p.d.install(p.tmp, p.name)
		p.err = err
		p.content.file.stamp, p.content.file.mtime = at, time.Unix(0, at.mtime)
	}
	if len(fits) == 1 {
		rename(fits[0])
		return
	}
	var group sync.WaitGroup
	for _, p := range fits {
		group.Go(func() { rename(p) })
	}
	group.Wait()
}

// mayInstall decides, under the lock of the Store and the one between processes,
// whether a prepared file may be renamed to its name, beside those that are
// going to be installed with it.
func (s *Store) mayInstall(p *prepared, with []*prepared) error {
	if s.merge.file(p.name) != p.old {
		return errAgain
	}
	at, _, err := p.d.stat(p.name)
	switch {
	case errors.Is(err, unix.ENOENT):
		if p.old != nil {
			return errAgain
		}
	case err == nil && s.isUnfit(p.name, at):
		// What is there is half-written or broken just now. The group is what was
		// good last, and that is what this commit builds on.
	case err == nil && p.old == nil, err == nil && p.old.stamp.ino != 0 && withoutYoung(p.old.stamp) != withoutYoung(at):
		return errAgain
	}
	if err := s.roomFor(p, with); err != nil {
		return err
	}
	if !p.content.settled && s.opts.Only == nil && !s.merge.helpAgreed(p.content, p.mine) {
		return errAgain
	}
	if p.check && !s.opts.Unchecked {
		if x := s.merge.check(p.content, p.oldParts); x != nil {
			return x
		}
	}
	return nil
}

// contact is what a batch has of families and metrics so far.
type contact struct {
	types     map[string]desc
	hashes    map[uint64]struct{}
	composite bool // a histogram or summary is among them
}

// touches reports whether the content could contradict the batch so far, by its
// types, texts, names or metrics. If not it is added to the batch.
func (m *merger) touches(seen *contact, c *content) bool {
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		if o, ok := seen.types[d.name]; ok && (typesClash(o.typ, d.typ) || o.help != d.help) {
			return true
		}
		if seen.composite || d.typ.composite() {
			for _, r := range relations(d.name) {
				if _, ok := seen.types[r.name]; ok {
					return true
				}
			}
		}
		for _, h := range c.parts[i].hashes {
			if _, ok := seen.hashes[h]; ok {
				return true
			}
		}
	}
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		seen.types[d.name] = d
		seen.composite = seen.composite || d.typ.composite()
		for _, h := range c.parts[i].hashes {
			seen.hashes[h] = struct{}{}
		}
	}
	return false
}
