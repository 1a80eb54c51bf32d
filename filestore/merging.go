package filestore

import (
	"maps"
	"slices"
	"strings"
)

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
				g.countHelp(u.old, u.oldParts[j].desc.Value(), -1)
			}
			m.totals.add(u.old, -1)
			g.files[u.old.id] = nil
		}
	}
	for i := range updates {
		if u := &updates[i]; u.new != nil {
			for j := range u.new.parts {
				g.add(u.new.file.id, &u.new.parts[j])
				g.countHelp(u.new.file, u.new.parts[j].desc.Value(), 1)
			}
			m.totals.add(u.new.file, 1)
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
			g.recountHelp(u, before[0].desc.Value())
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
	g.removeHelp(f, id, d.help)
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
	if len(g.m.held) == 0 {
		return
	}
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
	if len(g.m.held) > 0 {
		g.suspectBefore(f, id)
		for _, r := range f.related {
			if o := g.m.fams[r.name]; o != nil {
				g.suspectBefore(o, id)
			}
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
	g.addHelp(f, id, d.help)
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
		f.helpBy, f.help = g.m.findHelp(f, nil)
	}
	if !f.aligned() {
		g.m.markHelp(f.name)
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
