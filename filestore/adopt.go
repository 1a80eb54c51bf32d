package filestore

import "errors"

// ErrExists is what [Store.Adopt] returns if the group, or a file with its name,
// is there already.
var ErrExists = errors.New("it is there already")

// Adopt makes the families the whole content of a group, with the times that
// came with it. When it returns nil, the group is on stable storage and in every
// later View. On an error nothing has changed, unless the error is [ErrInDoubt];
// other than a refused push it leaves no trace. It keeps nothing of f.
func (s *Store) Adopt(g Group, f *Families, a Adoption) error {
	defer s.groups.lock(g.FileName())()
	change := s.changeOf(g)
	parts, series, err := change.canonical(f, nil)
	if err != nil {
		return err
	}
	p := &pushed{parts: parts, series: series, has: f.Has}
	at, err := s.commit(g, true, func(old *content) (*content, error) {
		if !a.Overwrite && s.fileOf(g) != nil {
			return nil, ErrExists
		}
		return change.adopt(old, p, a)
	})
	if err != nil {
		return err
	}
	if a.DryRun {
		at.d.done()
		return nil
	}
	return s.flush(at)
}

// pretend does all of a commit but to write: Views show it from then on.
func (s *Store) pretend(p *prepared) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayInstall(p, nil); err != nil {
		return err
	}
	s.publish([]update{{old: p.old, oldParts: p.oldParts, new: p.content}})
	return nil
}
