package merge

import (
	"slices"
	"strings"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// index knows for the hash of each identity which files have it, of the parts
// that are accepted. Nearly all identities are those of one file; for the others
// it has the list of these files, so that a change decides anew what it touches
// and nothing else.
type index struct {
	one  map[uint64]*record.ID
	many map[uint64]*sharers
}

// sharers are the files that have one identity.
type sharers struct {
	list []sharer // in the order of files
	dead int      // entries of files that have it no longer
}

// sharer is one file that has an identity which others have as well.
type sharer struct {
	fam   *family
	id    *record.ID
	base  string // the labels; hashes may collide, so they decide
	value string // of the only line, or all lines of a histogram or summary
	extra string // what the text cannot say of it
	first string // the series of the first line
	lines int
	known bool       // the text has been looked at
	dead  bool       // the file has the identity no longer
	loses bool       // another file comes before it
	to    *record.ID // that file
	same  bool       // that has the same value
}

func newIndex() index {
	return index{one: make(map[uint64]*record.ID), many: make(map[uint64]*sharers)}
}

// add adds an identity of a file and reports whether other files have it, or had
// it at the beginning of the change.
func (x *index) add(h uint64, f *family, id *record.ID) (shared bool) {
	if s := x.many[h]; s != nil {
		s.add(f, id)
		return true
	}
	owner, ok := x.one[h]
	if !ok {
		x.one[h] = id
		return false
	}
	delete(x.one, h)
	s := &sharers{list: []sharer{{fam: f, id: owner}}}
	s.add(f, id)
	x.many[h] = s
	return true
}

func (s *sharers) add(f *family, id *record.ID) {
	i, ok := s.find(id)
	if !ok {
		s.list = slices.Insert(s.list, i, sharer{fam: f, id: id})
		return
	}
	if s.list[i].dead {
		s.dead--
	}
	s.list[i] = sharer{fam: f, id: id}
}

func (s *sharers) find(id *record.ID) (int, bool) {
	return slices.BinarySearchFunc(s.list, id, func(e sharer, id *record.ID) int { return record.Compare(e.id, id) })
}

// remove takes an identity of a file out. It returns the entry if it was shared.
func (x *index) remove(h uint64, id *record.ID) *sharer {
	s := x.many[h]
	if s == nil {
		delete(x.one, h)
		return nil
	}
	i, ok := s.find(id)
	if !ok || s.list[i].dead {
		return nil
	}
	s.list[i].dead = true
	s.dead++
	return &s.list[i]
}

// settle decides who serves an identity, see sharers.decide, and forgets the list
// if only one file is left.
func (x *index) settle(h uint64, tell func(now *sharer)) {
	s := x.many[h]
	if s == nil {
		return
	}
	s.decide(tell)
	switch len(s.list) {
	case 0:
		delete(x.many, h)
	case 1:
		x.one[h] = s.list[0].id
		delete(x.many, h)
	}
}

// server returns the file other than id from which the metric of that identity is
// served, if that is possible. Where it is not sure the text has to be compared.
func (x *index) server(h uint64, id *record.ID) (by *sharer, sure bool) {
	s := x.many[h]
	if s == nil {
		if o := x.one[h]; o != nil && record.Compare(o, id) != 0 {
			return &sharer{id: o}, false
		}
		return nil, true
	}
	if first := &s.list[0]; record.Compare(first.id, id) != 0 {
		return first, first.known
	}
	return nil, true
}

// decide settles which file serves the identity: the first that has it. It calls
// tell for each of the others of which it has changed what they lose.
func (s *sharers) decide(tell func(now *sharer)) {
	if s.dead > 0 {
		s.list = slices.DeleteFunc(s.list, func(e sharer) bool { return e.dead })
		s.dead = 0
	}
	for i := range s.list {
		e := &s.list[i]
		loses, to, same := false, (*record.ID)(nil), false
		for j := range i {
			if first := &s.list[j]; first.known && e.known && first.fam == e.fam && first.base == e.base {
				loses, to, same = true, first.id, first.value == e.value && (e.extra == "" || e.extra == first.extra)
				break
			}
		}
		if loses != e.loses || to != e.to || same != e.same {
			e.loses, e.to, e.same = loses, to, same
			tell(e)
		}
	}
}

// look takes note of the text of a metric. It keeps copies, so that no text of a
// file stays in memory for it.
func (e *sharer) look(base []byte, lines, extra string, t exposition.Type) {
	first, n, value := exposition.SeriesOf(lines), strings.Count(lines, "\n"), exposition.ValueOf(lines)
	if t.Composite() {
		value = lines
	}
	if e.base != string(base) || e.first != first || e.lines != n {
		e.base, e.first, e.lines = string(base), strings.Clone(first), n
		e.loses = false // what it loses is to be told anew
	}
	if e.value != value {
		e.value = strings.Clone(value)
	}
	if e.extra != extra {
		e.extra = strings.Clone(extra)
	}
	e.known = true
}
