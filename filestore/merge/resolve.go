package merge

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// Accepted parts are determined for each family, together with families of related
// names. Files are accepted in their order. A part whose type or name conflicts with
// an accepted part is excluded as a whole. The result depends only on the files.

// typesConflict reports whether two files with types a and b cannot share a family. A
// missing TYPE line conflicts only with histograms and summaries.
func typesConflict(a, b exposition.Type) bool {
	if a == exposition.Unstated || b == exposition.Unstated {
		return a.Composite() || b.Composite()
	}
	return a != b
}

// relation is a family whose name is related to that of another, as a histogram or
// summary is to its parts.
type relation struct {
	fam    *family
	suffix string
	part   bool // its name is the longer one
}

// conflicts reports whether a family of type t conflicts with the related one of
// type o.
func (r *relation) conflicts(t, o exposition.Type) bool {
	if r.part {
		return t.Reserves(r.suffix)
	}
	return o.Reserves(r.suffix)
}

// relatedNames returns the names of related families.
func relatedNames(name string) (names []string) {
	for _, s := range exposition.CompositeSuffixes {
		names = append(names, name+s)
		if base, ok := strings.CutSuffix(name, s); ok && base != "" {
			names = append(names, base)
		}
	}
	return names
}

// related yields the families of the merge that are related by name. If t is given,
// only those that a part of that type can conflict with.
func (m *Merger) related(name string, t ...exposition.Type) iter.Seq[relation] {
	return func(yield func(relation) bool) {
		var room [64]byte
		for _, s := range exposition.CompositeSuffixes {
			if len(t) == 0 || t[0].Reserves(s) {
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

// lead has the first accepted parts of a family.
type lead struct {
	known bool
	first *record.ID // of all
	typed *record.ID // of those with a type
	plain *record.ID // of those without
}

func (l *lead) has(id *record.ID) bool { return id == l.first || id == l.typed || id == l.plain }

// add records an accepted part and reports whether it is a first one.
func (l *lead) add(id *record.ID, t exposition.Type) (leads bool) {
	mine := &l.typed
	if t == exposition.Unstated {
		mine = &l.plain
	}
	for _, at := range [...]**record.ID{&l.first, mine} {
		if *at == nil || record.Compare(id, *at) < 0 {
			*at, leads = id, true
		}
	}
	return leads
}

// tryAccept decides whether a new part of a family is accepted, and returns the
// exclusion if not. If that depends on more than the first parts, it marks the family as
// suspect.
func (c *Change) tryAccept(f *family, id *record.ID, t exposition.Type) *excludedPart {
	if c.suspect[f] {
		return nil
	}
	e, by, known := c.blocker(f, t)
	switch {
	case !known, e != nil && record.Compare(id, by) < 0:
		c.suspect[f] = true
		return nil
	case e != nil:
		return e
	}
	if f.accepted == [6]int{} {
		f.lead = lead{known: true}
	}
	if (!f.lead.known || f.lead.add(id, t)) && c.hasBlocked(f) {
		c.suspect[f] = true // the exclusions may name another part
	}
	return nil
}

// blocker returns the first accepted part that conflicts with a type in the family,
// and the exclusion, nil if there is none. The result is not known if the first parts
// are not.
func (c *Change) blocker(f *family, t exposition.Type) (e *excludedPart, by *record.ID, known bool) {
	known = true
	for u, n := range f.accepted {
		if n == 0 || !typesConflict(exposition.Type(u), t) {
			continue
		}
		first := f.lead.typed
		if exposition.Type(u) == exposition.Unstated {
			first = f.lead.plain
		}
		if !f.lead.known || c.suspect[f] {
			return nil, nil, false
		}
		if by == nil || record.Compare(first, by) < 0 {
			e, by = blockedBy(exposition.TypeConflict, first), first
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
		if by == nil || record.Compare(o.lead.first, by) < 0 {
			e, by = blockedBy(exposition.Duplicate, o.lead.first), o.lead.first
		}
	}
	return e, by, known
}

func blockedBy(r exposition.Reason, by *record.ID) *excludedPart {
	return &excludedPart{Conflict: record.Conflict{Kept: by.Name, Reason: r}, blocked: true}
}

// hasBlocked reports whether parts of the family or a related one are excluded as a
// whole.
func (c *Change) hasBlocked(f *family) bool {
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

// member is one part of a family whose accepted parts are being determined.
type member struct {
	id  *record.ID
	fam *family
	typ exposition.Type
}

// resolve determines the accepted parts of the suspect families and all related
// ones.
func (c *Change) resolve() {
	fams := c.closure()
	var members []member
	for _, f := range fams {
		members = c.appendMembers(members, f)
	}
	slices.SortFunc(members, func(a, b member) int {
		if n := record.Compare(a.id, b.id); n != 0 {
			return n
		}
		return strings.Compare(a.fam.name, b.fam.name)
	})
	// The families as they fill.
	type filled struct {
		lead lead
		typ  exposition.Type
	}
	state := make(map[*family]*filled, len(fams))
	for _, f := range fams {
		state[f] = &filled{lead: lead{known: true}}
		c.touch(f)
	}
	for _, x := range members {
		s := state[x.fam]
		var e *excludedPart
		var by *record.ID
		if s.lead.typed != nil && typesConflict(s.typ, x.typ) {
			by = s.lead.typed
		}
		if s.lead.plain != nil && typesConflict(exposition.Unstated, x.typ) && (by == nil || record.Compare(s.lead.plain, by) < 0) {
			by = s.lead.plain
		}
		if by != nil {
			e = blockedBy(exposition.TypeConflict, by)
		}
		for r := range c.m.related(x.fam.name, x.typ) {
			o := state[r.fam]
			if o == nil || o.lead.first == nil || !r.conflicts(x.typ, o.typ) {
				continue
			}
			if by == nil || record.Compare(o.lead.first, by) < 0 {
				by = o.lead.first
				e = blockedBy(exposition.Duplicate, by)
			}
		}
		if e == nil {
			s.lead.add(x.id, x.typ)
			if x.typ != exposition.Unstated {
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
func (c *Change) closure() (fams []*family) {
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
			continue // its related families do not change
		}
		for r := range c.m.related(f.name) {
			queue = append(queue, r.fam)
		}
	}
	return fams
}

// appendMembers appends the parts of a family, except those that are excluded for
// the agent's own metrics.
func (c *Change) appendMembers(list []member, f *family) []member {
	add := func(id *record.ID) {
		if d, ok := c.m.files.get(id).Has(f.name); ok {
			list = append(list, member{id, f, d.Typ})
		}
	}
	r := c.m.ropeOf(f)
	r.from(f, nil, func(o *family, id *record.ID, _ []byte) bool {
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

// decided excludes or accepts a part if that has changed.
func (c *Change) decided(x member, e *excludedPart) {
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
		f.accepted[d.Typ]--
		delete(f.partial, id)
		e.text, e.Series = text, strings.Count(text, "\n")
		c.exclude(f, id, e)
		c.edits = append(c.edits, edit{fam: f, id: id})
	default:
		d, text := c.m.part(f, id)
		c.include(f, id)
		served := text
		if f.touchesOwn {
			var own *record.Conflict
			if served, own = c.m.withoutOwn(f, d, text); own != nil {
				f.setPartial(id, &partial{text: text, own: own})
				c.describe(f, id)
			}
		}
		c.accept(f, id, d.Typ, hashesOf(d, served))
		c.edits = append(c.edits, edit{fam: f, id: id, text: served})
	}
}

// withoutOwn returns the text of a part without conflicts with the agent's own
// metrics, and the conflict if there is one.
func (m *Merger) withoutOwn(f *family, d exposition.Desc, text string) (string, *record.Conflict) {
	refused := &record.Conflict{Reason: exposition.Reserved, Series: strings.Count(text, "\n")}
	for _, suffix := range exposition.CompositeSuffixes {
		if o, ok := m.own[f.name+suffix]; ok && !o.part && d.Typ.Reserves(suffix) {
			return "", refused
		}
	}
	own, ok := m.own[f.name]
	if !ok {
		return text, nil
	}
	if !own.part {
		refused.Type, refused.KeptType = d.Typ, own.Type
	}
	if own.part || d.Typ != exposition.Unstated && d.Typ != own.Type || own.Type.Composite() && d.Typ == exposition.Unstated {
		return "", refused
	}
	var keep strings.Builder
	var x *record.Conflict
	exposition.EachMetric(d, text, func(base []byte, lines string) bool {
		if hasOtherLabel(string(base), own.Labels) {
			keep.WriteString(lines)
			return true
		}
		if x == nil {
			x = &record.Conflict{Reason: exposition.Reserved, Line: exposition.SeriesOf(lines)}
		}
		x.Series += strings.Count(lines, "\n")
		return true
	})
	return keep.String(), x
}

// hasOtherLabel reports whether a label set in braces has a label outside of the
// list.
func hasOtherLabel(base string, names []string) bool {
	if base == "" {
		return false
	}
	for name := range exposition.EachLabel(base[1 : len(base)-1]) {
		if !slices.Contains(names, exposition.Unquote(name)) {
			return true
		}
	}
	return false
}

// Precheck records that a large content was checked before its commit.
type Precheck struct{ at uint64 } // number of the last change before the check

// Precheck begins the check of a content in several steps.
func (m *Merger) Precheck() *Precheck { return &Precheck{at: m.changes} }

// CheckEarly is Check for some of the parts. It adds their families to the merge,
// which takes time for many new ones: see ForgetParts.
func (m *Merger) CheckEarly(id *record.ID, parts, old []exposition.Part) *record.Conflict {
	for i := range parts {
		m.family(parts[i].Desc.Value().Name)
	}
	return m.checkParts(id, parts, old, nil)
}

// ForgetParts deletes the families of parts that will not be merged.
func (m *Merger) ForgetParts(parts []exposition.Part) {
	for i := range parts {
		if f := m.fams[parts[i].Desc.Value().Name]; f != nil {
			m.forget(f)
		}
	}
}

// Check returns the conflict of the content of a push, nil if there is none. Unlike
// in the merge, the order of the files does not matter.
func (m *Merger) Check(c *record.Content, old []exposition.Part, done *Precheck) *record.Conflict {
	return m.checkParts(c.File.ID(), c.Parts, old, done)
}

// typesOf returns the types of parts, by name.
func typesOf(parts []exposition.Part) map[string]exposition.Type {
	types := make(map[string]exposition.Type, len(parts))
	for i := range parts {
		d := parts[i].Desc.Value()
		types[d.Name] = d.Typ
	}
	return types
}

// mostConflicts is the maximum number of conflicts in the error of a push.
const mostConflicts = 5

func (m *Merger) checkParts(id *record.ID, parts, old []exposition.Part, done *Precheck) *record.Conflict {
	var had map[string]exposition.Type
	var first *record.Conflict
	for i := range parts {
		if done != nil && !m.changedSince(parts[i].Desc.Value(), done.at) {
			continue
		}
		if had == nil {
			had = typesOf(old)
		}
		if x := m.checkPart(id, &parts[i], had); x != nil {
			x.File = id.Name
			if first == nil {
				first = x
				continue
			}
			if first.More = append(first.More, x); len(first.More) == mostConflicts-1 {
				break
			}
		}
	}
	return first
}

// changedSince reports whether a part of that kind may have new conflicts since that
// change.
func (m *Merger) changedSince(d exposition.Desc, at uint64) bool {
	if f := m.fams[d.Name]; f != nil && f.change > at {
		return true
	}
	for r := range m.related(d.Name, d.Typ) {
		if r.fam.change > at {
			return true
		}
	}
	return false
}

func (m *Merger) checkPart(id *record.ID, p *exposition.Part, had map[string]exposition.Type) *record.Conflict {
	d := p.Desc.Value()
	if record.IsReserved(d.Name) {
		return &record.Conflict{Family: d.Name, Reason: exposition.Reserved}
	}
	f := m.fams[d.Name]
	if f == nil {
		f = m.newFamily(d.Name) // not added
	}
	if f.touchesOwn {
		if _, x := m.withoutOwn(f, d, p.Text); x != nil {
			x.Family = d.Name
			return x
		}
	}
	// Conflicts of types with any other served file.
	others := f.accepted
	if t, ok := had[d.Name]; ok && others[t] > 0 && (f.excluded[id] == nil || f.partial[id] != nil) {
		others[t]--
	}
	for t, n := range others {
		if n > 0 && typesConflict(exposition.Type(t), d.Typ) {
			if by := m.servedBy(f, id, func(o exposition.Desc) bool { return typesConflict(o.Typ, d.Typ) }); by != nil {
				o, _ := m.files.get(by).Has(d.Name)
				return &record.Conflict{Family: d.Name, Kept: by.Name, Reason: exposition.TypeConflict, Type: d.Typ, KeptType: o.Typ}
			}
		}
	}
	for r := range m.related(f.name, d.Typ) {
		if !r.conflicts(d.Typ, r.fam.typ()) {
			continue
		}
		if by := m.servedBy(r.fam, id, func(exposition.Desc) bool { return true }); by != nil {
			return &record.Conflict{Family: d.Name, Kept: by.Name, Reason: exposition.Duplicate}
		}
	}
	var suspect map[uint64]bool
	for _, h := range p.Hashes {
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
	return m.findDuplicate(f, id, d, p.Text, suspect)
}

// servedBy returns the first file other than id that is served in the family and
// whose description matches.
func (m *Merger) servedBy(f *family, id *record.ID, fits func(exposition.Desc) bool) (by *record.ID) {
	if f.served == 0 {
		return nil
	}
	m.ropeOf(f).from(f, nil, func(o *family, at *record.ID, _ []byte) bool {
		if o != f {
			return false
		}
		if at == nil || record.Compare(at, id) == 0 {
			return true
		}
		if d, _ := m.files.get(at).Has(f.name); fits(d) {
			by = at
			return false
		}
		return true
	})
	return by
}

// findDuplicate returns the metric of the text that another file serves, among those
// with suspect hashes.
func (m *Merger) findDuplicate(f *family, id *record.ID, d exposition.Desc, text string, suspect map[uint64]bool) (x *record.Conflict) {
	exposition.EachMetric(d, text, func(base []byte, lines string) bool {
		h := exposition.IdentityHash(d.Name, string(base))
		if !suspect[h] {
			return true
		}
		by, isExact := m.index.server(h, id)
		if by != nil && (isExact && by.base == string(base) && by.fam == f || !isExact && m.serves(f, by.id, d, string(base))) {
			x = &record.Conflict{Family: f.name, Kept: by.id.Name, Reason: exposition.Duplicate, Line: exposition.SeriesOf(lines)}
		}
		return x == nil
	})
	return x
}

// serves reports whether a metric of the family is served from the file.
func (m *Merger) serves(f *family, id *record.ID, d exposition.Desc, metric string) (found bool) {
	exposition.EachMetric(d, string(m.ropeOf(f).piece(f, id)), func(base []byte, _ string) bool {
		found = string(base) == metric
		return !found
	})
	return found
}
