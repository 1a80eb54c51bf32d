package merge

import (
	"bytes"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// DirectoryErrors returns the directories that cannot be read, the spool first, then
// in the order in which they were added. The caller must not change the slice.
func (v *View) DirectoryErrors() []*record.DirectoryError { return v.failures }

// A View is the immutable merge of a set of files. It depends only on the files, not
// on the order or time of their arrival. It is safe for concurrent use and needs no
// release.
type View struct {
	files    catalog
	main     rope
	beside   rope
	excluded map[excludedKey]*excludedPart
	totals   Totals
	plain    bool // no name is in quotes
	extras   bool // some file has data that the text format lacks

	failures []*record.DirectoryError

	packed  atomic.Pointer[Deflated] // made on request
	encoded atomic.Pointer[Encoded]  // made on request
}

// Totals are counts over a View.
type Totals struct {
	Groups  int   // pushed groups
	Failed  int   // groups without a successful push
	Expired int   // expired groups
	Dropped int   // dropped files
	Series  int   // samples in all files, merged or not
	Bytes   int64 // size of all files
	// GroupBytes is the size of the files of pushed groups.
	GroupBytes int64
	Faults     map[exposition.Reason]int // number of files by class of fault

	blamed map[*record.ID][]exposition.Reason
}

// add counts a file in, or out with n = -1.
func (t *Totals) add(f *record.File, n int) {
	if f.ID().Kind == record.PushedKind {
		t.Groups += n
		t.GroupBytes += int64(n) * f.Size()
		if f.Pushed() == 0 {
			t.Failed += n
		}
		if f.Ended() != nil {
			t.Expired += n
		}
	} else {
		t.Dropped += n
	}
	t.Series += n * f.Series()
	t.Bytes += int64(n) * f.Size()
}

// blame sets the faults of a file.
func (t *Totals) blame(id *record.ID, reasons []exposition.Reason) {
	before := t.blamed[id]
	if slices.Equal(before, reasons) {
		return
	}
	faults := maps.Clone(t.Faults) // views have the old one
	if faults == nil {
		faults, t.blamed = map[exposition.Reason]int{}, map[*record.ID][]exposition.Reason{}
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

// View returns the merge as it is now.
func (m *Merger) View() *View {
	v := &View{files: m.files, main: m.main, beside: m.beside, excluded: m.excluded, totals: m.totals, plain: m.quoted == 0, extras: m.extras > 0, failures: m.failures}
	v.totals.blamed = nil
	return v
}

// Totals returns counts over the view. The map must not be changed.
func (v *View) Totals() Totals { return v.totals }

// IsEmpty reports whether the view has no files.
func (v *View) IsEmpty() bool { return len(v.files.blocks) == 0 }

// Files yields all files: pushed groups first, then dropped files, by name.
func (v *View) Files() iter.Seq[*record.File] { return v.files.all() }

// File returns the file of that name, nil if there is none.
func (v *View) File(name string) *record.File {
	for _, k := range record.KindsOf(name) {
		if f := v.files.get(&record.ID{Kind: k, Name: name}); f != nil {
			return f
		}
	}
	return nil
}

// Conflicts returns the conflicts of parts and series that are excluded, by file and
// family.
func (v *View) Conflicts() []*record.Conflict {
	var list []*record.Conflict
	for _, e := range v.excluded {
		if e.Harmless {
			continue
		}
		x := &e.Conflict
		if x.Reason == exposition.TypeConflict {
			typed := *x
			typed.Type, typed.KeptType = v.typeIn(x.File, x.Family), v.typeIn(x.Kept, x.Family)
			x = &typed
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b *record.Conflict) int {
		if n := strings.Compare(a.File, b.File); n != 0 {
			return n
		}
		return strings.Compare(a.Family, b.Family)
	})
	return list
}

// typeIn returns the type that a family has in a file.
func (v *View) typeIn(file, family string) exposition.Type {
	f := v.File(file)
	if f == nil {
		return exposition.Unstated
	}
	d, _ := f.Has(family)
	return d.Typ
}

// text returns the whole text of a family in a file.
func (v *View) text(f *record.File, name string) string {
	r := v.reader()
	return r.text(f, name)
}

// textReader finds texts of a View. It is fast in ascending order.
type textReader struct {
	v            *View
	main, beside cursor
	key          family // of which only the name counts
}

func (v *View) reader() *textReader {
	return &textReader{v: v, main: cursor{rope: v.main}, beside: cursor{rope: v.beside}}
}

// text returns the whole text of a family in a file.
func (r *textReader) text(f *record.File, name string) string {
	if len(r.v.excluded) > 0 {
		if e := r.v.excluded[excludedKey{name, *f.ID()}]; e != nil {
			return e.text
		}
	}
	r.key.name = name
	if t := r.main.piece(&r.key, f.ID()); t != nil {
		return string(t)
	}
	return string(r.beside.piece(&r.key, f.ID()))
}

// Parts returns the parts of one of the view's files.
func (v *View) Parts(f *record.File) []exposition.Part {
	parts := make([]exposition.Part, len(f.Descs()))
	r := v.reader()
	for i, h := range f.Descs() {
		d := h.Value()
		parts[i] = exposition.Part{Desc: h, Text: r.text(f, d.Name), Extra: f.Extra(d.Name)}
		parts[i].Hashes = hashesOf(d, parts[i].Text)
	}
	return parts
}

// contents has the parts of some files. It reads them from a view before the lock of
// the Store is taken, because those of a large file take long.
type contents struct {
	view  *View
	parts map[*record.File][]exposition.Part
}

// Contents returns an empty contents of the view.
func (v *View) Contents() *contents {
	return &contents{view: v, parts: map[*record.File][]exposition.Part{}}
}

// Read reads the parts of a file; nil is none.
func (c *contents) Read(f *record.File) {
	if f != nil {
		c.parts[f] = c.view.Parts(f)
	}
}

// Of returns the parts of a file of the current view. It reads them if the file has
// changed since.
func (c *contents) Of(f *record.File, current *View) []exposition.Part {
	if parts, ok := c.parts[f]; ok {
		return parts
	}
	return current.Parts(f)
}

// HasHelp reports whether a family is served with that HELP text.
func (v *View) HasHelp(name, help string) bool {
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
	return bytes.HasPrefix(header, exposition.AppendHelpLine(make([]byte, 0, 256), key.name, help))
}

// Len returns the length of the exposition in bytes.
func (v *View) Len() int { return v.main.bytes }

// AppendTo appends the exposition in the text format, families in name order. It
// excludes families that the agent has as well, see [View.Beside].
func (v *View) AppendTo(b []byte) []byte {
	v.main.segments(func(s *segment) bool {
		b = append(b, s.text...)
		return true
	})
	return b
}

// PlainNames reports whether certainly no name is in quotes.
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
		r.from(&family{name: name}, nil, func(f *family, id *record.ID, text []byte) bool {
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

// Beside returns the families of files that the agent has as well.
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

// Merge returns the view of a set of files, given by name and content. A Store with
// the same Own on a directory with these files has the same view.
func Merge(own map[string]Own, files map[string][]byte) *View { return MergerOf(own, files).View() }

// MergerOf returns the merge of a set of files, see Merge.
func MergerOf(own map[string]Own, files map[string][]byte) *Merger {
	m := New(own)
	updates := make([]Update, 0, len(files))
	for name, data := range files {
		updates = append(updates, Update{New: record.Parse(name, data)})
	}
	m.Apply(updates)
	return m
}

// Families decodes the metrics of a file of this view, in name order, including
// excluded ones. The caller owns the result.
func (v *View) Families(f *record.File) []exposition.Family {
	out := make([]exposition.Family, 0, len(f.Descs()))
	for _, h := range f.Descs() {
		d := h.Value()
		out = append(out, v.decode(f, d))
	}
	return out
}

// decode decodes a family of a file.
func (v *View) decode(f *record.File, d exposition.Desc) exposition.Family {
	text := v.text(f, d.Name)
	fam := exposition.DecodeFamily(d, text)
	if native := exposition.DecodeNative(d, f.Extra(d.Name)); native != nil {
		i := 0
		exposition.EachMetric(d, text, func(base []byte, _ string) bool {
			fam.Metrics[i].Native = native[string(base)]
			i++
			return true
		})
	}
	return fam
}

// Family returns the family of that name, decoded as by Families.
func (v *View) Family(f *record.File, name string) (exposition.Family, bool) {
	d, ok := f.Has(name)
	if !ok {
		return exposition.Family{}, false
	}
	return v.decode(f, d), true
}

// Metrics yields the metrics of Families one by one. Each comes with its family,
// whose Metrics are nil. It decodes only as far as it is iterated.
func (v *View) Metrics(f *record.File) iter.Seq2[exposition.Family, exposition.Metric] {
	return func(yield func(exposition.Family, exposition.Metric) bool) {
		more := true
		for _, h := range f.Descs() {
			d := h.Value()
			fam := exposition.Family{Name: d.Name, Help: d.Help, Type: d.Typ}
			native := exposition.DecodeNative(d, f.Extra(d.Name))
			exposition.EachMetric(d, v.text(f, d.Name), func(base []byte, lines string) bool {
				m := exposition.DecodeMetric(d, lines)
				m.Native = native[string(base)]
				more = yield(fam, m)
				return more
			})
			if !more {
				return
			}
		}
	}
}

// Value returns the value of the first sample of a family in a file, and whether
// there is one.
func (v *View) Value(f *record.File, family string) (value float64, ok bool) {
	if _, ok := f.Has(family); !ok {
		return 0, false
	}
	return exposition.FirstValue(v.text(f, family)), true
}
