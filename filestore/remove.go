package filestore

import (
	"errors"
	"fmt"
)

// Delete removes the group. Deleting what is not there is no error, and a file
// of the group's name that was not pushed is left alone.
func (s *Store) Delete(g Group) error {
	err := s.remove([]string{g.FileName()})
	return doing("deleting group "+g.String(), err)
}

// Wipe removes every pushed group and no dropped file.
func (s *Store) Wipe() error {
	var names []string
	for f := range s.View().Files() {
		if f.id.kind == pushedKind {
			names = append(names, f.Name())
		}
	}
	return doing("wiping the spool", s.remove(names))
}

// remove deletes pushed files by name and makes that durable.
func (s *Store) remove(names []string) error {
	d, err := s.spool.inUse()
	if err != nil {
		return err
	}
	var firstErr error
	removed := false
	for _, name := range names {
		unlock := s.groups.lock(name)
		done, err := s.removeOne(d, name)
		unlock()
		removed = removed || done
		if err != nil && firstErr == nil {
			firstErr = err
		}
	}
	if !removed {
		d.done()
		return firstErr
	}
	if err := s.flush(d); err != nil {
		return err
	}
	return firstErr
}

func (s *Store) removeOne(d *directory, name string) (removed bool, err error) {
	for range 100 {
		if _, err := s.Reload(name); err != nil { // another process may have made it
			return false, err
		}
		removed, err = s.tryRemove(d, name)
		if !errors.Is(err, errAgain) {
			return removed, err
		}
	}
	return false, fmt.Errorf("the file changes too often: %w", ErrBusy)
}

func (s *Store) tryRemove(d *directory, name string) (removed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.current() != nil {
		return false, errReplaced
	}
	old := s.merge.file(name)
	if old == nil || old.group.IsZero() {
		return false, nil
	}
	if err := d.lock(); err != nil {
		return false, err
	}
	defer d.unlock()
	at, _, err := d.stat(name)
	if err != nil || withoutYoung(at) != withoutYoung(old.stamp) {
		return false, errAgain
	}
	if err := d.root.Remove(name); err != nil {
		return false, err
	}
	s.publish([]update{{old: old, oldParts: s.merge.parts(old)}})
	return true, nil
}
