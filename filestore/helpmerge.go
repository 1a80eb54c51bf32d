package filestore

import (
	"iter"
	"slices"
)

// compareHelp orders files by whose HELP text counts.
func compareHelp(a, b *ident) int {
	if (a.kind == pushedKind) != (b.kind == pushedKind) {
		return int(b.kind) - int(a.kind)
	}
	return compareIdent(a, b)
}

// addHelp adds the text that a file asks for to a family.
func (c *mergeChange) addHelp(f *family, id *ident, text string) {
	if text == "" {
		return
	}
	f.texts++
	if f.askers != nil {
		i, _ := slices.BinarySearchFunc(f.askers, id, compareHelp)
		f.askers = slices.Insert(f.askers, i, id)
	}
	n := -1
	if f.helpBy != nil {
		n = compareHelp(id, f.helpBy)
	}
	if n <= 0 {
		f.help, f.helpBy = text, id
	}
	if n == 0 { // the first file has changed its text and is still the first
		delete(c.helps, f)
	}
}

// removeHelp takes the text that a file asked for out of a family.
func (c *mergeChange) removeHelp(f *family, id *ident, text string) {
	if text == "" {
		return
	}
	f.texts--
	if f.askers != nil {
		if i, ok := slices.BinarySearchFunc(f.askers, id, compareHelp); ok {
			f.askers = slices.Delete(f.askers, i, i+1)
		}
	}
	if compareIdent(f.helpBy, id) == 0 {
		c.helps[f] = true
	}
}

// helpWalk is how many files without a text are passed by in the search for one
// before a list of those with a text is made.
const helpWalk = 64

// findHelp returns the file whose text counts in a family, other than skip, and the
// text. Mostly one of the first files has it. A long search makes a list that is
// kept, so that it happens once in the life of a family.
func (m *merger) findHelp(f *family, skip *ident) (*ident, string) {
	if f.texts == 0 {
		return nil, ""
	}
	if f.askers == nil && len(f.excluded) == 0 {
		n := 0
		for id := range m.filesOf(f) {
			if text := m.asked(f, id); text != "" && (skip == nil || compareIdent(id, skip) != 0) {
				return id, text
			}
			if n++; n > helpWalk {
				break
			}
		}
		if n <= helpWalk {
			return nil, ""
		}
	}
	if f.askers == nil {
		f.askers = m.findAskers(f)
	}
	for _, id := range f.askers {
		if skip == nil || compareIdent(id, skip) != 0 {
			return id, m.asked(f, id)
		}
	}
	return nil, ""
}

// findAskers returns the files that ask for a text in a family, in their order.
func (m *merger) findAskers(f *family) []*ident {
	var list []*ident
	for id := range m.filesOf(f) {
		if m.asked(f, id) != "" {
			list = append(list, id)
		}
	}
	for id := range f.excluded { // nothing of it may be served, but it has its text
		if m.asked(f, id) != "" {
			list = append(list, id)
		}
	}
	slices.SortFunc(list, compareHelp)
	return slices.CompactFunc(list, func(a, b *ident) bool { return compareIdent(a, b) == 0 })
}

// asked returns the text that a file asks for in a family.
func (m *merger) asked(f *family, id *ident) string {
	if IsReserved(f.name) && !belongs(id, f.name) {
		return ""
	}
	d, _ := m.files.get(id).has(f.name)
	return d.help
}

// filesOf yields the files of which something is served in a family, by whose
// HELP text counts.
func (m *merger) filesOf(f *family) iter.Seq[*ident] {
	return func(yield func(*ident) bool) {
		more := true
		m.ropeOf(f).from(f, &ident{kind: droppedKind}, func(o *family, id *ident, _ []byte) bool {
			if o == f {
				more = yield(id)
			}
			return more && o == f
		})
		if !more {
			return
		}
		m.ropeOf(f).from(f, nil, func(o *family, id *ident, _ []byte) bool {
			return o == f && (id == nil || id.kind == pushedKind && yield(id))
		})
	}
}

// helpFor returns the text that is served for a family of a group's file, once the
// group asks for that of the description.
func (m *merger) helpFor(f *family, id *ident, d desc) string {
	if f.texts == 0 {
		return d.help
	}
	by, text := f.helpBy, f.help
	switch n := compareHelp(id, by); {
	case n <= 0 && d.help != "":
		return d.help
	case n == 0:
		_, text = m.findHelp(f, by)
	}
	return text
}

// countHelp counts a group's file in, or out with n = -1, by the text that it has
// for one of its families.
func (c *mergeChange) countHelp(f *family, file *File, d desc, n int) {
	if file.id.kind != pushedKind {
		return
	}
	before := len(f.others)
	f.count(file.helpInFile(d), n)
	c.touch(f)
	if after := len(f.others); before == 0 && after > 0 {
		c.m.help.mixed.Add(1)
	} else if before > 0 && after == 0 {
		c.m.help.mixed.Add(-1)
	}
}

// recountHelp counts a part again that has changed, if at all, by its text in the
// file.
func (c *mergeChange) recountHelp(old, new *File, d desc) {
	if old == nil || new == nil || len(old.stored) == 0 && len(new.stored) == 0 || reservedFor(old.id, d.name) {
		return
	}
	if old.helpInFile(d) != new.helpInFile(d) {
		f := c.m.fams[d.name]
		c.countHelp(f, old, d, -1)
		c.countHelp(f, new, d, 1)
	}
}

func (f *family) count(text string, n int) {
	switch {
	case f.n == 0:
		f.inFiles, f.n = text, n
	case text == f.inFiles:
		if f.n += n; f.n > 0 {
			return
		}
		for other, k := range f.others { // any takes its place
			f.inFiles, f.n = other, k
			f.drop(other)
			return
		}
	default:
		if f.others == nil {
			f.others = make(map[string]int)
		}
		if f.others[text] += n; f.others[text] == 0 {
			f.drop(text)
		}
	}
}

func (f *family) drop(text string) {
	if delete(f.others, text); len(f.others) == 0 {
		f.others = nil
	}
}

// aligned reports whether all files of groups have the text that is served.
func (f *family) aligned() bool {
	return f.n == 0 || f.inFiles == f.help && f.others == nil
}

// countWithout returns how many groups' files have the text, and how many different ones
// they have, without one that has the text old.
func (f *family) countWithout(text, old string, had bool) (n, texts int) {
	count := func(text string) int {
		if f.n > 0 && text == f.inFiles {
			return f.n
		}
		return f.others[text]
	}
	n, texts = count(text), len(f.others)
	if f.n > 0 {
		texts++
	}
	if had {
		if old == text {
			n--
		}
		if count(old) == 1 {
			texts--
		}
	}
	return n, texts
}

// toWrite returns which text to write to a group's file that has the text old:
// the one that is to be served or, as long as the others have two different ones
// already, one of these. node_exporter ends where files have two texts and another
// has none; so of three there is never more than two.
func (f *family) toWrite(text, old string, had bool) string {
	if n, texts := f.countWithout(text, old, had); n > 0 || texts < 2 {
		return text
	}
	if n, _ := f.countWithout(f.inFiles, old, had); n > 0 {
		return f.inFiles
	}
	for other := range f.others {
		if n, _ := f.countWithout(other, old, had); n > 0 {
			return other
		}
	}
	return text
}

// mayHaveHelp reports whether the texts of a group's file, which replaces old, may
// come beside those of the other files by now.
func (m *merger) mayHaveHelp(c *content, old *File) bool {
	if m.help.mixed.Load() == 0 {
		return true // two texts at most
	}
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		if f := m.fams[d.name]; f != nil && f.others != nil {
			before, had := old.textOf(d.name)
			text := c.file.helpInFile(d)
			if n, texts := f.countWithout(text, before, had); n == 0 && texts >= 2 {
				return false
			}
		}
	}
	return true
}

// markHelp notes that files of a family may have another text than is served.
func (m *merger) markHelp(name string) {
	m.misfits[name] = struct{}{}
	m.signalMisfit()
}

func (m *merger) signalMisfit() {
	select {
	case m.help.misfit <- struct{}{}:
	default:
	}
}

// takeMisfits returns the texts that are served for the families that are marked
// and wanted, and takes the marks away.
func (m *merger) takeMisfits(wanted func(name string) bool) map[string]string {
	texts := map[string]string{}
	for name := range m.misfits {
		if wanted(name) {
			delete(m.misfits, name)
			if f := m.fams[name]; f != nil {
				texts[name] = f.help
			}
		}
	}
	return texts
}

// misfits calls yield for the groups whose files have other texts for the families
// than these.
func (v *View) misfits(texts map[string]string, yield func(family string, g Group)) {
	check := func(name string, id *ident) {
		if f := v.files.get(id); f != nil && id.kind == pushedKind {
			if d, ok := f.has(name); ok && f.helpInFile(d) != texts[name] {
				yield(name, f.group)
			}
		}
	}
	for name := range texts {
		for _, r := range [...]rope{v.main, v.beside} {
			r.from(&family{name: name}, nil, func(o *family, id *ident, _ []byte) bool {
				if o.name == name && id != nil {
					check(name, id)
				}
				return o.name == name
			})
		}
	}
	if len(texts) > 0 {
		for k := range v.excluded {
			if _, ok := texts[k.family]; ok {
				check(k.family, &k.id)
			}
		}
	}
}

// helpToWrite returns which text to write to the file of a group that asks for the
// one in the description and has the text old, if other files have the family.
func (m *merger) helpToWrite(id *ident, d desc, old string, had bool) (text string, ok bool) {
	f := m.fams[d.name]
	if f == nil {
		return "", false
	}
	return f.toWrite(m.helpFor(f, id, d), old, had), true
}
