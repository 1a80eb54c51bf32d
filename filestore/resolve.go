package filestore

import (
	"maps"
	"slices"
	"strings"
)

// member is one part in a family that has to be looked at closely.
type member struct {
	id   *ident
	fam  *family
	desc desc
	text string // all of it

	served string // what the rope has
}

// admission is what has been let into one family so far.
type admission struct {
	typ     Type
	typBy   *ident // the first that states a type
	plainBy *ident // the first that states none
	first   *ident // the first of which something is served
	metrics map[string]admitted
}

type admitted struct {
	by    *ident
	lines string
}

// resolve decides, for the suspect families and all that are related to them by
// name, which parts are served: files are admitted in their order, and what
// clashes with something already admitted is held. The outcome depends on the
// files alone.
func (g *merging) resolve() {
	fams := g.closure()
	var members []member
	for _, f := range fams {
		members = append(members, g.members(f)...)
		for id := range maps.Clone(f.held) {
			g.release(f, id)
		}
	}
	slices.SortFunc(members, func(a, b member) int {
		if n := compareIdent(a.id, b.id); n != 0 {
			return n
		}
		return strings.Compare(a.fam.name, b.fam.name)
	})
	state := make(map[*family]*admission, len(fams))
	for _, f := range fams {
		state[f] = &admission{metrics: map[string]admitted{}}
		g.touched[f] = true
	}
	for _, x := range members {
		text, h := g.admit(state, x)
		if h != nil {
			h.text = x.text
			h.Family, h.File = x.fam.name, x.id.name
			g.hold(x.fam, x.id, h)
		}
		if text != x.served {
			g.edits = append(g.edits, edit{fam: x.fam, id: x.id, text: text})
		}
	}
	for _, f := range fams {
		f.typ = state[f].typ
	}
}

// closure returns the suspect families and those related to them.
func (g *merging) closure() []*family {
	seen := map[*family]bool{}
	queue := slices.Collect(maps.Keys(g.suspect))
	for len(queue) > 0 {
		f := queue[0]
		queue = queue[1:]
		if seen[f] || f.files == 0 && f.served == 0 {
			continue
		}
		seen[f] = true
		for _, r := range f.related {
			if o := g.m.fams[r.name]; o != nil && !g.m.isState(o) {
				queue = append(queue, o)
			}
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// members returns the parts of a family, with all of their text.
func (g *merging) members(f *family) []member {
	var out []member
	add := func(id *ident, text, served string) {
		if file := g.m.files.get(id); file != nil {
			if d, ok := file.has(f.name); ok {
				out = append(out, member{id, f, d, text, served})
			}
		}
	}
	g.m.ropeOf(f).from(f, nil, func(o *family, id *ident, text []byte) bool {
		if o != f {
			return false
		}
		if id != nil && f.held[id] == nil {
			add(id, string(text), string(text))
		}
		return true
	})
	for id, h := range f.held {
		add(id, h.text, string(g.m.ropeOf(f).piece(f, id)))
	}
	return out
}

// admit lets one part in, as far as it contradicts nothing that is in already,
// and returns what is served of it and, if that is not all, why.
func (g *merging) admit(state map[*family]*admission, x member) (string, *held) {
	a := state[x.fam]
	text, h := g.m.beyondOwn(x)
	if text == "" {
		return "", h
	}
	// Of several reasons the one with the first file is told, whichever came first in time.
	byType, bySuffix := a.typeClash(x.desc.typ), g.suffixClash(state, x)
	switch {
	case byType != nil && (bySuffix == nil || compareIdent(byType, bySuffix) <= 0):
		return "", holdFor(TypeConflict, x.text, byType)
	case bySuffix != nil:
		return "", holdFor(Duplicate, x.text, bySuffix)
	}
	a.state(x)
	if lost := a.lost(x.desc, text); len(lost) > 0 {
		var keep strings.Builder
		d := &held{Conflict: Conflict{Reason: Duplicate, harmless: true}}
		eachMetric(x.desc, text, func(base []byte, lines string) bool {
			if !lost[string(base)] {
				keep.WriteString(lines)
				return true
			}
			by := a.metrics[string(base)]
			if !slices.Contains(d.culprits, by.by) {
				d.culprits = append(d.culprits, by.by)
			}
			if same := by.lines == lines || !x.desc.typ.composite() && valueOf(by.lines) == valueOf(lines); !same {
				if d.harmless {
					d.harmless, d.Kept, d.Line = false, by.by.name, seriesOf(lines)
				}
				d.Series += strings.Count(lines, "\n")
			}
			return true
		})
		text, h = keep.String(), d
		if text == "" {
			return "", h
		}
	}
	a.enter(x, text)
	return text, h
}

func holdFor(r Reason, text string, by *ident) *held {
	return &held{Conflict: Conflict{Kept: by.name, Reason: r, Series: strings.Count(text, "\n")}, culprits: []*ident{by}}
}

// typeClash returns with whom first a part of that type would contradict.
func (a *admission) typeClash(t Type) (by *ident) {
	if a.typBy != nil && typesClash(a.typ, t) {
		by = a.typBy
	}
	if a.plainBy != nil && typesClash(Unstated, t) && (by == nil || compareIdent(a.plainBy, by) < 0) {
		by = a.plainBy
	}
	return by
}

// suffixClash returns with whom first a part would collide by a reserved suffix.
func (g *merging) suffixClash(state map[*family]*admission, x member) (by *ident) {
	for _, r := range x.fam.related {
		o := g.m.fams[r.name]
		if o == nil || state[o] == nil || state[o].first == nil {
			continue
		}
		clash := r.part && x.desc.typ.reserves(r.suffix) || !r.part && state[o].typ.reserves(r.suffix)
		if clash && (by == nil || compareIdent(state[o].first, by) < 0) {
			by = state[o].first
		}
	}
	return by
}

// lost returns which metrics of the text are in already, nil if none.
func (a *admission) lost(d desc, text string) map[string]bool {
	var lost map[string]bool
	eachMetric(d, text, func(base []byte, _ string) bool {
		if _, ok := a.metrics[string(base)]; ok {
			if lost == nil {
				lost = map[string]bool{}
			}
			lost[string(base)] = true
		}
		return true
	})
	return lost
}

// state takes note of what the part says of the family's type.
func (a *admission) state(x member) {
	if x.desc.typ == Unstated && a.plainBy == nil {
		a.plainBy = x.id
	}
	if x.desc.typ != Unstated && a.typBy == nil {
		a.typ, a.typBy = x.desc.typ, x.id
	}
}

func (a *admission) enter(x member, text string) {
	if a.first == nil {
		a.first = x.id
	}
	eachMetric(x.desc, text, func(base []byte, lines string) bool {
		a.metrics[string(base)] = admitted{x.id, lines}
		return true
	})
}

// beyondOwn returns what of a part does not touch the agent's own metrics.
func (m *merger) beyondOwn(x member) (string, *held) {
	refused := &held{Conflict: Conflict{Reason: Reserved, Series: strings.Count(x.text, "\n")}}
	for _, r := range x.fam.related {
		if o, ok := m.own[r.name]; ok && !o.part && r.part && x.desc.typ.reserves(r.suffix) {
			return "", refused
		}
	}
	own, ok := m.own[x.fam.name]
	if !ok {
		return x.text, nil
	}
	if own.part || x.desc.typ != Unstated && x.desc.typ != own.Type || own.Type.composite() && x.desc.typ == Unstated {
		return "", refused
	}
	var keep strings.Builder
	var h *held
	eachMetric(x.desc, x.text, func(base []byte, lines string) bool {
		if apart(string(base), own.Labels) {
			keep.WriteString(lines)
			return true
		}
		if h == nil {
			h = &held{Conflict: Conflict{Reason: Reserved, Line: seriesOf(lines)}}
		}
		h.Series += strings.Count(lines, "\n")
		return true
	})
	return keep.String(), h
}

// apart reports whether the label set has a label that is not in the list.
func apart(base string, names []string) bool {
	if base == "" {
		return false
	}
	labels, err := parseLabelSet(base)
	if err != nil {
		panic("filestore: a canonical label set that does not parse: " + base)
	}
	return slices.ContainsFunc(labels, func(l Label) bool { return !slices.Contains(names, l.Name) })
}

// seriesOf returns the series of the first canonical line, without its value.
func seriesOf(lines string) string {
	line, _, _ := strings.Cut(lines, "\n")
	return line[:strings.LastIndexByte(line, ' ')]
}

// valueOf returns the value in the first canonical line.
func valueOf(lines string) string {
	line, _, _ := strings.Cut(lines, "\n")
	return line[strings.LastIndexByte(line, ' ')+1:]
}

// check returns with what the content of a push would clash, nil if with
// nothing. Other than in the merge, where the later one gives way, it does not
// matter which of the two would come first.
func (m *merger) check(c *content, old []part) *Conflict {
	id := c.file.id
	before := make(map[uint64]bool)
	had := make(map[string]desc, len(old))
	for i := range old {
		d := old[i].desc.Value()
		had[d.name] = d
		for _, h := range old[i].hashes {
			before[h] = true
		}
	}
	for i := range c.parts {
		if x := m.checkPart(c, id, &c.parts[i], had, before); x != nil {
			x.File = c.file.id.name
			return x
		}
	}
	return nil
}

func (m *merger) checkPart(c *content, id *ident, p *part, had map[string]desc, before map[uint64]bool) *Conflict {
	d := p.desc.Value()
	if IsReserved(d.name) {
		return &Conflict{Family: d.name, Reason: Reserved}
	}
	f := m.fams[d.name]
	if f == nil {
		f = m.newFamily(d.name) // only looked at
	}
	if f.near {
		if _, h := m.beyondOwn(member{fam: f, desc: d, text: p.text}); h != nil {
			h.Family = d.name
			return &h.Conflict
		}
	}
	// Types: that of any other file that is served.
	others := f.types
	if o, ok := had[d.name]; ok {
		others[o.typ]--
	}
	for t := Unstated; t <= Histogram; t++ {
		if others[t] > 0 && typesClash(t, d.typ) {
			if by := m.servedBy(f, id, func(o desc) bool { return o.typ == t }); by != nil {
				return &Conflict{Family: d.name, Kept: by.name, Reason: TypeConflict}
			}
		}
	}
	for _, r := range f.related {
		o := m.fams[r.name]
		if o == nil || r.part && !d.typ.reserves(r.suffix) {
			continue
		}
		if by := m.servedBy(o, id, func(other desc) bool { return r.part || other.typ.reserves(r.suffix) }); by != nil {
			return &Conflict{Family: d.name, Kept: by.name, Reason: Duplicate}
		}
	}
	for _, h := range p.hashes {
		if _, ok := m.seen[h]; !ok || before[h] && m.more[h] == 0 {
			continue
		}
		if x := m.findDuplicate(f, id, d, p.text); x != nil {
			return x
		}
	}
	return nil
}

// servedBy returns the first file other than id of which something is served in
// the family, and whose description fits.
func (m *merger) servedBy(f *family, id *ident, fits func(desc) bool) (by *ident) {
	if f.served == 0 {
		return nil
	}
	m.ropeOf(f).from(f, nil, func(o *family, at *ident, _ []byte) bool {
		if o != f {
			return false
		}
		if at == nil || compareIdent(at, id) == 0 {
			return true
		}
		if d, _ := m.files.get(at).has(f.name); fits(d) {
			by = at
			return false
		}
		return true
	})
	return by
}

// findDuplicate returns which metric of the text is served from another file.
func (m *merger) findDuplicate(f *family, id *ident, d desc, text string) (x *Conflict) {
	mine := map[string]string{}
	eachMetric(d, text, func(base []byte, lines string) bool {
		mine[string(base)] = seriesOf(lines)
		return true
	})
	m.ropeOf(f).from(f, nil, func(o *family, at *ident, text []byte) bool {
		if o != f {
			return false
		}
		if at == nil || compareIdent(at, id) == 0 {
			return true
		}
		eachMetric(d, string(text), func(base []byte, _ string) bool {
			if line, ok := mine[string(base)]; ok {
				x = &Conflict{Family: f.name, Kept: at.name, Reason: Duplicate, Line: line}
			}
			return x == nil
		})
		return x == nil
	})
	return x
}
