package filestore

import (
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unique"
)

// A family is served with the HELP text of the first dropped file that has one,
// because that file cannot be rewritten, else with that of the first group that
// asked for one. First is meant in the order of the merge.
//
// node_exporter drops a family whose text differs between files or is missing in
// one. So the files of groups hold the text that is served. What a group asked
// for instead, which may be no text, is a comment of its file:
//
//	# promspool:help 0 NAME TEXT
//
// In memory the description of a part has the text that was asked for, and
// [File.stored] has those that differ in the file. The merge reads only the first,
// so what is served does not depend on which files are rewritten already: see
// [Store.AlignHelp]. The number was a Unix time once; it is not used any more.
const helpDirective = "help"

// trimHelp cuts off what a HELP line cannot keep: blanks in front of the text, and
// carriage returns at the end, which readers take for a part of the line's end.
func trimHelp(s string) string {
	return strings.TrimRight(strings.TrimLeft(s, " \t"), "\r")
}

// askedHelp gives the parts of a group's file the texts that the group asked for,
// and returns the descriptions in the file that differ from that.
func askedHelp(parts []part, directives []directive) (stored []unique.Handle[desc]) {
	var asked map[string]string
	for _, d := range directives {
		if d.key != helpDirective {
			continue
		}
		if name, text, ok := parseAsked(d.text); ok {
			if asked == nil {
				asked = make(map[string]string)
			}
			asked[name] = text
		}
	}
	if asked == nil {
		return nil
	}
	for i := range parts {
		d := parts[i].desc.Value()
		if text, ok := asked[d.name]; ok && text != d.help {
			stored = append(stored, parts[i].desc)
			d.help = text
			parts[i].desc = unique.Make(d)
		}
	}
	return stored
}

// parseAsked reads the value of a help directive.
func parseAsked(value string) (name, text string, ok bool) {
	number, rest, _ := strings.Cut(value, " ")
	if _, err := strconv.ParseFloat(number, 64); err != nil || rest == "" {
		return "", "", false
	}
	p := parser{utf8Names: true, rest: rest}
	name, err := p.metricName()
	if err != nil {
		return "", "", false
	}
	p.rest = strings.TrimPrefix(p.rest, " ")
	if text, err = p.unescapeHelp(); err != nil {
		return "", "", false
	}
	return name, trimHelp(plainText(text)), true
}

// plainText replaces what a reader of the text format refuses in a HELP text.
func plainText(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// appendAsked appends the directives for the texts that a group asked for and its
// file does not have.
func (f *File) appendAsked(b []byte) []byte {
	for _, h := range f.stored {
		name := h.Value().name
		asked, _ := f.has(name)
		b = append(b, directivePrefix+helpDirective+" 0 "...)
		b = appendName(b, name)
		if asked.help != "" {
			b = append(b, ' ')
			b = appendHelp(b, asked.help)
		}
		b = append(b, '\n')
	}
	return b
}

// helpInFile returns the HELP text that the file has for one of its families.
func (f *File) helpInFile(d desc) string {
	if o, ok := findDesc(f.stored, d.name); ok {
		return o.help
	}
	return d.help
}

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

// textOf returns the text that a group's file has for a family, if it has that. The
// file may be nil.
func (f *File) textOf(name string) (text string, ok bool) {
	if f == nil {
		return "", false
	}
	d, ok := f.has(name)
	if !ok {
		return "", false
	}
	return f.helpInFile(d), true
}

// alignHelp gives the file of a group the texts of the spool. They are best known
// here, outside of the lock under which the file is renamed. If one changes
// meanwhile, the merge notices that the file differs.
func (s *Store) alignHelp(c *content, old *File) {
	c.file.stored = nil
	v, mixed := s.View(), s.help.mixed.Load() > 0
	var key family
	var others []desc
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		if s.opts.Only != nil { // the other texts are not known, but the old file has them
			if text, ok := old.textOf(d.name); ok {
				c.file.setStored(d, text)
			}
		} else if key.name = d.name; mixed || !v.hasHelp(&key, d.help) { // mostly it is the text that is served anyway
			others = append(others, d)
		}
	}
	if len(others) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range others {
		if f := s.merge.fams[d.name]; f != nil {
			text, had := old.textOf(d.name)
			c.file.setStored(d, f.toWrite(s.merge.helpFor(f, c.file.id, d), text, had))
		}
	}
}

func (f *File) setStored(d desc, text string) {
	if text != d.help {
		d.help = text
		f.stored = append(f.stored, unique.Make(d))
	}
}
