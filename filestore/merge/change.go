package merge

import (
	"maps"
	"slices"
	"strings"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// Update is one file of the merge before and after.
type Update struct {
	Old      *record.File
	OldParts []exposition.Part // of Old
	New      *record.Content
}

// Change is a change of a Merger, see [Merger.Apply].
type Change struct {
	m       *Merger
	number  uint64
	edits   []edit // of pieces
	headers []edit // of headers
	touched []*family
	suspect map[*family]bool            // families whose accepted parts must be determined again
	shared  map[uint64]bool             // hashes of identities whose file must be determined again
	helps   map[*family]bool            // families whose HELP text must be determined again
	files   map[*record.ID]*record.File // files whose state may have changed; nil for a deleted file
	cloned  bool                        // the merger's exclusions are not shared with a View
}

// partKey identifies a part in the merge.
type partKey struct {
	fam *family
	id  *record.ID
}

// Apply applies the updates of distinct files to the merge.
func (m *Merger) Apply(updates []Update) {
	c := m.NewChange()
	c.Take(updates)
	c.Finish()
}

// NewChange starts a change of the merge. Between Take and Finish the merge is
// inconsistent, and no View must be made of it.
func (m *Merger) NewChange() *Change {
	m.changes++
	return &Change{
		m: m, number: m.changes, suspect: map[*family]bool{}, shared: map[uint64]bool{},
		helps: map[*family]bool{}, files: map[*record.ID]*record.File{},
	}
}

// Take adds the updates. It may be called again, with other files.
func (c *Change) Take(updates []Update) {
	c.flush() // of the call before
	m := c.m
	changes := make([]fileChange, 0, len(updates))
	n := 0
	for i := range updates {
		n += len(updates[i].OldParts)
		if updates[i].New != nil {
			n = max(n, len(updates[i].New.Parts))
		}
	}
	parts := make([]partChange, 0, n)
	for i := range updates {
		u := &updates[i]
		if u.Old != nil && u.New != nil && *u.Old.ID() == *u.New.File.ID() {
			u.New.File.SameIdent(u.Old)
			changes = append(changes, fileChange{u.Old.ID(), u.Old, u.New.File})
			parts = c.appendPartChanges(parts, u.Old, u.New.File, u.OldParts, u.New.Parts)
		} else {
			if u.Old != nil {
				changes = append(changes, fileChange{u.Old.ID(), u.Old, nil})
				parts = c.appendPartChanges(parts, u.Old, nil, u.OldParts, nil)
			}
			if u.New != nil {
				changes = append(changes, fileChange{u.New.File.ID(), nil, u.New.File})
				parts = c.appendPartChanges(parts, nil, u.New.File, nil, u.New.Parts)
			}
		}
		if u.Old != nil {
			m.totals.add(u.Old, -1)
			m.countExtras(u.Old, -1)
			c.files[u.Old.ID()] = nil
		}
		if u.New != nil {
			u.New.Parts = nil // the text is kept in the merge
			m.totals.add(u.New.File, 1)
			m.countExtras(u.New.File, 1)
		}
	}
	for i := range updates {
		if u := &updates[i]; u.New != nil {
			c.files[u.New.File.ID()] = u.New.File
		}
	}
	slices.SortFunc(changes, func(a, b fileChange) int { return record.Compare(a.id, b.id) })
	m.files = m.files.with(changes)
	c.edits = slices.Grow(c.edits, len(parts))
	if len(updates) > 1 { // lists are in the order of files
		slices.SortStableFunc(parts, func(a, b partChange) int { return record.Compare(a.id, b.id) })
	}
	for i := range parts {
		if p := &parts[i]; p.new == nil {
			c.remove(m.fams[p.old.Desc.Value().Name], p)
		}
	}
	for i := range parts {
		if p := &parts[i]; p.new != nil {
			c.put(p)
		}
	}
}

func (m *Merger) countExtras(f *record.File, n int) {
	if f.HasExtras() {
		m.extras += n
	}
}

// partChange is one part before and after; nil for none.
type partChange struct {
	id               *record.ID
	oldFile, newFile *record.File
	old, new         *exposition.Part
}

// appendPartChanges appends the differences between two lists of parts in name
// order.
func (c *Change) appendPartChanges(list []partChange, old, new *record.File, before, after []exposition.Part) []partChange {
	p := partChange{oldFile: old, newFile: new}
	if old != nil {
		p.id = old.ID()
	} else {
		p.id = new.ID()
	}
	for len(before) > 0 || len(after) > 0 {
		n := 0
		switch {
		case len(before) == 0:
			n = 1
		case len(after) == 0:
			n = -1
		case before[0].Desc != after[0].Desc:
			n = strings.Compare(before[0].Desc.Value().Name, after[0].Desc.Value().Name)
		case before[0].Text == after[0].Text && before[0].Extra == after[0].Extra:
			c.recountHelp(old, new, before[0].Desc.Value())
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

// Finish resolves conflicts and brings headers and states up to date.
func (c *Change) Finish() {
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
		c.setHeader(f, f.served > 0, exposition.Gauge)
	}
	c.flush()
	for _, f := range c.touched {
		m.forget(f)
	}
}

// forget deletes a family that no file has.
func (m *Merger) forget(f *family) {
	if f.files == 0 && len(f.excluded) == 0 && !m.isState(f) {
		delete(m.fams, f.name)
	}
}

// touch marks a family, whose header Finish brings up to date.
func (c *Change) touch(f *family) {
	if f.change != c.number {
		f.change = c.number
		c.touched = append(c.touched, f)
	}
}

// reservedFor reports whether the name of a family is reserved and the file may not
// have it.
func reservedFor(id *record.ID, name string) bool {
	return record.IsReserved(name) && !record.Belongs(id, name)
}

// remove removes a part from the merge.
func (c *Change) remove(f *family, x *partChange) {
	id, p := x.id, x.old
	c.touch(f)
	if reservedFor(id, f.name) {
		c.include(f, id)
		return
	}
	if maybeQuoted(p.Text) {
		c.m.quoted--
	}
	f.files--
	d := p.Desc.Value()
	c.removeHelp(f, id, d.Help)
	c.countHelp(f, x.oldFile, d, -1)
	if e := f.excluded[id]; e != nil && !c.isAccepted(f, id) {
		c.include(f, id)
		return
	}
	c.unaccept(f, id, d.Typ, c.hashesOf(f, p))
	c.include(f, id)
	c.edits = append(c.edits, edit{fam: f, id: id})
}

// isAccepted reports whether a part is served, except for some of its series.
func (c *Change) isAccepted(f *family, id *record.ID) bool {
	return f.excluded[id] == nil || f.partial[id] != nil
}

// hashesOf returns the hashes of the identities that may be served.
func (c *Change) hashesOf(f *family, p *exposition.Part) []uint64 {
	if !f.touchesOwn {
		return p.Hashes
	}
	text, _ := c.m.withoutOwn(f, p.Desc.Value(), p.Text)
	return hashesOf(p.Desc.Value(), text)
}

// put adds a part, or replaces that of the same file.
func (c *Change) put(p *partChange) {
	d := p.new.Desc.Value()
	f := c.m.family(d.Name)
	if p.old != nil {
		before := p.old.Desc.Value()
		if !f.touchesOwn && before.Typ == d.Typ && !reservedFor(p.id, f.name) {
			c.replace(f, p)
			return
		}
		c.remove(f, p)
	}
	c.add(f, p)
}

// replace replaces a part by one of the same file and type. The accepted parts stay
// the same.
func (c *Change) replace(f *family, p *partChange) {
	id, d := p.id, p.new.Desc.Value()
	if p.old.Desc != p.new.Desc {
		c.touch(f)
	}
	if maybeQuoted(p.old.Text) {
		c.m.quoted--
	}
	if maybeQuoted(p.new.Text) {
		c.m.quoted++
	}
	before := p.old.Desc.Value()
	if before.Help != d.Help {
		c.removeHelp(f, id, before.Help)
		c.addHelp(f, id, d.Help)
	}
	if p.oldFile.HelpInFile(before) != p.newFile.HelpInFile(d) {
		c.countHelp(f, p.oldFile, before, -1)
		c.countHelp(f, p.newFile, d, 1)
	}
	if !c.isAccepted(f, id) {
		e := *f.excluded[id]
		e.text, e.Series = p.new.Text, strings.Count(p.new.Text, "\n")
		c.exclude(f, id, &e)
		return
	}
	x := &c.m.index
	if slices.Equal(p.old.Hashes, p.new.Hashes) {
		for _, h := range p.new.Hashes {
			if len(x.many) == 0 {
				break
			}
			if s := x.many[h]; s != nil {
				if i, ok := s.find(id); ok {
					s.list[i].known = false // to be read again
				}
				c.shared[h] = true
			}
		}
	} else {
		c.touch(f)
		c.unindex(f, id, p.old.Hashes)
		c.reindex(f, id, p.new.Hashes)
	}
	text := p.new.Text
	if lost := f.partial[id]; lost != nil {
		lost.text = text
		c.describe(f, id)
		text = lost.served(d, c.m, f)
	}
	c.edits = append(c.edits, edit{fam: f, id: id, text: text})
}

// add adds a part that is not in the merge.
func (c *Change) add(f *family, x *partChange) {
	id, p := x.id, x.new
	d := p.Desc.Value()
	c.touch(f)
	if reservedFor(id, f.name) {
		c.exclude(f, id, &excludedPart{Conflict: record.Conflict{Reason: exposition.Reserved, Series: strings.Count(p.Text, "\n")}, text: p.Text})
		return
	}
	if maybeQuoted(p.Text) {
		c.m.quoted++
	}
	f.files++
	c.addHelp(f, id, d.Help)
	c.countHelp(f, x.newFile, d, 1)
	text, hashes := p.Text, p.Hashes
	if f.touchesOwn {
		var own *record.Conflict
		if text, own = c.m.withoutOwn(f, d, p.Text); own != nil {
			if text == "" {
				c.exclude(f, id, &excludedPart{Conflict: *own, text: p.Text})
				return
			}
			f.setPartial(id, &partial{text: p.Text, own: own})
			c.describe(f, id)
			hashes = hashesOf(d, text)
		}
	}
	if e := c.tryAccept(f, id, d.Typ); e != nil {
		e.text, e.Series = p.Text, strings.Count(p.Text, "\n")
		delete(f.partial, id)
		c.exclude(f, id, e)
		return
	}
	c.accept(f, id, d.Typ, hashes)
	c.edits = append(c.edits, edit{fam: f, id: id, text: text})
}

// accept counts and indexes an accepted part.
func (c *Change) accept(f *family, id *record.ID, t exposition.Type, hashes []uint64) {
	f.accepted[t]++
	c.reindex(f, id, hashes)
}

// unaccept is the reverse of accept. Parts that this one may have excluded are
// checked again.
func (c *Change) unaccept(f *family, id *record.ID, t exposition.Type, hashes []uint64) {
	f.accepted[t]--
	c.unindex(f, id, hashes)
	if !f.lead.known || f.lead.has(id) {
		f.lead = lead{}
		if c.hasBlocked(f) {
			c.suspect[f] = true
		}
	}
}

func (c *Change) reindex(f *family, id *record.ID, hashes []uint64) {
	for _, h := range hashes {
		if c.m.index.add(h, f, id) {
			c.shared[h] = true
		}
	}
}

func (c *Change) unindex(f *family, id *record.ID, hashes []uint64) {
	for _, h := range hashes {
		if s := c.m.index.remove(h, id); s != nil {
			c.shared[h] = true
			if lost := f.partial[id]; lost != nil {
				lost.drop(h)
			}
		}
	}
}

// flush applies the collected edits to the ropes.
func (c *Change) flush() {
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

// sortedEdits returns all edits in the order of the ropes. The last edit of a piece
// replaces earlier ones.
func (c *Change) sortedEdits() []edit {
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

// sortEdits sorts edits. Those of one family are mostly sorted already, in the order
// of files.
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

// header brings the header of a family up to date. Its pieces may not be in the rope
// yet.
func (c *Change) header(f *family) {
	if c.helps[f] {
		f.helpBy, f.help = c.m.findHelp(f, nil)
	}
	if !f.aligned() {
		c.m.misfits[f.name] = struct{}{}
		c.m.signalMisfit()
	}
	// The first accepted part loses no series, so the family is served.
	c.setHeader(f, f.accepted != [6]int{}, f.typ())
}

func (c *Change) setHeader(f *family, served bool, t exposition.Type) {
	text := ""
	if served {
		if f.sharedWithOwn {
			t = c.m.own[f.name].Type
		}
		text = string(exposition.AppendHeader(nil, f.name, f.help, t))
	}
	if text != f.header {
		f.header = text
		c.headers = append(c.headers, edit{fam: f, text: text})
	}
}

// exclude records that a part is not served as it is. Views share e, which must not
// be changed any more.
func (c *Change) exclude(f *family, id *record.ID, e *excludedPart) {
	e.Family, e.File = f.name, id.Name
	before := f.excluded[id]
	if f.excluded == nil {
		f.excluded = map[*record.ID]*excludedPart{}
	}
	c.countBlocked(f, before, -1)
	c.countBlocked(f, e, 1)
	f.excluded[id] = e
	c.cloneExclusions()
	c.m.excluded[excludedKey{f.name, *id}] = e
	c.noteState(id)
}

// include is the reverse of exclude.
func (c *Change) include(f *family, id *record.ID) {
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

func (c *Change) countBlocked(f *family, e *excludedPart, n int) {
	if e != nil && e.blocked {
		f.blocked += n
		c.m.blocked += n
	}
}

func (c *Change) cloneExclusions() {
	if !c.cloned {
		c.m.excluded, c.cloned = maps.Clone(c.m.excluded), true
	}
}

// partial describes an accepted part with excluded series.
type partial struct {
	text  string           // the whole part
	own   *record.Conflict // with the agent's own metrics
	lost  map[uint64]*loss // identities that another file serves, by hash
	shown *loss            // the first of them in the text that is not the same
	sum   int              // samples that are not the same and not served
	more  int              // those of sum with equal values
}

// loss is an identity that another file serves.
type loss struct {
	base, first string
	lines       int
	to          *record.ID
	same        bool // with the same value and extra, so without a conflict
	equal       bool // with the same value
}

func (f *family) setPartial(id *record.ID, p *partial) {
	if f.partial == nil {
		f.partial = map[*record.ID]*partial{}
	}
	f.partial[id] = p
}

// drop deletes a loss.
func (p *partial) drop(h uint64) {
	l := p.lost[h]
	if l == nil {
		return
	}
	delete(p.lost, h)
	p.count(l, -1)
	if p.shown == l {
		p.findShown()
	}
}

func (p *partial) add(h uint64, l *loss) {
	p.drop(h)
	if p.lost == nil {
		p.lost = map[uint64]*loss{}
	}
	p.lost[h] = l
	p.count(l, 1)
	if !l.same {
		if p.shown == nil || l.base < p.shown.base {
			p.shown = l
		}
	}
}

// count adds or subtracts the samples of a loss that is a conflict.
func (p *partial) count(l *loss, n int) {
	if l.same {
		return
	}
	p.sum += n * l.lines
	if l.equal {
		p.more += n * l.lines
	}
}

func (p *partial) findShown() {
	p.shown = nil
	for _, l := range p.lost {
		if !l.same && (p.shown == nil || l.base < p.shown.base) {
			p.shown = l
		}
	}
}

// conflict returns the excluded series with the first reason.
func (p *partial) conflict() record.Conflict {
	switch {
	case p.shown != nil:
		return record.Conflict{Reason: exposition.Duplicate, Kept: p.shown.to.Name, Line: p.shown.first, Series: p.sum, Extra: p.more}
	case p.own != nil:
		return *p.own
	}
	return record.Conflict{Reason: exposition.Duplicate, Harmless: true}
}

// describe brings the exclusion of a partly excluded part up to date.
func (c *Change) describe(f *family, id *record.ID) {
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

// sameConflict compares all fields except the names that exclude sets.
func sameConflict(a, b *record.Conflict) bool {
	return a.Reason == b.Reason && a.Kept == b.Kept && a.Line == b.Line && a.Series == b.Series && a.Extra == b.Extra && a.Harmless == b.Harmless
}

// served returns the text without the lost series and those that conflict with the
// agent's own metrics.
func (p *partial) served(d exposition.Desc, m *Merger, f *family) string {
	text := p.text
	if p.own != nil {
		text, _ = m.withoutOwn(f, d, text)
	}
	if len(p.lost) == 0 {
		return text
	}
	var keep strings.Builder
	exposition.EachMetric(d, text, func(base []byte, lines string) bool {
		if l := p.lost[exposition.IdentityHash(d.Name, string(base))]; l == nil || l.base != string(base) {
			keep.WriteString(lines)
		}
		return true
	})
	return keep.String()
}

// decideShared determines which file serves each shared identity.
func (c *Change) decideShared() {
	c.lookAtSharers()
	changed := map[partKey]bool{} // true if the text changes as well
	for h := range c.shared {
		c.m.index.resolve(h, func(s *sharer) {
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
				p.add(h, &loss{base: s.base, first: s.first, lines: s.lines, to: s.to, same: s.same, equal: s.equal})
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

// lookAtSharers reads the metrics of shared identities that are not known yet, each
// part once.
func (c *Change) lookAtSharers() {
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
		more := exposition.ExtraByMetric(c.m.extra(key.fam, key.id))
		exposition.EachMetric(d, text, func(base []byte, lines string) bool {
			s := c.m.index.many[exposition.IdentityHash(d.Name, string(base))]
			if s == nil {
				return true
			}
			if i, ok := s.find(key.id); ok && s.list[i].fam == key.fam && !s.list[i].known {
				s.list[i].look(base, lines, more[string(base)], d.Typ)
			}
			return true
		})
	}
}

// hashesOf returns the hashes of the identities in canonical text.
func hashesOf(d exposition.Desc, text string) []uint64 {
	hashes := make([]uint64, 0, strings.Count(text, "\n"))
	exposition.EachMetric(d, text, func(base []byte, _ string) bool {
		hashes = append(hashes, exposition.IdentityHash(d.Name, string(base)))
		return true
	})
	return hashes
}
