package filestore

import "errors"

// Adoption is what comes with a group that another program has kept.
type Adoption struct {
	// Pushed and Failed are when the last push and the last failed one were, as
	// Unix time in seconds; 0 is never.
	Pushed, Failed float64
	// Overwrite replaces a group that is there already, as Replace does.
	Overwrite bool
	// DryRun writes nothing: the group is checked as ever and shown by the Views
	// of this Store from then on, so that the next one is checked against it.
	DryRun bool
}

// ErrExists is what [Store.Adopt] returns if the group, or a file with its name,
// is there already.
var ErrExists = errors.New("it is there already")

// Adopt makes the families the whole content of a group, with the times that
// came with it. When it returns nil, the group is on stable storage and in every
// later View. On an error nothing has changed, unless the error is [ErrInDoubt];
// other than a refused push it leaves no trace. It keeps nothing of f.
func (s *Store) Adopt(g Group, f *Families, a Adoption) error {
	defer s.groups.lock(g.FileName())()
	parts, series, err := s.canonical(g, f, nil)
	if err != nil {
		return err
	}
	at, err := s.commit(g, true, func(old *File, oldParts []part) (*content, error) {
		if !a.Overwrite && s.View().File(g.FileName()) != nil {
			return nil, ErrExists
		}
		all, n := parts, series
		if old != nil {
			all, n = mergeParts(parts, keptBy(false, old, oldParts), f.Has, series)
			if x := collision(all, g.FileName()); x != nil {
				return nil, x
			}
		}
		c, err := s.groupContent(g, old, all, n, a.Pushed, a.Failed)
		if err != nil {
			return nil, err
		}
		c.file.attrs = (&PushOptions{}).attributes(c.file.attrs, false)
		c.pretended = a.DryRun
		return c, nil
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
