package merge

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// Which parts take part in the merge is decided family by family, and for families
// that are related by their names together: files are let in in their order, and
// a part whose type or name contradicts one that is in already is excluded as a
// whole. The outcome depends on the files alone.

// typesConflict reports whether two files cannot share a family if one states
// type a and the other b. A missing TYPE line contradicts nothing, unless the
// other's samples are parts of histograms or summaries.
func typesConflict(a, b exposition.Type) bool {
	if a == exposition.Unstated || b == exposition.Unstated {
		return a.Composite() || b.Composite()
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
func (r *relation) conflicts(t, o exposition.Type) bool {
	if r.part {
		return t.Reserves(r.suffix)
	}
	return o.Reserves(r.suffix)
}

// relatedNames returns the names that families related to one of that name have.
func relatedNames(name string) (names []string) {
	for _, s := range exposition.CompositeSuffixes {
		names = append(names, name+s)
		if base, ok := strings.CutSuffix(name, s); ok && base != "" {
			names = append(names, base)
		}
	}
	return names
}

// related yields the families of the merge that are related to one by name. If t
// is given, only those that a part of that type can conflict with.
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

// lead is which of the accepted parts of a family come first.
type lead struct {
	known bool
	first *record.ID // of all
	typed *record.ID // of those that state a type
	plain *record.ID // of those that state none
}

func (l *lead) has(id *record.ID) bool { return id == l.first || id == l.typed || id == l.plain }

// enter takes note of an accepted part and reports whether it leads in something.
func (l *lead) enter(id *record.ID, t exposition.Type) (leads bool) {
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

// admit decides whether a new part of a family takes part in the merge, and
// returns the exclusion if not. Where that depends on more than the first parts
// the family becomes suspect.
func (c *Change) admit(f *family, id *record.ID, t exposition.Type) *excludedPart {
	if c.suspect[f] {
		return nil
	}
	e, by, sure := c.blocker(f, t)
	switch {
	case !sure, e != nil && record.Compare(id, by) < 0:
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
func (c *Change) blocker(f *family, t exposition.Type) (e *excludedPart, by *record.ID, sure bool) {
	sure = true
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
	return e, by, sure
}

func blockedBy(r exposition.Reason, by *record.ID) *excludedPart {
	return &excludedPart{Conflict: record.Conflict{Kept: by.Name, Reason: r}, blocked: true}
}

// hasBlocked reports whether parts of the family or of one related to it are
// excluded as a whole.
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

// member is one part in a family of which it is decided anew what is accepted.
type member struct {
	id  *record.ID
	fam *family
	typ exposition.Type
}

// resolve decides for the suspect families, and all that are related to them by
// name, which parts are accepted.
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
			s.lead.enter(x.id, x.typ)
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

// decided excludes a part or lets it take part in the merge, if that is new.
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

// withoutOwn returns what of a part does not touch the agent's own metrics, and
// the conflict if that is not all.
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

// hasOtherLabel reports whether a label set in braces has a label that is not in
// the list.
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

// Precheck says that a large content has been checked already.
type Precheck struct{ at uint64 } // the last change of the merge before that

// Precheck begins to check a content some parts at a time.
func (m *Merger) Precheck() *Precheck { return &Precheck{at: m.changes} }

// CheckEarly is check for some of the parts. It makes their families, which takes
// time as well when there are many new ones: see forgetParts.
func (m *Merger) CheckEarly(id *record.ID, parts, old []exposition.Part) *record.Conflict {
	for i := range parts {
		m.family(parts[i].Desc.Value().Name)
	}
	return m.checkParts(id, parts, old, nil)
}

// ForgetParts forgets the families of parts that are not going to be merged.
func (m *Merger) ForgetParts(parts []exposition.Part) {
	for i := range parts {
		if f := m.fams[parts[i].Desc.Value().Name]; f != nil {
			m.forget(f)
		}
	}
}

// Check returns with what the content of a push would conflict, nil if with
// nothing. Other than in the merge, where the later one is excluded, it does not
// matter which of the two would come first.
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

// mostConflicts is how many conflicts of one push are listed.
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

// changedSince reports whether a part of that kind may conflict with more than it
// did at that change.
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
		f = m.newFamily(d.Name) // only looked at
	}
	if f.touchesOwn {
		if _, x := m.withoutOwn(f, d, p.Text); x != nil {
			x.Family = d.Name
			return x
		}
	}
	// Types: that of any other file that is served.
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

// servedBy returns the first file other than id of which something is served in
// the family, and whose description fits.
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

// findDuplicate returns which metric of the text is served from another file, of
// those whose hashes are suspect.
func (m *Merger) findDuplicate(f *family, id *record.ID, d exposition.Desc, text string, suspect map[uint64]bool) (x *record.Conflict) {
	exposition.EachMetric(d, text, func(base []byte, lines string) bool {
		h := exposition.IdentityHash(d.Name, string(base))
		if !suspect[h] {
			return true
		}
		by, sure := m.index.server(h, id)
		if by != nil && (sure && by.base == string(base) && by.fam == f || !sure && m.serves(f, by.id, d, string(base))) {
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
