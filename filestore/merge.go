package filestore

import (
	"maps"
	"slices"
	"strings"
)

// family is one metric family of the merge. The name is fixed; everything else
// belongs to the merger.
type family struct {
	name   string
	beside bool // the agent has a family of that name itself, so it is kept apart
	near   bool // the agent has one of that name or of what would be a part of this

	files  int    // files that have it, whether or not they could be merged
	types  [6]int // the same by type
	served int    // pieces in the rope, without the header
	typ    Type   // as served
	help   string // as served: the first text in the order of files
	helpBy *ident // whose text that is
	header string // as it stands in the rope

	related []relation // by its name

	held     map[*ident]*held // what had to give way, by file
	culprits map[*ident]int   // how many of these gave way to the file
}

// held is a part that could not be merged as it is.
type held struct {
	Conflict
	text     string   // all of it
	culprits []*ident // what it clashes with; nil for the agent
}

// An Own describes a metric family that the agent serves itself. A file may
// add series to it only with the same type and with a label that the agent's
// own series do not have.
type Own struct {
	Type   Type
	Labels []string

	part bool // no family, but a part of a histogram or summary: nothing goes beside it
}

// merger keeps the merge of a set of files up to date. A change costs what the
// changed files hold: the clash check asks an index about their metrics, and
// publishing replaces the segments that they touch. It is not safe for
// concurrent use; the views that it makes are.
type merger struct {
	own  map[string]Own
	fams map[string]*family

	// The identity of every metric in every file: in seen if it is anywhere,
	// and in more how often beyond once. A hit is only a suspicion, as hashes
	// may collide: the text decides.
	seen map[uint64]struct{}
	more map[uint64]int

	files  catalog
	main   rope // what is served, but for families that the agent has as well
	beside rope // these
	held   map[heldKey]*held
	totals Totals

	unsettled bool // some group would have another HELP text, see SettleHelp
	quoted    int  // parts that may have a name in quotes

	fileError, fileTime, fileHeld *family
	states                        map[*ident]state
}

type heldKey struct {
	family string
	id     ident
}

func newMerger(own map[string]Own) *merger {
	m := &merger{
		own:  maps.Clone(own),
		fams: make(map[string]*family),
		seen: make(map[uint64]struct{}),
		more: make(map[uint64]int),
		held: make(map[heldKey]*held),

		states: make(map[*ident]state),
	}
	if own == nil {
		m.own = make(map[string]Own)
	}
	for name, o := range own {
		for _, suffix := range compositeSuffixes {
			if o.Type.reserves(suffix) {
				m.own[name+suffix] = Own{Type: o.Type, part: true}
			}
		}
	}
	m.fileError = m.stateFamily("promspool_file_error", "Whether a file, or a part of it, is not served, and why: 1 for each reason. The log and the page say more.")
	m.fileTime = m.stateFamily("promspool_file_mtime_seconds", "Unix time of the last change of a dropped file.")
	m.fileHeld = m.stateFamily("promspool_file_held_since_seconds", "Unix time since when the last good content of a file is served in place of what it holds, because a writer is at work or has just left it broken.")
	return m
}

func (m *merger) family(name string) *family {
	f := m.fams[name]
	if f == nil {
		f = m.newFamily(strings.Clone(name))
		m.fams[f.name] = f
	}
	return f
}

func (m *merger) newFamily(name string) *family {
	_, own := m.own[name]
	f := &family{name: name, beside: own, near: own, related: relations(name)}
	for _, r := range f.related {
		if _, own := m.own[r.name]; own && r.part {
			f.near = true
		}
	}
	return f
}

// IsReserved reports whether a family of that name is the agent's: whatever
// begins with promspool_, but for the metrics of jobs, which are pushed.
func IsReserved(name string) bool {
	return strings.HasPrefix(name, "promspool_") && !strings.HasPrefix(name, RecordPrefix)
}

func (m *merger) file(name string) *File {
	for _, k := range kindsOf(name) {
		if f := m.files.get(&ident{k, name}); f != nil {
			return f
		}
	}
	return nil
}

func (m *merger) ropeOf(f *family) *rope {
	if f.beside {
		return &m.beside
	}
	return &m.main
}

// text returns all that the file has of the family, served or not.
func (m *merger) text(f *family, id *ident) string {
	if h := f.held[id]; h != nil {
		return h.text
	}
	return string(m.ropeOf(f).piece(f, id))
}

// parts returns the content of a file that is part of the merge.
func (m *merger) parts(f *File) []part {
	parts := make([]part, len(f.parts))
	for i, h := range f.parts {
		d := h.Value()
		parts[i] = part{desc: h, text: m.text(m.fams[d.name], f.id)}
		eachMetric(d, parts[i].text, func(base []byte, _ string) bool {
			parts[i].hashes = append(parts[i].hashes, identityHash(d.name, string(base)))
			return true
		})
	}
	return parts
}

// update is one file of the merge before and after.
type update struct {
	old      *File
	oldParts []part // of old
	new      *content
}

// merging is the work of one call of apply.
type merging struct {
	m       *merger
	edits   []edit
	touched map[*family]bool
	suspect map[*family]bool
	helps   map[*family]bool // whose HELP text has to be looked for again
	files   map[*ident]*File // whose state may have changed; nil for a file that is gone
}

// apply brings the merge up to date with the updates, which are about distinct
// files.
func (m *merger) apply(updates []update) {
	g := m.begin()
	g.take(updates)
	g.finish()
}

// begin starts a change of the merge. Between take and finish it may have what
// is not to be served, so no view is made of it.
func (m *merger) begin() *merging {
	return &merging{m: m, touched: map[*family]bool{}, suspect: map[*family]bool{}, helps: map[*family]bool{}, files: map[*ident]*File{}}
}

// take adds the updates. It may be called again, with other files.
func (g *merging) take(updates []update) {
	m := g.m
	changes := make([]change, 0, len(updates))
	for i := range updates {
		u := &updates[i]
		if u.old != nil && u.new != nil && *u.old.id == *u.new.file.id {
			u.new.file.id = u.old.id
			changes = append(changes, change{u.old.id, u.old, u.new.file})
		} else {
			if u.old != nil {
				changes = append(changes, change{u.old.id, u.old, nil})
			}
			if u.new != nil {
				changes = append(changes, change{u.new.file.id, nil, u.new.file})
			}
		}
		g.dropUnchanged(u)
	}
	for i := range updates {
		if u := &updates[i]; u.old != nil {
			for j := range u.oldParts {
				g.remove(u.old.id, &u.oldParts[j])
			}
			m.totals.add(u.old, -1)
			g.files[u.old.id] = nil
		}
	}
	for i := range updates {
		if u := &updates[i]; u.new != nil {
			for j := range u.new.parts {
				g.add(u.new.file.id, &u.new.parts[j])
			}
			m.totals.add(u.new.file, 1)
			m.unsettled = m.unsettled || len(u.new.file.wants) > 0
			g.files[u.new.file.id] = u.new.file
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return compareIdent(a.id, b.id) })
	m.files = m.files.with(changes)
	g.flush()
}

// finish settles what the updates have brought up.
func (g *merging) finish() {
	m := g.m
	if len(g.suspect) > 0 {
		g.resolve()
		g.flush()
	}
	for f := range g.touched {
		g.header(f)
	}
	for id, f := range g.files {
		g.state(id, f)
	}
	g.flush()
	for _, f := range [...]*family{m.fileError, m.fileTime, m.fileHeld} {
		g.header(f)
	}
	g.flush()
	for f := range g.touched {
		if f.files == 0 && f.served == 0 && len(f.held) == 0 && !m.isState(f) {
			delete(m.fams, f.name)
		}
	}
}

// dropUnchanged takes the parts that stay as they are out of an update.
func (g *merging) dropUnchanged(u *update) {
	if u.old == nil || u.new == nil || u.old.id != u.new.file.id {
		return
	}
	same := func(a, b *part) bool { return a.desc == b.desc && a.text == b.text }
	before, after := u.oldParts, u.new.parts
	u.oldParts, u.new.parts = nil, nil
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(before) > 0 && len(after) > 0 && same(&before[0], &after[0]):
			before, after = before[1:], after[1:]
		case len(after) == 0 || len(before) > 0 && before[0].desc.Value().name < after[0].desc.Value().name:
			u.oldParts = append(u.oldParts, before[0])
			before = before[1:]
		case len(before) == 0 || before[0].desc.Value().name > after[0].desc.Value().name:
			u.new.parts = append(u.new.parts, after[0])
			after = after[1:]
		default:
			u.oldParts, u.new.parts = append(u.oldParts, before[0]), append(u.new.parts, after[0])
			before, after = before[1:], after[1:]
		}
	}
}

func (g *merging) remove(id *ident, p *part) {
	d := p.desc.Value()
	f := g.m.fams[d.name]
	g.touched[f] = true
	if IsReserved(f.name) && !belongs(id, f.name) {
		g.release(f, id)
		return
	}
	for _, h := range p.hashes {
		g.m.unsee(h)
	}
	if maybeQuoted(p.text) {
		g.m.quoted--
	}
	f.files--
	f.types[d.typ]--
	if f.helpBy == id {
		g.helps[f] = true
	}
	if f.held[id] != nil || f.culprits[id] > 0 {
		g.suspect[f] = true
		g.release(f, id)
	}
	if f.types[f.typ] == 0 {
		if len(f.held) > 0 { // among the types left may be that of one that had to give way
			g.suspect[f] = true
		}
		f.typ = Unstated
		for t := Untyped; t <= Histogram; t++ {
			if f.types[t] > 0 {
				f.typ = t
				break
			}
		}
	}
	g.suspectRelated(f)
	g.edits = append(g.edits, edit{fam: f, id: id})
}

// suspectRelated marks what had to give way to a family related by its name.
func (g *merging) suspectRelated(f *family) {
	for _, r := range f.related {
		if o := g.m.fams[r.name]; o != nil && len(o.held) > 0 {
			g.suspect[o] = true
		}
	}
}

func (g *merging) add(id *ident, p *part) {
	d := p.desc.Value()
	f := g.m.family(d.name)
	g.touched[f] = true
	if IsReserved(f.name) && !belongs(id, f.name) {
		g.hold(f, id, &held{
			Conflict: Conflict{Family: f.name, File: id.name, Reason: Reserved, Series: strings.Count(p.text, "\n")},
			text:     p.text,
		})
		return
	}
	if maybeQuoted(p.text) {
		g.m.quoted++
	}
	f.files++
	f.types[d.typ]++
	if g.m.clashes(f, d) || g.m.collides(f, d) {
		g.suspect[f] = true
	} else if f.near {
		if _, h := g.m.beyondOwn(member{fam: f, desc: d, text: p.text}); h != nil {
			g.suspect[f] = true
		}
	}
	// What gave way to a later file may now be said to give way to this one.
	g.suspectBefore(f, id)
	for _, r := range f.related {
		if o := g.m.fams[r.name]; o != nil {
			g.suspectBefore(o, id)
		}
	}
	if f.typ == Unstated {
		f.typ = d.typ
	}
	for _, h := range p.hashes {
		if g.m.see(h) {
			g.suspect[f] = true
		}
	}
	if d.help != f.help && f.files > 1 {
		g.m.unsettled = true
	}
	if d.help != "" && (f.helpBy == nil || compareIdent(id, f.helpBy) < 0) {
		f.help, f.helpBy = d.help, id
	}
	g.edits = append(g.edits, edit{fam: f, id: id, text: p.text})
}

func (g *merging) suspectBefore(f *family, id *ident) {
	for c := range f.culprits {
		if compareIdent(id, c) < 0 {
			g.suspect[f] = true
			return
		}
	}
}

// maybeQuoted reports whether canonical text may have the name of a metric or of
// a label in quotes. A value may look like that, too.
func maybeQuoted(text string) bool {
	return strings.Contains(text, `{"`) || strings.Contains(text, `"=`)
}

// see adds a metric to the index and reports whether it was there already.
func (m *merger) see(h uint64) bool {
	if _, ok := m.seen[h]; ok {
		m.more[h]++
		return true
	}
	m.seen[h] = struct{}{}
	return false
}

func (m *merger) unsee(h uint64) {
	switch n := m.more[h]; {
	case n > 1:
		m.more[h] = n - 1
	case n == 1:
		delete(m.more, h)
	default:
		delete(m.seen, h)
	}
}

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

// flush applies the edits collected so far to the ropes.
func (g *merging) flush() {
	if len(g.edits) == 0 {
		return
	}
	g.sortEdits()
	// Of a removal and an addition of the same piece the addition counts; it came later.
	n := 0
	for i := range g.edits {
		if n > 0 && compareEdits(g.edits[n-1], g.edits[i]) == 0 {
			n--
		}
		g.edits[n] = g.edits[i]
		n++
	}
	g.edits = g.edits[:n]
	if i := slices.IndexFunc(g.edits, func(e edit) bool { return e.fam.beside }); i >= 0 {
		var main, beside []edit
		for _, e := range g.edits {
			if e.fam.beside {
				beside = append(beside, e)
			} else {
				main = append(main, e)
			}
		}
		g.m.main, g.m.beside = g.m.main.apply(main), g.m.beside.apply(beside)
	} else {
		g.m.main = g.m.main.apply(g.edits)
	}
	g.edits = g.edits[:0]
}

// sortEdits puts the edits in the order of the ropes. Of many, those of one family
// mostly are in the order of files already, as the files were.
func (g *merging) sortEdits() {
	if len(g.edits) < 256 {
		slices.SortStableFunc(g.edits, compareEdits)
		return
	}
	byFamily := map[*family][]edit{}
	for _, e := range g.edits {
		byFamily[e.fam] = append(byFamily[e.fam], e)
	}
	fams := slices.SortedFunc(maps.Keys(byFamily), func(a, b *family) int { return strings.Compare(a.name, b.name) })
	g.edits = g.edits[:0]
	for _, f := range fams {
		edits := byFamily[f]
		if !slices.IsSortedFunc(edits, compareEdits) {
			slices.SortStableFunc(edits, compareEdits)
		}
		g.edits = append(g.edits, edits...)
	}
}

// header brings the header of a family up to date.
func (g *merging) header(f *family) {
	if g.helps[f] {
		g.findHelp(f)
	}
	text := ""
	if f.served > 0 {
		t := f.typ
		if own, ok := g.m.own[f.name]; ok {
			t = own.Type
		}
		text = string(appendHeader(nil, f.name, f.help, t))
	}
	if text != f.header {
		f.header = text
		g.edits = append(g.edits, edit{fam: f, text: text})
	}
}

// findHelp looks for the first text in the order of files. Pushed files agree
// on their texts, so the first or second file has it where any has.
func (g *merging) findHelp(f *family) {
	f.help, f.helpBy = "", nil
	g.m.ropeOf(f).from(f, nil, func(o *family, id *ident, _ []byte) bool {
		if o != f {
			return false
		}
		if id == nil {
			return true
		}
		if d, _ := g.m.files.get(id).has(f.name); d.help != "" {
			f.help, f.helpBy = d.help, id
			return false
		}
		return true
	})
}

// release forgets what the file had to hold back in the family.
func (g *merging) release(f *family, id *ident) {
	h := f.held[id]
	if h == nil {
		return
	}
	delete(f.held, id)
	for _, c := range h.culprits {
		if f.culprits[c]--; f.culprits[c] <= 0 {
			delete(f.culprits, c)
		}
	}
	g.m.held = maps.Clone(g.m.held)
	delete(g.m.held, heldKey{f.name, *id})
	g.noteState(id)
}

// hold remembers what the file has to hold back in the family.
func (g *merging) hold(f *family, id *ident, h *held) {
	if f.held == nil {
		f.held, f.culprits = map[*ident]*held{}, map[*ident]int{}
	}
	f.held[id] = h
	for _, c := range h.culprits {
		f.culprits[c]++
	}
	g.m.held = maps.Clone(g.m.held)
	g.m.held[heldKey{f.name, *id}] = h
	g.noteState(id)
}
