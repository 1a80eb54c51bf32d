package filestore

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Which parts take part in the merge is decided family by family, and for families
// that are related by their names together: files are let in in their order, and
// a part whose type or name contradicts one that is in already is excluded as a
// whole. The outcome depends on the files alone.

// typesConflict reports whether two files cannot share a family if one states
// type a and the other b. A missing TYPE line contradicts nothing, unless the
// other's samples are parts of histograms or summaries.
func typesConflict(a, b Type) bool {
	if a == Unstated || b == Unstated {
		return a.composite() || b.composite()
	}
	return a != b
}

// relation is a family that stands to another by its name as a histogram or
// summary does to its parts.
type relation struct {
	fam    *family
	suffix string
	part   bool // its name is the longer one
}

// conflicts reports whether a family of type t cannot stand beside one of type o
// that has the related name.
func (r *relation) conflicts(t, o Type) bool {
	if r.part {
		return t.reserves(r.suffix)
	}
	return o.reserves(r.suffix)
}

// relatedNames returns the names that families related to one of that name have.
func relatedNames(name string) (names []string) {
	for _, s := range compositeSuffixes {
		names = append(names, name+s)
		if base, ok := strings.CutSuffix(name, s); ok && base != "" {
			names = append(names, base)
		}
	}
	return names
}

// related yields the families of the merge that are related to one by name. If t
// is given, only those that a part of that type can conflict with.
func (m *merger) related(name string, t ...Type) iter.Seq[relation] {
	return func(yield func(relation) bool) {
		var room [64]byte
		for _, s := range compositeSuffixes {
			if len(t) == 0 || t[0].reserves(s) {
				if o := m.fams[string(append(append(room[:0], name...), s...))]; o != nil && !m.isState(o) && !yield(relation{o, s, true}) {
					return
				}
			}
			if base, ok := strings.CutSuffix(name, s); ok && base != "" {
				if o := m.fams[base]; o != nil && !m.isState(o) && !yield(relation{o, s, false}) {
					return
				}
			}
		}
	}
}

// lead is which of the accepted parts of a family come first.
type lead struct {
	known bool
	first *ident // of all
	typed *ident // of those that state a type
	plain *ident // of those that state none
}

func (l *lead) has(id *ident) bool { return id == l.first || id == l.typed || id == l.plain }

// enter takes note of an accepted part and reports whether it leads in something.
func (l *lead) enter(id *ident, t Type) (leads bool) {
	mine := &l.typed
	if t == Unstated {
		mine = &l.plain
	}
	for _, at := range [...]**ident{&l.first, mine} {
		if *at == nil || compareIdent(id, *at) < 0 {
			*at, leads = id, true
		}
	}
	return leads
}

// admit decides whether a new part of a family takes part in the merge, and
// returns the exclusion if not. Where that depends on more than the first parts
// the family becomes suspect.
func (c *mergeChange) admit(f *family, id *ident, t Type) *excludedPart {
	if c.suspect[f] {
		return nil
	}
	e, by, sure := c.blocker(f, t)
	switch {
	case !sure, e != nil && compareIdent(id, by) < 0:
		c.suspect[f] = true
		return nil
	case e != nil:
		return e
	}
	if f.accepted == [6]int{} {
		f.lead = lead{known: true}
	}
	if (!f.lead.known || f.lead.enter(id, t)) && c.hasBlocked(f) {
		c.suspect[f] = true // the exclusions may name another part
	}
	return nil
}

// blocker returns how the first accepted part that contradicts a type in the family
// would exclude it, and that part, nil if none does. It is not sure where the
// first parts are not known.
func (c *mergeChange) blocker(f *family, t Type) (e *excludedPart, by *ident, sure bool) {
	sure = true
	for u, n := range f.accepted {
		if n == 0 || !typesConflict(Type(u), t) {
			continue
		}
		first := f.lead.typed
		if Type(u) == Unstated {
			first = f.lead.plain
		}
		if !f.lead.known || c.suspect[f] {
			return nil, nil, false
		}
		if by == nil || compareIdent(first, by) < 0 {
			e, by = blockedBy(TypeConflict, first), first
		}
	}
	for r := range c.m.related(f.name, t) {
		o := r.fam
		if o.accepted == [6]int{} || !r.conflicts(t, o.typ()) {
			continue
		}
		if !o.lead.known || c.suspect[o] {
			return nil, nil, false
		}
		if by == nil || compareIdent(o.lead.first, by) < 0 {
			e, by = blockedBy(Duplicate, o.lead.first), o.lead.first
		}
	}
	return e, by, sure
}

func blockedBy(r Reason, by *ident) *excludedPart {
	return &excludedPart{Conflict: Conflict{Kept: by.name, Reason: r}, blocked: true}
}

// hasBlocked reports whether parts of the family or of one related to it are
// excluded as a whole.
func (c *mergeChange) hasBlocked(f *family) bool {
	if c.m.blocked == 0 || f.blocked > 0 {
		return f.blocked > 0
	}
	for r := range c.m.related(f.name) {
		if r.fam.blocked > 0 {
			return true
		}
	}
	return false
}

// member is one part in a family of which it is decided anew what is accepted.
type member struct {
	id  *ident
	fam *family
	typ Type
}

// resolve decides for the suspect families, and all that are related to them by
// name, which parts are accepted.
func (c *mergeChange) resolve() {
	fams := c.closure()
	var members []member
	for _, f := range fams {
		members = c.appendMembers(members, f)
	}
	slices.SortFunc(members, func(a, b member) int {
		if n := compareIdent(a.id, b.id); n != 0 {
			return n
		}
		return strings.Compare(a.fam.name, b.fam.name)
	})
	// The families as they fill.
	type filled struct {
		lead lead
		typ  Type
	}
	state := make(map[*family]*filled, len(fams))
	for _, f := range fams {
		state[f] = &filled{lead: lead{known: true}}
		c.touch(f)
	}
	for _, x := range members {
		s := state[x.fam]
		var e *excludedPart
		var by *ident
		if s.lead.typed != nil && typesConflict(s.typ, x.typ) {
			by = s.lead.typed
		}
		if s.lead.plain != nil && typesConflict(Unstated, x.typ) && (by == nil || compareIdent(s.lead.plain, by) < 0) {
			by = s.lead.plain
		}
		if by != nil {
			e = blockedBy(TypeConflict, by)
		}
		for r := range c.m.related(x.fam.name, x.typ) {
			o := state[r.fam]
			if o == nil || o.lead.first == nil || !r.conflicts(x.typ, o.typ) {
				continue
			}
			if by == nil || compareIdent(o.lead.first, by) < 0 {
				by = o.lead.first
				e = blockedBy(Duplicate, by)
			}
		}
		if e == nil {
			s.lead.enter(x.id, x.typ)
			if x.typ != Unstated {
				s.typ = x.typ
			}
		}
		c.decided(x, e)
	}
	for _, f := range fams {
		f.lead = state[f].lead
	}
}

// closure returns the suspect families and those related to them.
func (c *mergeChange) closure() (fams []*family) {
	seen := map[*family]bool{}
	queue := slices.Collect(maps.Keys(c.suspect))
	for len(queue) > 0 {
		f := queue[0]
		queue = queue[1:]
		if seen[f] {
			continue
		}
		seen[f] = true
		if f.files > 0 {
			fams = append(fams, f)
		} else if !c.suspect[f] {
			continue // its relations are none of this change
		}
		for r := range c.m.related(f.name) {
			queue = append(queue, r.fam)
		}
	}
	return fams
}

// appendMembers appends the parts of a family, but for those that are the agent's
// or excluded for its sake.
func (c *mergeChange) appendMembers(list []member, f *family) []member {
	add := func(id *ident) {
		if d, ok := c.m.files.get(id).has(f.name); ok {
			list = append(list, member{id, f, d.typ})
		}
	}
	r := c.m.ropeOf(f)
	r.from(f, nil, func(o *family, id *ident, _ []byte) bool {
		if o != f {
			return false
		}
		if id != nil {
			add(id)
		}
		return true
	})
	for id, e := range f.excluded {
		if e.blocked || f.partial[id] != nil && r.piece(f, id) == nil {
			add(id)
		}
	}
	return list
}

// decided excludes a part or lets it take part in the merge, if that is new.
func (c *mergeChange) decided(x member, e *excludedPart) {
	f, id := x.fam, x.id
	before := f.excluded[id]
	wasBlocked := before != nil && before.blocked
	switch {
	case e == nil && !wasBlocked:
	case e != nil && wasBlocked:
		e.text, e.Series = before.text, before.Series
		if !sameConflict(&before.Conflict, &e.Conflict) {
			c.exclude(f, id, e)
		}
	case e != nil:
		d, text := c.m.part(f, id)
		served := text
		if f.touchesOwn {
			served, _ = c.m.withoutOwn(f, d, text)
		}
		c.unindex(f, id, hashesOf(d, served))
		f.accepted[d.typ]--
		delete(f.partial, id)
		e.text, e.Series = text, strings.Count(text, "\n")
		c.exclude(f, id, e)
		c.edits = append(c.edits, edit{fam: f, id: id})
	default:
		d, text := c.m.part(f, id)
		c.include(f, id)
		served := text
		if f.touchesOwn {
			var own *Conflict
			if served, own = c.m.withoutOwn(f, d, text); own != nil {
				f.setPartial(id, &partial{text: text, own: own})
				c.describe(f, id)
			}
		}
		c.accept(f, id, d.typ, hashesOf(d, served))
		c.edits = append(c.edits, edit{fam: f, id: id, text: served})
	}
}

// withoutOwn returns what of a part does not touch the agent's own metrics, and
// the conflict if that is not all.
func (m *merger) withoutOwn(f *family, d desc, text string) (string, *Conflict) {
	refused := &Conflict{Reason: Reserved, Series: strings.Count(text, "\n")}
	for _, suffix := range compositeSuffixes {
		if o, ok := m.own[f.name+suffix]; ok && !o.part && d.typ.reserves(suffix) {
			return "", refused
		}
	}
	own, ok := m.own[f.name]
	if !ok {
		return text, nil
	}
	if own.part || d.typ != Unstated && d.typ != own.Type || own.Type.composite() && d.typ == Unstated {
		return "", refused
	}
	var keep strings.Builder
	var x *Conflict
	eachMetric(d, text, func(base []byte, lines string) bool {
		if hasOtherLabel(string(base), own.Labels) {
			keep.WriteString(lines)
			return true
		}
		if x == nil {
			x = &Conflict{Reason: Reserved, Line: seriesOf(lines)}
		}
		x.Series += strings.Count(lines, "\n")
		return true
	})
	return keep.String(), x
}

// hasOtherLabel reports whether a label set in braces has a label that is not in
// the list.
func hasOtherLabel(base string, names []string) bool {
	if base == "" {
		return false
	}
	for name := range eachLabel(base[1 : len(base)-1]) {
		if !slices.Contains(names, unquote(name)) {
			return true
		}
	}
	return false
}

// precheck says that a large content has been checked already.
type precheck struct{ at uint64 } // the last change of the merge before that

// precheck begins to check a content some parts at a time.
func (m *merger) precheck() *precheck { return &precheck{at: m.changes} }

// checkEarly is check for some of the parts. It makes their families, which takes
// time as well when there are many new ones: see forgetParts.
func (m *merger) checkEarly(id *ident, parts, old []part) *Conflict {
	for i := range parts {
		m.family(parts[i].desc.Value().name)
	}
	return m.checkParts(id, parts, old, nil)
}

// forgetParts forgets the families of parts that are not going to be merged.
func (m *merger) forgetParts(parts []part) {
	for i := range parts {
		if f := m.fams[parts[i].desc.Value().name]; f != nil {
			m.forget(f)
		}
	}
}

// check returns with what the content of a push would conflict, nil if with
// nothing. Other than in the merge, where the later one is excluded, it does not
// matter which of the two would come first.
func (m *merger) check(c *content, old []part, done *precheck) *Conflict {
	return m.checkParts(c.file.id, c.parts, old, done)
}

// typesOf returns the types of parts, by name.
func typesOf(parts []part) map[string]Type {
	types := make(map[string]Type, len(parts))
	for i := range parts {
		d := parts[i].desc.Value()
		types[d.name] = d.typ
	}
	return types
}

func (m *merger) checkParts(id *ident, parts, old []part, done *precheck) *Conflict {
	var had map[string]Type
	for i := range parts {
		if done != nil && !m.changedSince(parts[i].desc.Value(), done.at) {
			continue
		}
		if had == nil {
			had = typesOf(old)
		}
		if x := m.checkPart(id, &parts[i], had); x != nil {
			x.File = id.name
			return x
		}
	}
	return nil
}

// changedSince reports whether a part of that kind may conflict with more than it
// did at that change.
func (m *merger) changedSince(d desc, at uint64) bool {
	if f := m.fams[d.name]; f != nil && f.change > at {
		return true
	}
	for r := range m.related(d.name, d.typ) {
		if r.fam.change > at {
			return true
		}
	}
	return false
}

func (m *merger) checkPart(id *ident, p *part, had map[string]Type) *Conflict {
	d := p.desc.Value()
	if IsReserved(d.name) {
		return &Conflict{Family: d.name, Reason: Reserved}
	}
	f := m.fams[d.name]
	if f == nil {
		f = m.newFamily(d.name) // only looked at
	}
	if f.touchesOwn {
		if _, x := m.withoutOwn(f, d, p.text); x != nil {
			x.Family = d.name
			return x
		}
	}
	// Types: that of any other file that is served.
	others := f.accepted
	if t, ok := had[d.name]; ok && others[t] > 0 && (f.excluded[id] == nil || f.partial[id] != nil) {
		others[t]--
	}
	for t, n := range others {
		if n > 0 && typesConflict(Type(t), d.typ) {
			if by := m.servedBy(f, id, func(o desc) bool { return typesConflict(o.typ, d.typ) }); by != nil {
				return &Conflict{Family: d.name, Kept: by.name, Reason: TypeConflict}
			}
		}
	}
	for r := range m.related(f.name, d.typ) {
		if !r.conflicts(d.typ, r.fam.typ()) {
			continue
		}
		if by := m.servedBy(r.fam, id, func(desc) bool { return true }); by != nil {
			return &Conflict{Family: d.name, Kept: by.name, Reason: Duplicate}
		}
	}
	var suspect map[uint64]bool
	for _, h := range p.hashes {
		if by, _ := m.index.server(h, id); by != nil {
			if suspect == nil {
				suspect = map[uint64]bool{}
			}
			suspect[h] = true
		}
	}
	if suspect == nil {
		return nil
	}
	return m.findDuplicate(f, id, d, p.text, suspect)
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

// findDuplicate returns which metric of the text is served from another file, of
// those whose hashes are suspect.
func (m *merger) findDuplicate(f *family, id *ident, d desc, text string, suspect map[uint64]bool) (x *Conflict) {
	eachMetric(d, text, func(base []byte, lines string) bool {
		h := identityHash(d.name, string(base))
		if !suspect[h] {
			return true
		}
		by, sure := m.index.server(h, id)
		if by != nil && (sure && by.base == string(base) && by.fam == f || !sure && m.serves(f, by.id, d, string(base))) {
			x = &Conflict{Family: f.name, Kept: by.id.name, Reason: Duplicate, Line: seriesOf(lines)}
		}
		return x == nil
	})
	return x
}

// serves reports whether a metric of the family is served from the file.
func (m *merger) serves(f *family, id *ident, d desc, metric string) (found bool) {
	eachMetric(d, string(m.ropeOf(f).piece(f, id)), func(base []byte, _ string) bool {
		found = string(base) == metric
		return !found
	})
	return found
}
