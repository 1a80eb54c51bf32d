package filestore

import (
	"errors"
	"fmt"
	"io/fs"
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
func (s *Store) commit(g Group, check bool, plan func(old *File, oldParts []part) (*content, error)) (placed, error) {
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
func (s *Store) try(d *directory, name string, since time.Time, check bool, plan func(old *File, oldParts []part) (*content, error)) (at placed, err error) {
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
	c, err := plan(mine, partsOf(mine, oldParts))
	if err != nil {
		return placed{}, err
	}
	s.alignHelp(c, mine)
	data := c.encode()
	if int64(len(data)) > s.opts.MaxFileBytes {
		return placed{}, &SyntaxError{Reason: TooLarge, Msg: fmt.Sprintf("the group would take %d bytes, more than --spool.max-file-bytes=%d", len(data), s.opts.MaxFileBytes)}
	}
	c.file.size, c.file.hash = int64(len(data)), hashOf(data)
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

func partsOf(f *File, parts []part) []part {
	if f == nil {
		return nil
	}
	return parts
}

func withoutYoung(s stamp) stamp {
	s.young = false
	return s
}

// ErrFull is what a push's error wraps when the spool's own limit is reached.
var ErrFull = errors.New("the limit of the spool is reached")
