package filestore

import "fmt"

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
	var firstErr error
	removed := false
	for _, name := range names {
		unlock := s.groups.lock(name)
		done, err := s.removeOne(name)
		unlock()
		removed = removed || done
		if err != nil && firstErr == nil {
			firstErr = err
		}
	}
	if removed {
		if err := s.flush(); err != nil {
			return err
		}
	}
	return firstErr
}

func (s *Store) removeOne(name string) (removed bool, err error) {
	for range 100 {
		d := s.spool.dir.Load()
		if err := d.current(); err != nil {
			if _, err := s.spool.reopen(d); err != nil {
				return false, err
			}
			continue
		}
		if _, err := s.Reload(name); err != nil { // another process may have made it
			return false, err
		}
		s.mu.Lock()
		old := s.merge.file(name)
		if old == nil || old.group.IsZero() {
			s.mu.Unlock()
			return false, nil
		}
		if err := d.lock(); err != nil {
			s.mu.Unlock()
			return false, err
		}
		at, _, err := d.stat(name)
		if err == nil && withoutYoung(at) == withoutYoung(old.stamp) {
			if err = d.root.Remove(name); err == nil {
				s.publish([]update{{old: old, oldParts: s.merge.parts(old)}})
			}
			d.unlock()
			s.mu.Unlock()
			return err == nil, err
		}
		d.unlock()
		s.mu.Unlock()
	}
	return false, fmt.Errorf("the file changes too often: %w", ErrBusy)
}
