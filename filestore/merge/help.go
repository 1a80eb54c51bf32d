package merge

import (
	"iter"
	"maps"
	"slices"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// compareHelp orders files by the priority of their HELP texts.
func compareHelp(a, b *record.ID) int {
	if (a.Kind == record.PushedKind) != (b.Kind == record.PushedKind) {
		return int(b.Kind) - int(a.Kind)
	}
	return record.Compare(a, b)
}

// addHelp adds a file's own text to a family.
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
	if n == 0 { // the first file has changed its text
		delete(c.helps, f)
	}
}

// removeHelp removes a file's own text from a family.
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

// helpWalk is how many files a search for a text reads before it makes a list.
const helpWalk = 64

// findHelp returns the file other than skip whose text is served for a family, and the
// text. Mostly one of the first files has one. A long search makes a list that is
// kept, so it happens once for each family.
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

// findAskers returns the files with a text of their own for a family, in order of
// priority.
func (m *Merger) findAskers(f *family) []*record.ID {
	var list []*record.ID
	for id := range m.filesOf(f) {
		if m.asked(f, id) != "" {
			list = append(list, id)
		}
	}
	for id := range f.excluded { // its text counts even if no series is served
		if m.asked(f, id) != "" {
			list = append(list, id)
		}
	}
	slices.SortFunc(list, compareHelp)
	return slices.CompactFunc(list, func(a, b *record.ID) bool { return record.Compare(a, b) == 0 })
}

// asked returns a file's own text for a family.
func (m *Merger) asked(f *family, id *record.ID) string {
	if record.IsReserved(f.name) && !record.Belongs(id, f.name) {
		return ""
	}
	d, _ := m.files.get(id).Has(f.name)
	return d.Help
}

// filesOf yields the files with served series in a family, in order of priority.
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

// helpFor returns the text that is served for a family when a group's file has the
// description.
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

// countHelp counts the text in a group's file for a family, with n = -1 for its
// removal.
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

// recountHelp updates the counts for a part that has changed at most in the text in
// its file.
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
		for other, k := range f.others { // any other text becomes inFiles
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

// aligned reports whether all files of groups have the served text.
func (f *family) aligned() bool {
	return f.n == 0 || f.inFiles == f.help && f.others == nil
}

// countWithout returns how many groups' files have the text, and how many different
// texts they have. It excludes one file with the text old.
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

// toWrite returns the text to write to a group's file that has the text old. It is
// the given one, unless the other files already have two different ones; then it is
// one of these. node_exporter exits if files have two texts and another has none, so
// there must never be three, where none counts as a text.
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

// MayHaveHelp reports whether a group's file, which replaces old, can be written
// without giving a family a third text.
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

// TakeMisfits returns and clears the families whose files may have another text than
// the served one.
func (m *Merger) TakeMisfits() map[string]struct{} {
	marked := m.misfits
	m.misfits = map[string]struct{}{}
	return marked
}

// HelpOf adds to texts the served texts of those families in which some file has
// another one.
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

// Misfits calls yield for the groups whose files have a different text for one of the
// families.
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

// HelpToWrite returns the text to write to a group's file with the description, whose
// text so far is old. It is not ok if no file has the family.
func (m *Merger) HelpToWrite(id *record.ID, d exposition.Desc, old string, had bool) (text string, ok bool) {
	f := m.fams[d.Name]
	if f == nil {
		return "", false
	}
	return f.toWrite(m.helpFor(f, id, d), old, had), true
}
