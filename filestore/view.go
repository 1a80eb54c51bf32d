package filestore

import (
	"bytes"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// A View is the immutable merge of a set of files. It depends on the files
// alone, not on the order or the time at which they came. It is safe for
// concurrent use; nobody has to give it back.
type View struct {
	files    catalog
	main     rope
	beside   rope
	excluded map[excludedKey]*excludedPart
	totals   Totals
	plain    bool // no name is in quotes

	failures []*DirectoryError

	packed atomic.Pointer[Deflated] // made when somebody asks
}

// Totals are counts over a View.
type Totals struct {
	Groups  int   // pushed groups
	Failed  int   // of these, the ones that never saw a push succeed
	Expired int   // of these, the ones whose payload is withheld
	Dropped int   // dropped files
	Series  int   // samples in all files, merged or not
	Bytes   int64 // size of all files
	// GroupBytes is the size of the files of pushed groups.
	GroupBytes int64
	Faults     map[Reason]int // files with a fault of that class

	blamed map[*ident][]Reason
}

// add counts a file in, or out with n = -1.
func (t *Totals) add(f *File, n int) {
	if f.id.kind == pushedKind {
		t.Groups += n
		t.GroupBytes += int64(n) * f.size
		if f.push == 0 {
			t.Failed += n
		}
		if f.age != nil {
			t.Expired += n
		}
	} else {
		t.Dropped += n
	}
	t.Series += n * f.series
	t.Bytes += int64(n) * f.size
}

// blame sets the faults of a file.
func (t *Totals) blame(id *ident, reasons []Reason) {
	before := t.blamed[id]
	if slices.Equal(before, reasons) {
		return
	}
	faults := maps.Clone(t.Faults) // views have the old one
	if faults == nil {
		faults, t.blamed = map[Reason]int{}, map[*ident][]Reason{}
	}
	for _, r := range before {
		faults[r]--
	}
	for _, r := range reasons {
		faults[r]++
	}
	t.Faults = faults
	if len(reasons) == 0 {
		delete(t.blamed, id)
	} else {
		t.blamed[id] = reasons
	}
}

// view returns the merge as it is now.
func (m *merger) view() *View {
	v := &View{files: m.files, main: m.main, beside: m.beside, excluded: m.excluded, totals: m.totals, plain: m.quoted == 0, failures: m.failures}
	v.totals.blamed = nil
	return v
}

// Totals returns counts over the view. The map must not be changed.
func (v *View) Totals() Totals { return v.totals }

// isEmpty reports whether there are no files.
func (v *View) isEmpty() bool { return len(v.files.blocks) == 0 }

// Files yields all files: pushed groups first, then dropped files, by name.
func (v *View) Files() iter.Seq[*File] { return v.files.all() }

// File returns the file of that name, nil if there is none.
func (v *View) File(name string) *File {
	for _, k := range kindsOf(name) {
		if f := v.files.get(&ident{k, name}); f != nil {
			return f
		}
	}
	return nil
}

// Conflicts lists what had to be left out of the merge, by file and family.
func (v *View) Conflicts() []*Conflict {
	var list []*Conflict
	for _, e := range v.excluded {
		if !e.harmless {
			list = append(list, &e.Conflict)
		}
	}
	slices.SortFunc(list, func(a, b *Conflict) int {
		if n := strings.Compare(a.File, b.File); n != 0 {
			return n
		}
		return strings.Compare(a.Family, b.Family)
	})
	return list
}

// text returns all that a file has of a family.
func (v *View) text(f *File, name string) string {
	r := v.reader()
	return r.text(f, name)
}

// textReader finds the texts of a View, quickly if they are asked for in order.
type textReader struct {
	v            *View
	main, beside cursor
	key          family // of which only the name counts
}

func (v *View) reader() *textReader {
	return &textReader{v: v, main: cursor{rope: v.main}, beside: cursor{rope: v.beside}}
}

// text returns all that a file has of a family.
func (r *textReader) text(f *File, name string) string {
	if len(r.v.excluded) > 0 {
		if e := r.v.excluded[excludedKey{name, *f.id}]; e != nil {
			return e.text
		}
	}
	r.key.name = name
	if t := r.main.piece(&r.key, f.id); t != nil {
		return string(t)
	}
	return string(r.beside.piece(&r.key, f.id))
}

// parts returns the content of one of the view's files.
func (v *View) parts(f *File) []part {
	parts := make([]part, len(f.parts))
	r := v.reader()
	for i, h := range f.parts {
		d := h.Value()
		parts[i] = part{desc: h, text: r.text(f, d.name)}
		parts[i].hashes = hashesOf(d, parts[i].text)
	}
	return parts
}

// contents are the parts of some files. They are read from a view before the lock
// of the Store is taken, since those of a large file take long.
type contents struct {
	view  *View
	parts map[*File][]part
}

func (v *View) contents() *contents { return &contents{view: v, parts: map[*File][]part{}} }

// read reads the parts of a file; nil is none.
func (c *contents) read(f *File) {
	if f != nil {
		c.parts[f] = c.view.parts(f)
	}
}

// of returns the parts of a file of the current view, which has changed since if
// they have not been read.
func (c *contents) of(f *File, current *View) []part {
	if parts, ok := c.parts[f]; ok {
		return parts
	}
	return current.parts(f)
}

// hasHelp reports whether a family is served with that text.
func (v *View) hasHelp(name, help string) bool {
	key := &family{name: name}
	header := v.main.piece(key, nil)
	if header == nil {
		if header = v.beside.piece(key, nil); header == nil {
			return false
		}
	}
	if help == "" {
		return !bytes.HasPrefix(header, []byte("# HELP "))
	}
	return bytes.HasPrefix(header, appendHelpLine(make([]byte, 0, 256), key.name, help))
}

// Len returns the length of the exposition in bytes.
func (v *View) Len() int { return v.main.bytes }

// AppendTo appends the exposition in the text format, families in name order,
// without those that the agent has as well: see Beside.
func (v *View) AppendTo(b []byte) []byte {
	v.main.segments(func(s *segment) bool {
		b = append(b, s.text...)
		return true
	})
	return b
}

// PlainNames reports whether it is known that every name is of the classic set,
// so that none stands in quotes.
func (v *View) PlainNames() bool { return v.plain }

// Chunks yields the exposition in pieces of some kilobytes, which must not be
// changed.
func (v *View) Chunks() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		v.main.segments(func(s *segment) bool { return yield(s.text) })
	}
}

// AppendFamily appends the header and the samples of one family.
func (v *View) AppendFamily(b []byte, name string) []byte {
	return v.appendFamily(b, name, true)
}

// AppendBeside appends the samples, without header, that files add to a family
// of the agent's own.
func (v *View) AppendBeside(b []byte, name string) []byte {
	return v.appendFamily(b, name, false)
}

func (v *View) appendFamily(b []byte, name string, header bool) []byte {
	for _, r := range [...]rope{v.main, v.beside} {
		r.from(&family{name: name}, nil, func(f *family, id *ident, text []byte) bool {
			if f.name != name {
				return false
			}
			if id != nil || header {
				b = append(b, text...)
			}
			return true
		})
	}
	return b
}

// Beside lists the families of files that the agent has as well.
func (v *View) Beside() []string {
	var names []string
	v.beside.segments(func(s *segment) bool {
		for _, r := range s.runs {
			if n := len(names); n == 0 || names[n-1] != r.fam.name {
				names = append(names, r.fam.name)
			}
		}
		return true
	})
	return names
}

// Merge returns the view of a set of files, given by name and content. It is
// what a Store on a directory with these files serves, if own is what its
// Options have.
func Merge(own map[string]Own, files map[string][]byte) *View { return mergerOf(own, files).view() }

func mergerOf(own map[string]Own, files map[string][]byte) *merger {
	m := newMerger(own)
	updates := make([]update, 0, len(files))
	for name, data := range files {
		updates = append(updates, update{new: parseFile(name, data)})
	}
	m.apply(updates)
	return m
}

// PrintableName returns a file name as it stands in label values and on pages:
// bytes that are not UTF-8 are written \xNN.
func PrintableName(name string) string {
	if utf8.ValidString(name) && strings.IndexByte(name, 0) < 0 {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && n == 1 || r == 0 {
			b.WriteString(`\x` + strconv.FormatUint(uint64(name[i])|0x100, 16)[1:])
		} else {
			b.WriteString(name[i : i+n])
		}
		i += n
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Families takes the metrics of a file of this view apart, in name order,
// whether or not they could be merged. The caller owns the result.
func (v *View) Families(f *File) []Family {
	out := make([]Family, 0, len(f.parts))
	for _, h := range f.parts {
		d := h.Value()
		out = append(out, decodeFamily(d, v.text(f, d.name)))
	}
	return out
}

// Family is the one of that name of those that Families returns.
func (v *View) Family(f *File, name string) (Family, bool) {
	d, ok := f.has(name)
	if !ok {
		return Family{}, false
	}
	return decodeFamily(d, v.text(f, name)), true
}

// Metrics yields what Families returns metric by metric, each with its family,
// whose own Metrics are nil. It takes apart no more than is asked for.
func (v *View) Metrics(f *File) iter.Seq2[Family, Metric] {
	return func(yield func(Family, Metric) bool) {
		more := true
		for _, h := range f.parts {
			d := h.Value()
			fam := Family{Name: d.name, Help: d.help, Type: d.typ}
			eachMetric(d, v.text(f, d.name), func(_ []byte, lines string) bool {
				more = yield(fam, decodeMetric(d, lines))
				return more
			})
			if !more {
				return
			}
		}
	}
}

// Value returns the value of the first sample that a file of this view has of a
// family, and whether there is one.
func (v *View) Value(f *File, family string) (value float64, ok bool) {
	if _, ok := f.has(family); !ok {
		return 0, false
	}
	return firstValue(v.text(f, family)), true
}
