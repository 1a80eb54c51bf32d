package filestore

import (
	"context"
	"errors"
	"slices"
	"unique"

	"golang.org/x/sync/errgroup"
)

// SettleHelp gives families the HELP text that their pushers have changed to,
// and rewrites their files to it, once. A new text stands when no group that
// wants the present one has pushed since a group first asked for the new one
// and that group has asked again; groups that go on disagreeing change nothing.
// It costs nothing when there is nothing to settle, and it is meant to be
// called from time to time, off the path of pushes. Groups that are pushed to
// meanwhile wait for one write of theirs at most.
func (s *Store) SettleHelp(ctx context.Context) error {
	s.settling.Lock()
	defer s.settling.Unlock()
	s.mu.Lock()
	unsettled := s.merge.unsettled
	s.merge.unsettled = false
	s.mu.Unlock()
	if !unsettled {
		return nil
	}
	texts := s.View().agreedHelp()
	if len(texts) == 0 {
		return nil
	}
	var group errgroup.Group
	group.SetLimit(8) // writers that wait for the disk
	for f := range s.View().Files() {
		if ctx.Err() != nil {
			break
		}
		if !f.group.IsZero() && f.differs(texts) {
			group.Go(func() error { return s.setHelp(f.group, texts) })
		}
	}
	err := errors.Join(group.Wait(), ctx.Err())
	if err != nil {
		s.mu.Lock()
		s.merge.unsettled = true
		s.mu.Unlock()
	}
	return doing("settling HELP texts", err)
}

// differs reports whether a part of the file has another text than agreed.
func (f *File) differs(texts map[string]string) bool {
	return slices.ContainsFunc(f.parts, func(h unique.Handle[desc]) bool {
		d := h.Value()
		text, ok := texts[d.name]
		return ok && text != d.help
	})
}

// ballot is what the files of one family say about its text.
type ballot struct {
	present    string  // as served
	keptSince  float64 // the last push that wants it; -1 if no group does
	fixed      string  // of a dropped file, which we do not rewrite
	divided    bool    // some files do not have the present text
	candidates map[string]*candidate
}

type candidate struct {
	since     float64 // when the first group asked for it
	confirmed bool    // a group has asked again after that
	groups    int
}

// agreedHelp returns the text of each family whose files have to be rewritten.
func (v *View) agreedHelp() map[string]string {
	ballots := map[string]*ballot{}
	for f := range v.Files() {
		for _, h := range f.parts {
			d := h.Value()
			b := ballots[d.name]
			if b == nil {
				b = &ballot{keptSince: -1, candidates: map[string]*candidate{}}
				ballots[d.name] = b
			}
			b.count(f, d)
		}
	}
	texts := map[string]string{}
	for name, b := range ballots {
		if text := b.result(); text != b.present || b.divided {
			texts[name] = text
		}
	}
	return texts
}

func (b *ballot) count(f *File, d desc) {
	if f.group.IsZero() {
		if b.fixed == "" {
			b.fixed = d.help
		}
		return
	}
	switch {
	case b.present == "":
		b.divided = b.divided || d.help != "" && b.keptSince >= 0
		b.present = d.help
	case d.help != b.present:
		b.divided = true
	}
	w, ok := f.wants[d.name]
	if !ok {
		b.keptSince = max(b.keptSince, f.push)
		return
	}
	c := b.candidates[w.text]
	if c == nil {
		c = &candidate{since: w.since}
		b.candidates[w.text] = c
	}
	c.since = min(c.since, w.since)
	c.confirmed = c.confirmed || f.push > w.since
	c.groups++
}

func (b *ballot) result() string {
	if b.fixed != "" {
		return b.fixed
	}
	best, text := (*candidate)(nil), b.present
	for _, t := range sortedKeys(b.candidates) {
		c := b.candidates[t]
		free := b.present == "" || b.keptSince < 0 || b.keptSince < c.since && c.confirmed
		if free && (best == nil || c.groups > best.groups) {
			best, text = c, t
		}
	}
	return text
}

// setHelp rewrites a group's file with the agreed texts and nothing else changed.
func (s *Store) setHelp(g Group, texts map[string]string) error {
	defer s.groups.lock(g.FileName())()
	at, err := s.commit(g, false, func(old *File, oldParts []part) (*content, error) {
		if old == nil || !old.differs(texts) {
			return nil, errNothing
		}
		parts := slices.Clone(oldParts)
		wants := map[string]want{}
		for name, w := range old.wants {
			if texts[name] != w.text {
				wants[name] = w
			}
		}
		for i := range parts {
			d := parts[i].desc.Value()
			if text, ok := texts[d.name]; ok && text != d.help {
				d.help = text
				parts[i].desc = unique.Make(d)
			}
		}
		c := newContent(&ident{pushedKind, g.FileName()}, parts, old.series)
		c.file.group, c.file.wants, c.file.mtime = g, wants, old.mtime
		c.stays(old)
		c.settled, c.sameTime = true, true
		return c, nil
	})
	switch {
	case errors.Is(err, errNothing):
		return nil
	case err != nil:
		return err
	}
	return s.flush(at)
}

// errNothing ends a commit that has nothing to write.
var errNothing = errors.New("nothing to write")
