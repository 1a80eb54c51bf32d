package merge

import (
	"slices"
	"strings"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// index maps the hash of each identity to the files that have it in accepted parts.
// Nearly all identities belong to one file. For shared ones it has the list of files,
// so a change checks only the identities that it touches.
type index struct {
	one  map[uint64]*record.ID
	many map[uint64]*sharers
}

// sharers are the files that have one identity.
type sharers struct {
	list []sharer // in the order of files
	dead int      // entries of files that do not have it any more
}

// sharer is one of the files that share an identity.
type sharer struct {
	fam   *family
	id    *record.ID
	base  string // the labels, compared because hashes may collide
	value string // of the only line, or all lines of a histogram or summary
	extra string // data that the text format lacks
	first string // the series of the first line
	lines int
	known bool       // the text has been read
	dead  bool       // the file does not have the identity any more
	loses bool       // an earlier file serves the identity
	to    *record.ID // that file
	same  bool       // that file has the same value and the same extra
	equal bool       // that file has the same value
}

func newIndex() index {
	return index{one: make(map[uint64]*record.ID), many: make(map[uint64]*sharers)}
}

// add adds an identity of a file. It reports whether other files have it, or had it
// at the beginning of the change.
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

// remove removes an identity of a file. It returns the entry if it was shared.
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

// resolve determines which file serves an identity, see sharers.decide, and deletes
// the list if one file is left.
func (x *index) resolve(h uint64, report func(now *sharer)) {
	s := x.many[h]
	if s == nil {
		return
	}
	s.decide(report)
	switch len(s.list) {
	case 0:
		delete(x.many, h)
	case 1:
		x.one[h] = s.list[0].id
		delete(x.many, h)
	}
}

// server returns the file other than id that may serve the metric of that identity.
// If the result is not exact, the caller must compare the text.
func (x *index) server(h uint64, id *record.ID) (by *sharer, isExact bool) {
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

// decide determines which file serves the identity: the first that has it. It calls
// report for each other file whose loss has changed.
func (s *sharers) decide(report func(now *sharer)) {
	if s.dead > 0 {
		s.list = slices.DeleteFunc(s.list, func(e sharer) bool { return e.dead })
		s.dead = 0
	}
	for i := range s.list {
		e := &s.list[i]
		loses, to, same, equal := false, (*record.ID)(nil), false, false
		for j := range i {
			if first := &s.list[j]; first.known && e.known && first.fam == e.fam && first.base == e.base {
				loses, to, equal = true, first.id, first.value == e.value
				same = equal && (e.extra == "" || e.extra == first.extra)
				break
			}
		}
		if loses != e.loses || to != e.to || same != e.same || equal != e.equal {
			e.loses, e.to, e.same, e.equal = loses, to, same, equal
			report(e)
		}
	}
}

// look records the text of a metric. It copies the text, so the file can be freed.
func (e *sharer) look(base []byte, lines, extra string, t exposition.Type) {
	first, n, value := exposition.SeriesOf(lines), strings.Count(lines, "\n"), exposition.ValueOf(lines)
	if t.Composite() {
		value = lines
	}
	if e.base != string(base) || e.first != first || e.lines != n {
		e.base, e.first, e.lines = string(base), strings.Clone(first), n
		e.loses = false // its loss must be reported again
	}
	if e.value != value {
		e.value = strings.Clone(value)
	}
	if e.extra != extra {
		e.extra = strings.Clone(extra)
	}
	e.known = true
}
