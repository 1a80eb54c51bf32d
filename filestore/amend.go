package filestore

import (
	"errors"
	"slices"
	"time"
)

// Held is what a group holds at the moment of an [Store.Amend]. It is valid
// until the function that was given it returns.
type Held struct {
	file  *File
	parts []part
}

// Exists reports whether the group is there at all.
func (h *Held) Exists() bool { return h.file != nil }

// Family returns the group's family of that name, as it is stored. The caller
// owns it.
func (h *Held) Family(name string) (Family, bool) {
	for i := range h.parts {
		if d := h.parts[i].desc.Value(); d.name == name {
			return decodeFamily(d, h.parts[i].text), true
		}
	}
	return Family{}, false
}

// Attributes returns the values of the group's attributes of that key, in the
// order of the file; nil if there are none.
func (h *Held) Attributes(key string) []string {
	if h.file == nil {
		return nil
	}
	return h.file.Attributes(key)
}

// An Edit is what an Amend makes of a group. Families of the names in Put take
// the place of the group's, as in a POST; those named in Remove go; all others
// stay as they are. Attributes are the values of the keys in it, one line each
// in the file; an empty list takes the key away.
type Edit struct {
	Put        *Families // nil for none
	Remove     []string
	Attributes map[string][]string
}

// Amend changes a group by what it holds: edit is given that, and what it
// returns is done. Nobody else changes the group in between, neither in this
// process nor in another: if somebody did, edit is called again with what is
// there then, so it must not do anything but decide. If it returns nil and no
// error, nothing is done; its error becomes that of Amend, as it is.
//
// Samples get the labels of the group and never an empty instance, whoever
// amends: programs that open the spool with other options write the same series.
//
// Otherwise the promise and the errors are those of Update, but for this: a
// refusal does not set the time of the group's last failure.
func (s *Store) Amend(g Group, edit func(held *Held) (*Edit, error)) error {
	start := time.Now()
	unlock := s.groups.lock(g.FileName())
	defer func() {
		if unlock != nil {
			unlock()
		}
	}()
	var refused error // by edit
	now := seconds(s.opts.Now())
	at, err := s.commit(g, true, func(old *File, oldParts []part) (*content, error) {
		refused = nil
		if old == nil {
			if err := s.unreadable(g); err != nil {
				return nil, err
			}
		}
		e, err := edit(&Held{old, oldParts})
		switch {
		case err != nil:
			refused = err
			return nil, err
		case e == nil:
			return nil, errNothing
		}
		return s.amended(g, old, oldParts, e, now)
	})
	var clash *Conflict
	var bad *SyntaxError
	switch {
	case refused != nil:
		return refused
	case errors.Is(err, errNothing):
		return nil
	case errors.As(err, &clash), errors.As(err, &bad):
		return err
	case err != nil:
		return doing("storing group "+g.String(), err)
	}
	unlock()
	unlock = nil
	if err := s.flush(at); err != nil {
		return doing("storing group "+g.String(), err)
	}
	if s.observers.Commit != nil {
		s.observers.Commit(time.Since(start).Seconds())
	}
	return nil
}

// amended makes the content of the group after an edit.
func (s *Store) amended(g Group, old *File, oldParts []part, e *Edit, now float64) (*content, error) {
	put := e.Put
	if put == nil {
		put = &Families{byName: map[string]*rawFamily{}}
	}
	lab := s.labelling(g)
	lab.emptyInstance = false
	fresh, series, err := canonicalPush(put, lab)
	if err != nil {
		return nil, err
	}
	goes := func(family string) bool { return put.Has(family) || slices.Contains(e.Remove, family) }
	parts, series := mergeParts(fresh, oldParts, goes, series)
	if x := collision(parts, g.FileName()); x != nil {
		return nil, x
	}
	failed := 0.0
	if old != nil {
		failed = old.failure
	}
	c, err := s.groupContent(g, old, parts, series, now, failed)
	if err != nil {
		return nil, err
	}
	c.fresh = true
	for _, key := range sortedKeys(e.Attributes) {
		c.file.attrs = c.file.attrs.withAll(key, e.Attributes[key]...)
	}
	return c, nil
}
