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

// mergeChange is the work of one call of apply.
type mergeChange struct {
	m       *merger
	number  uint64
	edits   []edit // of pieces
	headers []edit // the same of headers
	touched []*family
	suspect map[*family]bool // families of which it has to be decided anew which parts are accepted
	shared  map[uint64]bool  // hashes of identities of which it has to be decided anew who serves them
	helps   map[*family]bool // whose HELP text has to be looked for again
	files   map[*ident]*File // whose state may have changed; nil for a file that is gone
	cloned  bool             // the merger's exclusions are no longer those of a View
}

// partKey is the place of a part in the merge.
type partKey struct {
	fam *family
	id  *ident
}

// apply brings the merge up to date with the updates, which are about distinct
// files.
func (m *merger) apply(updates []update) {
	c := m.newChange()
	c.take(updates)
	c.finish()
}

// newChange starts a change of the merge. Between take and finish the merge may
// have what is not to be served, so no View is made of it.
func (m *merger) newChange() *mergeChange {
	m.changes++
	return &mergeChange{
		m: m, number: m.changes, suspect: map[*family]bool{}, shared: map[uint64]bool{},
		helps: map[*family]bool{}, files: map[*ident]*File{},
	}
}

// take adds the updates. It may be called again, with other files.
func (c *mergeChange) take(updates []update) {
	c.flush() // of the call before
	m := c.m
	changes := make([]fileChange, 0, len(updates))
	n := 0
	for i := range updates {
		n += len(updates[i].oldParts)
		if updates[i].new != nil {
			n = max(n, len(updates[i].new.parts))
		}
	}
	parts := make([]partChange, 0, n)
	for i := range updates {
		u := &updates[i]
		if u.old != nil && u.new != nil && *u.old.id == *u.new.file.id {
			u.new.file.sameIdent(u.old)
			changes = append(changes, fileChange{u.old.id, u.old, u.new.file})
			parts = c.appendPartChanges(parts, u.old, u.new.file, u.oldParts, u.new.parts)
		} else {
			if u.old != nil {
				changes = append(changes, fileChange{u.old.id, u.old, nil})
				parts = c.appendPartChanges(parts, u.old, nil, u.oldParts, nil)
			}
			if u.new != nil {
				changes = append(changes, fileChange{u.new.file.id, nil, u.new.file})
				parts = c.appendPartChanges(parts, nil, u.new.file, nil, u.new.parts)
			}
		}
		if u.old != nil {
			m.totals.add(u.old, -1)
			c.files[u.old.id] = nil
		}
		if u.new != nil {
			u.new.parts = nil // the text moves into the merge
			m.totals.add(u.new.file, 1)
		}
	}
	for i := range updates {
		if u := &updates[i]; u.new != nil {
			c.files[u.new.file.id] = u.new.file
		}
	}
	slices.SortFunc(changes, func(a, b fileChange) int { return compareIdent(a.id, b.id) })
	m.files = m.files.with(changes)
	c.edits = slices.Grow(c.edits, len(parts))
	if len(updates) > 1 { // in the order of files, as lists are
		slices.SortStableFunc(parts, func(a, b partChange) int { return compareIdent(a.id, b.id) })
	}
	for i := range parts {
		if p := &parts[i]; p.new == nil {
			c.remove(m.fams[p.old.desc.Value().name], p)
		}
	}
	for i := range parts {
		if p := &parts[i]; p.new != nil {
			c.put(p)
		}
	}
}

// partChange is one part before and after; nil for none.
type partChange struct {
	id               *ident
	oldFile, newFile *File
	old, new         *part
}

// appendPartChanges appends what differs between two lists of parts, which are in
// name order.
func (c *mergeChange) appendPartChanges(list []partChange, old, new *File, before, after []part) []partChange {
	p := partChange{oldFile: old, newFile: new}
	if old != nil {
		p.id = old.id
	} else {
		p.id = new.id
	}
	for len(before) > 0 || len(after) > 0 {
		n := 0
		switch {
		case len(before) == 0:
			n = 1
		case len(after) == 0:
			n = -1
		case before[0].desc != after[0].desc:
			n = strings.Compare(before[0].desc.Value().name, after[0].desc.Value().name)
		case before[0].text == after[0].text:
			c.recountHelp(old, new, before[0].desc.Value())
			before, after = before[1:], after[1:]
			continue
		}
		p.old, p.new = nil, nil
		if n <= 0 {
			p.old, before = &before[0], before[1:]
		}
		if n >= 0 {
			p.new, after = &after[0], after[1:]
		}
		list = append(list, p)
	}
	return list
}

// finish decides what the updates have left open.
func (c *mergeChange) finish() {
	m := c.m
	if len(c.suspect) > 0 {
		c.flush()
		c.resolve()
	}
	if len(c.shared) > 0 {
		c.flush()
		c.decideShared()
	}
	if len(c.helps) > 0 {
		c.flush()
	}
	for _, f := range c.touched {
		if !m.isState(f) {
			c.header(f)
		}
	}
	for id, f := range c.files {
		c.state(id, f)
	}
	c.flush()
	for _, f := range [...]*family{m.fileError, m.fileTime, m.fileHeld} {
		c.setHeader(f, f.served > 0, Gauge)
	}
	c.flush()
	for _, f := range c.touched {
		m.forget(f)
	}
}

// forget forgets a family that no file has.
func (m *merger) forget(f *family) {
	if f.files == 0 && len(f.excluded) == 0 && !m.isState(f) {
		delete(m.fams, f.name)
	}
}

// touch has the header of a family looked at in the end.
func (c *mergeChange) touch(f *family) {
	if f.change != c.number {
		f.change = c.number
		c.touched = append(c.touched, f)
	}
}

// reservedFor reports whether a file may not have a family of that name at all.
func reservedFor(id *ident, name string) bool { return IsReserved(name) && !belongs(id, name) }

// remove takes a part out of the merge.
func (c *mergeChange) remove(f *family, x *partChange) {
	id, p := x.id, x.old
	c.touch(f)
	if reservedFor(id, f.name) {
		c.include(f, id)
		return
	}
	if maybeQuoted(p.text) {
		c.m.quoted--
	}
	f.files--
	d := p.desc.Value()
	c.removeHelp(f, id, d.help)
	c.countHelp(f, x.oldFile, d, -1)
	if e := f.excluded[id]; e != nil && !c.isAccepted(f, id) {
		c.include(f, id)
		return
	}
	c.unaccept(f, id, d.typ, c.hashesOf(f, p))
	c.include(f, id)
	c.edits = append(c.edits, edit{fam: f, id: id})
}

// isAccepted reports whether a part that is in the merge takes part in it, though
// some of its series may be excluded.
func (c *mergeChange) isAccepted(f *family, id *ident) bool {
	return f.excluded[id] == nil || f.partial[id] != nil
}

// hashesOf returns the hashes of the identities that take part in the merge.
func (c *mergeChange) hashesOf(f *family, p *part) []uint64 {
	if !f.touchesOwn {
		return p.hashes
	}
	text, _ := c.m.withoutOwn(f, p.desc.Value(), p.text)
	return hashesOf(p.desc.Value(), text)
}

// put adds a part, in place of another one of the same file if there is one.
func (c *mergeChange) put(p *partChange) {
	d := p.new.desc.Value()
	f := c.m.family(d.name)
	if p.old != nil {
		before := p.old.desc.Value()
		if !f.touchesOwn && before.typ == d.typ && !reservedFor(p.id, f.name) {
			c.replace(f, p)
			return
		}
		c.remove(f, p)
	}
	c.add(f, p)
}

// replace puts a part in the place of one of the same file and type, so that what
// is accepted stays so.
func (c *mergeChange) replace(f *family, p *partChange) {
	id, d := p.id, p.new.desc.Value()
	if p.old.desc != p.new.desc {
		c.touch(f)
	}
	if maybeQuoted(p.old.text) {
		c.m.quoted--
	}
	if maybeQuoted(p.new.text) {
		c.m.quoted++
	}
	before := p.old.desc.Value()
	if before.help != d.help {
		c.removeHelp(f, id, before.help)
		c.addHelp(f, id, d.help)
	}
	if p.oldFile.helpInFile(before) != p.newFile.helpInFile(d) {
		c.countHelp(f, p.oldFile, before, -1)
		c.countHelp(f, p.newFile, d, 1)
	}
	if !c.isAccepted(f, id) {
		e := *f.excluded[id]
		e.text, e.Series = p.new.text, strings.Count(p.new.text, "\n")
		c.exclude(f, id, &e)
		return
	}
	x := &c.m.index
	if slices.Equal(p.old.hashes, p.new.hashes) {
		for _, h := range p.new.hashes {
			if len(x.many) == 0 {
				break
			}
			if s := x.many[h]; s != nil {
				if i, ok := s.find(id); ok {
					s.list[i].known = false // to be looked at again
				}
				c.shared[h] = true
			}
		}
	} else {
		c.touch(f)
		c.unindex(f, id, p.old.hashes)
		c.reindex(f, id, p.new.hashes)
	}
	text := p.new.text
	if lost := f.partial[id]; lost != nil {
		lost.text = text
		c.describe(f, id)
		text = lost.served(d, c.m, f)
	}
	c.edits = append(c.edits, edit{fam: f, id: id, text: text})
}

// add adds a part of which the merge has nothing.
func (c *mergeChange) add(f *family, x *partChange) {
	id, p := x.id, x.new
	d := p.desc.Value()
	c.touch(f)
	if reservedFor(id, f.name) {
		c.exclude(f, id, &excludedPart{Conflict: Conflict{Reason: Reserved, Series: strings.Count(p.text, "\n")}, text: p.text})
		return
	}
	if maybeQuoted(p.text) {
		c.m.quoted++
	}
	f.files++
	c.addHelp(f, id, d.help)
	c.countHelp(f, x.newFile, d, 1)
	text, hashes := p.text, p.hashes
	if f.touchesOwn {
		var own *Conflict
		if text, own = c.m.withoutOwn(f, d, p.text); own != nil {
			if text == "" {
				c.exclude(f, id, &excludedPart{Conflict: *own, text: p.text})
				return
			}
			f.setPartial(id, &partial{text: p.text, own: own})
			c.describe(f, id)
			hashes = hashesOf(d, text)
		}
	}
	if e := c.admit(f, id, d.typ); e != nil {
		e.text, e.Series = p.text, strings.Count(p.text, "\n")
		delete(f.partial, id)
		c.exclude(f, id, e)
		return
	}
	c.accept(f, id, d.typ, hashes)
	c.edits = append(c.edits, edit{fam: f, id: id, text: text})
}

// accept lets a part take part in the merge.
func (c *mergeChange) accept(f *family, id *ident, t Type, hashes []uint64) {
	f.accepted[t]++
	c.reindex(f, id, hashes)
}

// unaccept is the reverse of accept. If others were excluded for this part they
// are looked at again.
func (c *mergeChange) unaccept(f *family, id *ident, t Type, hashes []uint64) {
	f.accepted[t]--
	c.unindex(f, id, hashes)
	if !f.lead.known || f.lead.has(id) {
		f.lead = lead{}
		if c.hasBlocked(f) {
			c.suspect[f] = true
		}
	}
}

func (c *mergeChange) reindex(f *family, id *ident, hashes []uint64) {
	for _, h := range hashes {
		if c.m.index.add(h, f, id) {
			c.shared[h] = true
		}
	}
}

func (c *mergeChange) unindex(f *family, id *ident, hashes []uint64) {
	for _, h := range hashes {
		if s := c.m.index.remove(h, id); s != nil {
			c.shared[h] = true
			if lost := f.partial[id]; lost != nil {
				lost.drop(h)
			}
		}
	}
}

// flush applies the edits collected so far to the ropes.
func (c *mergeChange) flush() {
	if len(c.edits) == 0 && len(c.headers) == 0 {
		return
	}
	edits := c.sortedEdits()
	main, beside := edits, []edit(nil)
	if slices.ContainsFunc(edits, func(e edit) bool { return e.fam.sharedWithOwn }) {
		main = nil
		for _, e := range edits {
			if e.fam.sharedWithOwn {
				beside = append(beside, e)
			} else {
				main = append(main, e)
			}
		}
	}
	c.m.main, c.m.beside = c.m.main.apply(main), c.m.beside.apply(beside)
	c.edits, c.headers = c.edits[:0], c.headers[:0]
}

// sortedEdits returns all edits in the order of the ropes. Of several of one piece
// the last is left; it came later.
func (c *mergeChange) sortedEdits() []edit {
	sortEdits(c.edits)
	n := 0
	for i := range c.edits {
		if n > 0 && compareEdits(c.edits[n-1], c.edits[i]) == 0 {
			n--
		}
		c.edits[n] = c.edits[i]
		n++
	}
	if len(c.headers) == 0 {
		return c.edits[:n]
	}
	sortEdits(c.headers)
	all := make([]edit, 0, n+len(c.headers))
	pieces, headers := c.edits[:n], c.headers
	for len(pieces) > 0 && len(headers) > 0 {
		if compareEdits(pieces[0], headers[0]) < 0 {
			all, pieces = append(all, pieces[0]), pieces[1:]
		} else {
			all, headers = append(all, headers[0]), headers[1:]
		}
	}
	return append(append(all, pieces...), headers...)
}

// sortEdits sorts edits. Of many, those of one family mostly are in the order of
// files already, as the files were.
func sortEdits(edits []edit) {
	if slices.IsSortedFunc(edits, compareEdits) {
		return
	}
	if len(edits) < 256 {
		slices.SortStableFunc(edits, compareEdits)
		return
	}
	byFamily := map[*family][]edit{}
	for _, e := range edits {
		byFamily[e.fam] = append(byFamily[e.fam], e)
	}
	fams := slices.SortedFunc(maps.Keys(byFamily), func(a, b *family) int { return strings.Compare(a.name, b.name) })
	sorted := edits[:0]
	for _, f := range fams {
		of := byFamily[f]
		if !slices.IsSortedFunc(of, compareEdits) {
			slices.SortStableFunc(of, compareEdits)
		}
		sorted = append(sorted, of...)
	}
}

// header brings the header of a family up to date. Its pieces may still be on
// their way into the rope.
func (c *mergeChange) header(f *family) {
	if c.helps[f] {
		f.helpBy, f.help = c.m.findHelp(f, nil)
	}
	if !f.aligned() {
		c.m.markHelp(f.name)
	}
	// The first of the accepted parts loses nothing, so something is served of it.
	c.setHeader(f, f.accepted != [6]int{}, f.typ())
}

func (c *mergeChange) setHeader(f *family, served bool, t Type) {
	text := ""
	if served {
		if f.sharedWithOwn {
			t = c.m.own[f.name].Type
		}
		text = string(appendHeader(nil, f.name, f.help, t))
	}
	if text != f.header {
		f.header = text
		c.headers = append(c.headers, edit{fam: f, text: text})
	}
}

// exclude takes note that a part is not served as it is. Views share what it is
// given.
func (c *mergeChange) exclude(f *family, id *ident, e *excludedPart) {
	e.Family, e.File = f.name, id.name
	before := f.excluded[id]
	if f.excluded == nil {
		f.excluded = map[*ident]*excludedPart{}
	}
	c.countBlocked(f, before, -1)
	c.countBlocked(f, e, 1)
	f.excluded[id] = e
	c.cloneExclusions()
	c.m.excluded[excludedKey{f.name, *id}] = e
	c.noteState(id)
}

// include forgets that a part is not served as it is.
func (c *mergeChange) include(f *family, id *ident) {
	delete(f.partial, id)
	e := f.excluded[id]
	if e == nil {
		return
	}
	c.countBlocked(f, e, -1)
	delete(f.excluded, id)
	c.cloneExclusions()
	delete(c.m.excluded, excludedKey{f.name, *id})
	c.noteState(id)
}

func (c *mergeChange) countBlocked(f *family, e *excludedPart, n int) {
	if e != nil && e.blocked {
		f.blocked += n
		c.m.blocked += n
	}
}

func (c *mergeChange) cloneExclusions() {
	if !c.cloned {
		c.m.excluded, c.cloned = maps.Clone(c.m.excluded), true
	}
}

// partial is what is known of an accepted part of which some series are excluded.
type partial struct {
	text string           // the whole part
	own  *Conflict        // with the agent's own metrics
	lost map[uint64]*loss // identities that another file serves, by hash
	tell *loss            // of those with another value the first in the text
	sum  int              // samples that are lost with another value
}

// loss is an identity that another file serves.
type loss struct {
	base, first string
	lines       int
	to          *ident
	same        bool // with the same value, so nothing is lost
}

func (f *family) setPartial(id *ident, p *partial) {
	if f.partial == nil {
		f.partial = map[*ident]*partial{}
	}
	f.partial[id] = p
}

// drop forgets a loss.
func (p *partial) drop(h uint64) {
	l := p.lost[h]
	if l == nil {
		return
	}
	delete(p.lost, h)
	if !l.same {
		p.sum -= l.lines
	}
	if p.tell == l {
		p.findTell()
	}
}

func (p *partial) add(h uint64, l *loss) {
	p.drop(h)
	if p.lost == nil {
		p.lost = map[uint64]*loss{}
	}
	p.lost[h] = l
	if !l.same {
		p.sum += l.lines
		if p.tell == nil || l.base < p.tell.base {
			p.tell = l
		}
	}
}

func (p *partial) findTell() {
	p.tell = nil
	for _, l := range p.lost {
		if !l.same && (p.tell == nil || l.base < p.tell.base) {
			p.tell = l
		}
	}
}

// conflict says what is excluded, and the first reason.
func (p *partial) conflict() Conflict {
	switch {
	case p.tell != nil:
		return Conflict{Reason: Duplicate, Kept: p.tell.to.name, Line: p.tell.first, Series: p.sum}
	case p.own != nil:
		return *p.own
	}
	return Conflict{Reason: Duplicate, harmless: true}
}

// describe brings the exclusion of a partly excluded part up to date.
func (c *mergeChange) describe(f *family, id *ident) {
	p := f.partial[id]
	if p.own == nil && len(p.lost) == 0 {
		c.include(f, id)
		return
	}
	e := &excludedPart{Conflict: p.conflict(), text: p.text}
	if before := f.excluded[id]; before != nil && before.text == e.text && sameConflict(&before.Conflict, &e.Conflict) {
		return
	}
	c.exclude(f, id, e)
}

// sameConflict compares all but the names that exclude sets.
func sameConflict(a, b *Conflict) bool {
	return a.Reason == b.Reason && a.Kept == b.Kept && a.Line == b.Line && a.Series == b.Series && a.harmless == b.harmless
}

// served returns the text without what is lost and what touches the agent's own
// metrics.
func (p *partial) served(d desc, m *merger, f *family) string {
	text := p.text
	if p.own != nil {
		text, _ = m.withoutOwn(f, d, text)
	}
	if len(p.lost) == 0 {
		return text
	}
	var keep strings.Builder
	eachMetric(d, text, func(base []byte, lines string) bool {
		if l := p.lost[identityHash(d.name, string(base))]; l == nil || l.base != string(base) {
			keep.WriteString(lines)
		}
		return true
	})
	return keep.String()
}

// decideShared decides which file serves the identities that several files have
// or had.
func (c *mergeChange) decideShared() {
	c.lookAtSharers()
	changed := map[partKey]bool{} // whether the text changes as well
	for h := range c.shared {
		c.m.index.settle(h, func(s *sharer) {
			f, id := s.fam, s.id
			p := f.partial[id]
			if p == nil {
				if !s.loses {
					return
				}
				_, text := c.m.part(f, id)
				p = &partial{text: text}
				f.setPartial(id, p)
			}
			had := p.lost[h] != nil
			if s.loses {
				p.add(h, &loss{base: s.base, first: s.first, lines: s.lines, to: s.to, same: s.same})
			} else {
				p.drop(h)
			}
			key := partKey{f, id}
			changed[key] = changed[key] || had != s.loses
		})
	}
	for key, rewritten := range changed {
		f, id := key.fam, key.id
		if rewritten {
			d, _ := c.m.part(f, id)
			c.edits = append(c.edits, edit{fam: f, id: id, text: f.partial[id].served(d, c.m, f)})
		}
		c.describe(f, id)
		c.touch(f)
	}
}

// lookAtSharers reads the metrics of shared identities that have not been looked
// at, each part once.
func (c *mergeChange) lookAtSharers() {
	parts := map[partKey]bool{}
	for h := range c.shared {
		if s := c.m.index.many[h]; s != nil {
			for i := range s.list {
				if e := &s.list[i]; !e.known && !e.dead {
					parts[partKey{e.fam, e.id}] = true
				}
			}
		}
	}
	for key := range parts {
		d, text := c.m.part(key.fam, key.id)
		eachMetric(d, text, func(base []byte, lines string) bool {
			s := c.m.index.many[identityHash(d.name, string(base))]
			if s == nil {
				return true
			}
			if i, ok := s.find(key.id); ok && s.list[i].fam == key.fam && !s.list[i].known {
				s.list[i].look(base, lines, d.typ)
			}
			return true
		})
	}
}

// hashesOf returns the hashes of the identities in canonical text.
func hashesOf(d desc, text string) []uint64 {
	hashes := make([]uint64, 0, strings.Count(text, "\n"))
	eachMetric(d, text, func(base []byte, _ string) bool {
		hashes = append(hashes, identityHash(d.name, string(base)))
		return true
	})
	return hashes
}
