package merge

import (
	"iter"
	"maps"
	"slices"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// compareHelp orders files by whose HELP text counts.
func compareHelp(a, b *record.ID) int {
	if (a.Kind == record.PushedKind) != (b.Kind == record.PushedKind) {
		return int(b.Kind) - int(a.Kind)
	}
	return record.Compare(a, b)
}

// addHelp adds the text that a file asks for to a family.
func (c *Change) addHelp(f *family, id *record.ID, text string) {
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
func (c *Change) removeHelp(f *family, id *record.ID, text string) {
	if text == "" {
		return
	}
	f.texts--
	if f.askers != nil {
		if i, ok := slices.BinarySearchFunc(f.askers, id, compareHelp); ok {
			f.askers = slices.Delete(f.askers, i, i+1)
		}
	}
	if record.Compare(f.helpBy, id) == 0 {
		c.helps[f] = true
	}
}

// helpWalk is how many files without a text are passed by in the search for one
// before a list of those with a text is made.
const helpWalk = 64

// findHelp returns the file whose text counts in a family, other than skip, and the
// text. Mostly one of the first files has it. A long search makes a list that is
// kept, so that it happens once in the life of a family.
func (m *Merger) findHelp(f *family, skip *record.ID) (*record.ID, string) {
	if f.texts == 0 {
		return nil, ""
	}
	if f.askers == nil && len(f.excluded) == 0 {
		n := 0
		for id := range m.filesOf(f) {
			if text := m.asked(f, id); text != "" && (skip == nil || record.Compare(id, skip) != 0) {
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
		if skip == nil || record.Compare(id, skip) != 0 {
			return id, m.asked(f, id)
		}
	}
	return nil, ""
}

// findAskers returns the files that ask for a text in a family, in their order.
func (m *Merger) findAskers(f *family) []*record.ID {
	var list []*record.ID
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
	return slices.CompactFunc(list, func(a, b *record.ID) bool { return record.Compare(a, b) == 0 })
}

// asked returns the text that a file asks for in a family.
func (m *Merger) asked(f *family, id *record.ID) string {
	if record.IsReserved(f.name) && !record.Belongs(id, f.name) {
		return ""
	}
	d, _ := m.files.get(id).Has(f.name)
	return d.Help
}

// filesOf yields the files of which something is served in a family, by whose
// HELP text counts.
func (m *Merger) filesOf(f *family) iter.Seq[*record.ID] {
	return func(yield func(*record.ID) bool) {
		more := true
		m.ropeOf(f).from(f, &record.ID{Kind: record.DroppedKind}, func(o *family, id *record.ID, _ []byte) bool {
			if o == f {
				more = yield(id)
			}
			return more && o == f
		})
		if !more {
			return
		}
		m.ropeOf(f).from(f, nil, func(o *family, id *record.ID, _ []byte) bool {
			return o == f && (id == nil || id.Kind == record.PushedKind && yield(id))
		})
	}
}

// helpFor returns the text that is served for a family of a group's file, once the
// group asks for that of the description.
func (m *Merger) helpFor(f *family, id *record.ID, d exposition.Desc) string {
	if f.texts == 0 {
		return d.Help
	}
	by, text := f.helpBy, f.help
	switch n := compareHelp(id, by); {
	case n <= 0 && d.Help != "":
		return d.Help
	case n == 0:
		_, text = m.findHelp(f, by)
	}
	return text
}

// countHelp counts a group's file in, or out with n = -1, by the text that it has
// for one of its families.
func (c *Change) countHelp(f *family, file *record.File, d exposition.Desc, n int) {
	if file.ID().Kind != record.PushedKind {
		return
	}
	before := len(f.others)
	f.count(file.HelpInFile(d), n)
	c.touch(f)
	if after := len(f.others); before == 0 && after > 0 {
		c.m.help.mixed.Add(1)
	} else if before > 0 && after == 0 {
		c.m.help.mixed.Add(-1)
	}
}

// recountHelp counts a part again that has changed, if at all, by its text in the
// file.
func (c *Change) recountHelp(old, new *record.File, d exposition.Desc) {
	if old == nil || new == nil || len(old.Stored()) == 0 && len(new.Stored()) == 0 || reservedFor(old.ID(), d.Name) {
		return
	}
	if old.HelpInFile(d) != new.HelpInFile(d) {
		f := c.m.fams[d.Name]
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

// MayHaveHelp reports whether the texts of a group's file, which replaces old, may
// come beside those of the other files by now.
func (m *Merger) MayHaveHelp(c *record.Content, old *record.File) bool {
	if m.help.mixed.Load() == 0 {
		return true // two texts at most
	}
	for i := range c.Parts {
		d := c.Parts[i].Desc.Value()
		if f := m.fams[d.Name]; f != nil && f.others != nil {
			before, had := old.TextOf(d.Name)
			text := c.File.HelpInFile(d)
			if n, texts := f.countWithout(text, before, had); n == 0 && texts >= 2 {
				return false
			}
		}
	}
	return true
}

// TakeMisfits returns the families that were marked since it was called last:
// files may have another text for them than is served.
func (m *Merger) TakeMisfits() map[string]struct{} {
	marked := m.misfits
	m.misfits = map[string]struct{}{}
	return marked
}

// HelpOf adds the texts that are served for those of the families of which some
// file has another.
func (m *Merger) HelpOf(families []string, texts map[string]string) {
	for _, name := range families {
		if f := m.fams[name]; f != nil && !f.aligned() {
			texts[name] = f.help
		}
	}
}

func (m *Merger) signalMisfit() {
	select {
	case m.help.misfit <- struct{}{}:
	default:
	}
}

// Misfits calls yield for the groups whose files have other texts for the families
// than these.
func (v *View) Misfits(texts map[string]string, yield func(family string, g grouping.Key)) {
	check := func(name string, id *record.ID) {
		if f := v.files.get(id); f != nil && id.Kind == record.PushedKind {
			if d, ok := f.Has(name); ok && f.HelpInFile(d) != texts[name] {
				yield(name, f.Group())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) { // neighbors share segments
		for _, r := range [...]rope{v.main, v.beside} {
			r.from(&family{name: name}, nil, func(o *family, id *record.ID, _ []byte) bool {
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

// HelpToWrite returns which text to write to the file of a group that asks for the
// one in the description and has the text old, if other files have the family.
func (m *Merger) HelpToWrite(id *record.ID, d exposition.Desc, old string, had bool) (text string, ok bool) {
	f := m.fams[d.Name]
	if f == nil {
		return "", false
	}
	return f.toWrite(m.helpFor(f, id, d), old, had), true
}
