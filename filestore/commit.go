package filestore

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// errAgain asks commit to start over: the ground has shifted.
var errAgain = errors.New("changed meanwhile")

// commit writes what plan makes of the group as it is. Encoding, writing and
// flushing the file happen outside of every lock that another group needs; the
// check, the rename and the new view happen under the one of the Store.
//
// The directory that is returned is in use, and its flush is what is left to do.
func (s *Store) commit(g Group, check bool, plan func(old *File, oldParts []part) (*content, error)) (*directory, error) {
	name := g.FileName()
	for range 100 {
		d, err := s.spool.inUse()
		if err != nil {
			return nil, err
		}
		err = s.try(d, name, check, plan)
		if err == nil {
			return d, nil
		}
		d.done()
		switch {
		case errors.Is(err, errReplaced):
			_, err = s.spool.reopen(d)
		case errors.Is(err, errAgain):
			_, err = s.Reload(name)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the group changes too often: %w", ErrBusy)
}

// try is one attempt of commit. errAgain and errReplaced ask for another.
func (s *Store) try(d *directory, name string, check bool, plan func(old *File, oldParts []part) (*content, error)) error {
	s.mu.Lock()
	old := s.merge.file(name)
	var oldParts []part
	if old != nil {
		oldParts = s.merge.parts(old)
	}
	s.mu.Unlock()
	mine := old
	if old != nil && old.group.IsZero() {
		mine = nil // somebody's file under our name: replaced, not read
	}
	c, err := plan(mine, partsOf(mine, oldParts))
	if err != nil {
		return err
	}
	data := c.encode()
	if int64(len(data)) > s.opts.MaxFileBytes {
		return &SyntaxError{Reason: TooLarge, Msg: fmt.Sprintf("the group would take %d bytes, more than the limit of %d for one file", len(data), s.opts.MaxFileBytes)}
	}
	start := time.Now()
	tmp, err := d.prepare(name, data, c.keepTime())
	if err != nil {
		if gone := d.current(); gone != nil { // not a fault of the disk
			return errReplaced
		}
		return err
	}
	if s.observers.Flush != nil {
		s.observers.Flush(time.Since(start).Seconds())
	}
	c.file.size, c.file.hash = int64(len(data)), hashOf(data)
	if err := s.install(d, tmp, name, old, mine, c, check, oldParts); err != nil {
		_ = tmp.Cleanup()
		return err
	}
	return nil
}

// install makes a prepared file the group's, if it may be, under the lock of the
// Store.
func (s *Store) install(d *directory, tmp *renameio.PendingFile, name string, old, mine *File, c *content, check bool, oldParts []part) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayInstall(d, name, old, mine, c, check, oldParts); err != nil {
		return err
	}
	defer d.unlock()
	at, err := d.install(tmp, name)
	if err != nil {
		return err
	}
	c.file.stamp, c.file.mtime = at, time.Unix(0, at.mtime)
	s.publish([]update{{old: old, oldParts: oldParts, new: c}})
	return nil
}

func partsOf(f *File, parts []part) []part {
	if f == nil {
		return nil
	}
	return parts
}

// mayInstall decides, under the lock of the Store, whether a prepared file may
// be renamed to its name. If so the lock between processes is held on return.
func (s *Store) mayInstall(d *directory, name string, old, mine *File, c *content, check bool, oldParts []part) error {
	if d.current() != nil {
		return errReplaced
	}
	if err := d.lock(); err != nil {
		return err
	}
	err := func() error {
		if s.merge.file(name) != old {
			return errAgain
		}
		at, _, err := d.stat(name)
		switch {
		case errors.Is(err, unix.ENOENT):
			if old != nil {
				return errAgain
			}
		case err == nil && old == nil && s.isWaiting(name):
			// Somebody has it open for writing and it was never served: it gives way.
		case err == nil && old == nil, err == nil && old.stamp.ino != 0 && withoutYoung(old.stamp) != withoutYoung(at):
			return errAgain
		}
		if mine == nil && s.opts.MaxGroups > 0 && s.merge.totals.Groups >= s.opts.MaxGroups {
			return fmt.Errorf("the spool holds %d groups, the limit: %w", s.merge.totals.Groups, ErrFull)
		}
		if !c.settled && !s.merge.helpAgreed(c, mine) {
			return errAgain
		}
		if check && !s.opts.Unchecked {
			if x := s.merge.check(c, oldParts); x != nil {
				return x
			}
		}
		return nil
	}()
	if err != nil {
		d.unlock()
	}
	return err
}

func withoutYoung(s stamp) stamp {
	s.young = false
	return s
}

// ErrFull is what a push's error wraps when the spool's own limit is reached.
var ErrFull = errors.New("the limit of the spool is reached")
