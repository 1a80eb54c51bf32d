package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errAgain asks commit to start over: the ground has shifted.
var errAgain = errors.New("changed meanwhile")

// placed is a change that every View has and the disk may not have yet. The
// directory is in use until the flush.
type placed struct {
	d   *directory
	old replaced
}

// commit writes what plan makes of the group as it is. Encoding, writing and
// flushing the file happen outside of every lock that another group needs; the
// check, the rename and the new view happen under the one of the Store.
//
// The flush of what is returned is what is left to do.
func (s *Store) commit(g Group, check bool, plan func(old *content) (*content, error)) (placed, error) {
	name := g.FileName()
	since := s.groups.since(name)
	var giveUp time.Time
	for attempt := 0; ; attempt++ {
		if attempt == 3 {
			giveUp = time.Now().Add(commitPatience)
		} else if attempt > 3 {
			if time.Now().After(giveUp) {
				return placed{}, restless("the group changes too often: others write to it all the time")
			}
			// Whoever is at the file now may need a moment, and where he never rests
			// it takes many tries to come between two of his changes.
			time.Sleep(time.Duration(min(attempt, 5)) * time.Millisecond)
		}
		d, err := s.spool.inUse()
		if err != nil {
			return placed{}, err
		}
		at, err := s.try(d, name, since, check, plan)
		switch {
		case err == nil:
			return at, nil
		case errors.Is(err, errReplaced):
			_, err = s.spool.reopen(d)
		case errors.Is(err, errAgain):
			_, err = s.Reload(name)
		}
		if err != nil {
			return placed{}, err
		}
	}
}

// commitPatience is how long a commit tries to come between the changes that other
// processes make to its group.
const commitPatience = 10 * time.Second

// try is one attempt of commit, in a directory that is in use. It ends the use
// unless it succeeds. errAgain and errReplaced ask for another attempt.
func (s *Store) try(d *directory, name string, since time.Time, check bool, plan func(old *content) (*content, error)) (at placed, err error) {
	p := &prepared{d: d, name: name, check: check, since: since}
	defer func() {
		if at.d != nil {
			return
		}
		// Also after a panic, of the plan or of what follows.
		if p.tmp != nil {
			_ = p.tmp.Cleanup()
		}
		p.gone.letGo()()
		d.done()
	}()
	// The view, so as not to wait for those who are changing it. Whether this is
	// still the file is asked under the lock.
	v := s.View()
	old := v.File(name)
	var oldParts []part
	if old != nil {
		oldParts = v.parts(old)
	}
	mine := old
	if old != nil && old.group.IsZero() {
		mine = nil // somebody's file under our name: replaced, not read
	}
	var held *content
	if mine != nil {
		held = &content{file: mine, parts: oldParts}
	}
	c, err := plan(held)
	if err != nil {
		return placed{}, err
	}
	s.alignHelp(c, mine)
	data := c.encode()
	if int64(len(data)) > s.opts.MaxFileBytes {
		return placed{}, &SyntaxError{Reason: TooLarge, Msg: fmt.Sprintf("the group would take %d bytes, more than --spool.max-file-bytes=%d", len(data), s.opts.MaxFileBytes)}
	}
	c.holds(data)
	p.old, p.mine, p.oldParts, p.content = old, mine, oldParts, c
	if c.pretended {
		if err := s.pretend(p); err != nil {
			return placed{}, err
		}
		return placed{d: d}, nil
	}
	defer func() {
		if at.d != nil || err != nil { // no panic
			s.noteWrite(c.file.size, err)
		}
	}()
	if check && !s.opts.Unchecked {
		defer func() {
			if at.d == nil {
				s.forgetLarge(c)
			}
		}()
		if p.checked, err = s.checkLarge(c, oldParts); err != nil {
			return placed{}, err
		}
	}
	start := time.Now()
	if p.tmp, err = d.prepare(name, data, c.keepTime()); err != nil {
		if gone := d.current(); gone != nil { // not a fault of the disk
			return placed{}, errReplaced
		}
		return placed{}, err
	}
	if s.observers.Flush != nil {
		s.observers.Flush(time.Since(start).Seconds())
	}
	err = s.install(p)
	switch {
	case err == nil:
		return placed{d, p.gone}, nil
	case errors.Is(err, fs.ErrNotExist):
		err = errAgain // somebody removed the temporary file
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("the file %q is somebody else's, and only he may replace or remove it in this directory: %w", name, unix.EPERM)
	}
	return placed{}, err
}

func withoutYoung(s stamp) stamp {
	s.young = false
	return s
}

// ErrFull is what a push's error wraps when the spool's own limit is reached.
var ErrFull = errors.New("the limit of the spool is reached")

// keyedMutex has a mutex for each key in use.
type keyedMutex struct {
	mu sync.Mutex
	m  map[string]*keyed
}

type keyed struct {
	turn  chan struct{} // full while the key is locked
	users int           // guarded by keyedMutex.mu
	since time.Time     // when the present holder began to wait; guarded by keyedMutex.mu
}

// lock locks the key and returns what unlocks it.
func (k *keyedMutex) lock(key string) (unlock func()) {
	since := time.Now()
	k.mu.Lock()
	if k.m == nil {
		k.m = make(map[string]*keyed)
	}
	e := k.m[key]
	if e == nil {
		e = &keyed{turn: make(chan struct{}, 1)}
		k.m[key] = e
	}
	e.users++
	if e.users == 1 {
		e.turn <- struct{}{} // free
		e.since = since
		k.mu.Unlock()
	} else {
		k.mu.Unlock()
		e.turn <- struct{}{}
		k.mu.Lock()
		e.since = since
		k.mu.Unlock()
	}
	return func() {
		<-e.turn
		k.mu.Lock()
		defer k.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(k.m, key)
		}
	}
}

// since returns when the holder of the key began to wait for it.
func (k *keyedMutex) since(key string) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.m[key]; e != nil {
		return e.since
	}
	return time.Now()
}

// checkAtOnce is how many parts are checked under one hold of the Store's lock.
const checkAtOnce = 2048

// checkLarge checks a content of very many parts before its commit has the lock of
// the Store for itself, some parts at a time, so that others wait for none of it.
// What changes meanwhile is checked once more under the lock.
func (s *Store) checkLarge(c *content, old []part) (*precheck, error) {
	if len(c.parts) <= checkAtOnce {
		return nil, nil
	}
	s.mu.Lock()
	done := s.merge.precheck()
	s.mu.Unlock()
	for parts := range slices.Chunk(c.parts, checkAtOnce) {
		s.mu.Lock()
		x := s.merge.checkEarly(c.file.id, parts, old)
		s.mu.Unlock()
		if x != nil {
			return nil, x
		}
	}
	return done, nil
}

// forgetLarge forgets what checkLarge has made for a content that is not going to
// be merged.
func (s *Store) forgetLarge(c *content) {
	if len(c.parts) <= checkAtOnce {
		return
	}
	for parts := range slices.Chunk(c.parts, checkAtOnce) {
		s.mu.Lock()
		s.merge.forgetParts(parts)
		s.mu.Unlock()
	}
}

// ErrBusy is what a commit's error wraps when another process held the lock of
// the spool for too long, or changed the same file again and again. Nothing was
// changed.
var ErrBusy = errBusy
