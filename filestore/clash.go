package filestore

import "strings"

// typesClash reports whether two files cannot share a family if one states
// type a and the other b. A missing TYPE line contradicts nothing, unless the
// other's samples are parts of histograms or summaries.
func typesClash(a, b Type) bool {
	if a == Unstated || b == Unstated {
		return a.composite() || b.composite()
	}
	return a != b
}

// clashes reports whether a part may contradict the type of its family, which
// the part is counted in.
func (m *merger) clashes(f *family, d desc) bool {
	switch {
	case d.typ == Unstated:
		return f.typ.composite()
	case d.typ.composite() && f.types[Unstated] > 0:
		return true
	}
	return f.typ != Unstated && f.typ != d.typ
}

// relation is a family name that stands to another as a histogram or summary
// does to its parts.
type relation struct {
	name   string
	suffix string
	part   bool // name is the longer one
}

// relations returns the names related to one.
func relations(name string) []relation {
	all := make([]relation, 0, 4)
	for _, s := range compositeSuffixes {
		all = append(all, relation{name + s, s, true})
		if base, ok := strings.CutSuffix(name, s); ok && base != "" {
			all = append(all, relation{base, s, false})
		}
	}
	return all
}

// collides reports whether the family meets another one by a reserved suffix.
func (m *merger) collides(f *family, d desc) bool {
	for _, r := range f.related {
		o := m.fams[r.name]
		switch {
		case o == nil || o.files == 0:
		case r.part && d.typ.reserves(r.suffix):
			return true
		case !r.part && (o.types[Histogram] > 0 || o.types[Summary] > 0 && Summary.reserves(r.suffix)):
			return true
		}
	}
	return false
}
