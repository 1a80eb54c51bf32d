package exposition

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"unique"
)

// Desc is the description of a family in one file: name, type and HELP text. Files
// of similar jobs share it in memory.
type Desc struct {
	Name string
	Typ  Type
	Help string
}

// Part is one family of one file in canonical form.
type Part struct {
	Desc   unique.Handle[Desc]
	Text   string   // the sample lines; a piece of the text of the whole file
	Hashes []uint64 // of the identities of its metrics, see identityHash
	Extra  string   // comment lines with data that the text format lacks, see om2.go; mostly empty
}

// Labelling is how a group changes the labels of its samples.
type Labelling struct {
	Over          []Label  // set on every sample, in name order
	Strip         []string // deleted from every sample
	EmptyInstance bool     // add instance="" to samples without an instance
}

// record is one sample before it is written as canonical text.
type record struct {
	base  string  // the labels of its identity in braces, or ""
	shown string  // base, with instance="" if that is written
	line  int     // for errors
	part  uint8   // within one histogram or summary: 0 bucket or quantile, 1 sum, 2 count
	bound float64 // le or quantile
	value float64
}

// Canonical returns families in canonical order and form. The same metrics give the
// same bytes, however they were written.
//
// In a file (lenient) a duplicate sample is dropped. If its value differs, the
// first one is kept and the returned issue reports it. In a push both are errors.
func Canonical(f *Families, lab Labelling, lenient bool) (parts []Part, series int, issue *SyntaxError, err error) {
	c := canonicalizers.Get().(*canonicalizer)
	defer canonicalizers.Put(c)
	c.reset(lab, lenient)
	c.issue = f.issue
	list := slices.DeleteFunc(slices.Clone(f.List), func(f *RawFamily) bool { return len(f.Samples) == 0 })
	slices.SortFunc(list, func(a, b *RawFamily) int { return strings.Compare(a.Name, b.Name) })

	type span struct{ text, hashes, extra int }
	ends := make([]span, 0, len(list))
	for i := 0; i < len(list); i++ {
		if other := suffixOf(list[i], f.ByName); other != nil {
			e := fault(list[i].Samples[0].line, Duplicate, "family", list[i].Name, "the name is that of a part of the %s %s: rename one of them", other.Typ, token(other.Name))
			e.Decoded = true
			c.complain(e)
			list = slices.Delete(list, i, i+1)
			i--
			continue
		}
		if err := c.family(list[i]); err != nil {
			return nil, 0, nil, err
		}
		if c.faults.unlisted && !c.faults.readable {
			break // further faults would not change the error
		}
		ends = append(ends, span{len(c.text), len(c.hashes), len(c.extra)})
	}

	if err := c.faults.err(); err != nil {
		return nil, 0, nil, err
	}
	text, hashes, extra := string(c.text), slices.Clone(c.hashes), string(c.extra) // the buffers are reused
	parts = make([]Part, len(list))
	var from span
	for i, f := range list {
		parts[i] = Part{
			Desc:   unique.Make(Desc{f.Name, f.Typ, trimHelp(f.help)}),
			Text:   text[from.text:ends[i].text],
			Hashes: hashes[from.hashes:ends[i].hashes:ends[i].hashes],
			Extra:  extra[from.extra:ends[i].extra],
		}
		from = ends[i]
	}
	return parts, c.series, c.issue, nil
}

// CompositeSuffixes are the suffixes that a histogram or summary reserves.
var CompositeSuffixes = [...]string{"_bucket", "_sum", "_count"}

// Reserves reports whether a family of type t reserves its name with that suffix.
func (t Type) Reserves(suffix string) bool {
	return t == Histogram || t == Summary && suffix != "_bucket"
}

// suffixOf returns the histogram or summary whose samples have the name of f.
func suffixOf(f *RawFamily, byName map[string]*RawFamily) *RawFamily {
	for _, suffix := range CompositeSuffixes {
		base, ok := strings.CutSuffix(f.Name, suffix)
		if !ok {
			continue
		}
		if o := byName[base]; o != nil && len(o.Samples) > 0 && o.Typ.Reserves(suffix) {
			return o
		}
	}
	return nil
}

type canonicalizer struct {
	lab     Labelling
	lenient bool

	text   []byte
	hashes []uint64
	extra  []byte
	series int
	issue  *SyntaxError
	faults faults // of a push

	records []record // of the current family
	labels  []Label
	scratch []byte
}

var canonicalizers = sync.Pool{New: func() any { return new(canonicalizer) }}

// reset clears the state and keeps the buffers.
func (c *canonicalizer) reset(lab Labelling, lenient bool) {
	clear(c.records) // frees their strings
	clear(c.labels)
	*c = canonicalizer{lab: lab, lenient: lenient, text: c.text[:0], hashes: c.hashes[:0], extra: c.extra[:0], records: c.records[:0], labels: c.labels[:0], scratch: c.scratch[:0]}
}

// complain records the issue of a file or the fault of a push.
func (c *canonicalizer) complain(e *SyntaxError) {
	if !c.lenient {
		c.faults.add(e)
	} else if c.issue == nil {
		c.issue = e
	}
}

func (c *canonicalizer) family(f *RawFamily) error {
	c.records = c.records[:0]
	complete := true
	for i := range f.Samples {
		if err := c.add(f, &f.Samples[i]); err != nil {
			if c.lenient {
				return err
			}
			complete = false
			if !c.faults.add(err.(*SyntaxError)) {
				return nil
			}
		}
	}
	if f.gauge && complete { // else the +Inf bucket may be among the invalid samples
		if err := c.completeCounts(f); err != nil {
			if c.lenient {
				return err
			}
			c.faults.add(err.(*SyntaxError))
			return nil
		}
	}
	if f.Typ == Histogram && (!c.lenient || f.gauge) {
		c.completeBuckets()
	}
	slices.SortStableFunc(c.records, func(a, b record) int {
		if n := strings.Compare(a.base, b.base); n != 0 {
			return n
		}
		if n := cmp.Compare(a.part, b.part); n != 0 {
			return n
		}
		return cmp.Compare(a.bound, b.bound)
	})
	for i := range c.records {
		r := &c.records[i]
		if i > 0 {
			last := &c.records[i-1]
			if last.base == r.base && last.part == r.part && last.bound == r.bound {
				c.duplicate(f, last, r)
				r.value = last.value // a third sample is compared with the first one
				continue
			}
		}
		if i == 0 || c.records[i-1].base != r.base {
			c.hashes = append(c.hashes, IdentityHash(f.Name, r.base))
		}
		c.write(f, r)
	}
	if f.unit != "" || len(f.points) > 0 || !f.start.IsZero() || f.gauge {
		return c.attach(f)
	}
	return nil
}

func (c *canonicalizer) duplicate(f *RawFamily, first, second *record) {
	same := first.value == second.value || math.IsNaN(first.value) && math.IsNaN(second.value)
	if same && c.lenient {
		return
	}
	if !c.lenient && len(c.faults.list) >= mostFaults {
		c.faults.unlisted = true
		return
	}
	line := appendSeries(nil, f, second, f.gcount)
	format := "duplicate series %s: each may occur once"
	args := []any{series(line)}
	if first.line > 0 {
		format = "duplicate series %s: it is in line %d already, and may occur once"
		args = append(args, first.line)
	}
	e := fault(second.line, Duplicate, "", "", format, args...)
	e.Decoded = true
	c.complain(e)
}

// add appends the record of one sample.
func (c *canonicalizer) add(f *RawFamily, s *Sample) error {
	r := record{line: s.line, value: s.Value}
	skip := ""
	switch f.Typ {
	case Histogram:
		switch suffix := s.Name[len(f.Name):]; {
		case suffix == "_bucket":
			skip = "le"
		case suffix == "_sum", f.gauge && suffix == gsumSuffix:
			r.part = 1
		case suffix == "_count", f.gauge && suffix == gcountSuffix:
			r.part = 2
		case f.gauge:
			return c.fail(s, "the sample is not part of the gaugehistogram %s: its samples end in _bucket, _gsum and _gcount", token(f.Name))
		default:
			return c.fail(s, "the sample is not part of the histogram %s: its samples end in _bucket, _sum and _count", token(f.Name))
		}
		if r.part != 1 && (r.value < 0 || f.gauge && !isCount(r.value)) {
			return c.fail(s, invalidCount, token(floatText(r.value)), f.kind())
		}
	case Summary:
		switch s.Name[len(f.Name):] {
		case "":
			skip = "quantile"
		case "_sum":
			r.part = 1
		case "_count":
			r.part = 2
		}
	}
	if skip != "" {
		bound, ok := "", false
		for _, l := range s.Labels {
			if l.Name == skip {
				bound, ok = l.Value, true
			}
		}
		var err error
		if r.bound, err = ParseFloat(bound); !ok || err != nil || math.IsNaN(r.bound) {
			return c.badBound(f, s, skip, bound, ok)
		}
	}
	if f.Typ.Composite() {
		// The label would be read as a bound.
		reserved := f.Typ.bound()
		for _, l := range c.lab.Over {
			if l.Name == reserved {
				return c.fail(s, "a %s cannot have %s as a grouping label: rename the label of the group", f.Typ, reserved)
			}
		}
		if skip == "" && slices.ContainsFunc(s.Labels, func(l Label) bool { return l.Name == reserved }) {
			return c.fail(s, "the label %s is only for the parts of a %s that have it: rename it", reserved, f.Typ)
		}
	}
	empty := c.identity(s.Labels, skip)
	if len(c.labels) > 0 {
		c.scratch = AppendLabels(c.scratch[:0], c.labels)
		if n := len(c.records); n > 0 && c.records[n-1].base == string(c.scratch) {
			r.base = c.records[n-1].base
		} else {
			r.base = string(c.scratch)
		}
	}
	if r.shown = r.base; empty {
		r.shown = c.withInstance()
	}
	c.records = append(c.records, r)
	return nil
}

// identity sets c.labels to the labels of the identity of a sample, without the
// label to skip. It reports whether instance="" is written as well.
func (c *canonicalizer) identity(labels []Label, skip string) (empty bool) {
	c.labels = c.labels[:0]
	instance := false
	for _, l := range labels {
		switch {
		case l.Name == skip, slices.Contains(c.lab.Strip, l.Name), c.overrules(l.Name):
		case l.Value != "":
			instance = instance || l.Name == "instance"
			c.labels = append(c.labels, l)
		case l.Name == "instance":
			empty = true
		}
	}
	for _, l := range c.lab.Over {
		instance = instance || l.Name == "instance"
		c.labels = append(c.labels, l)
	}
	slices.SortFunc(c.labels, compareNames)
	return (empty || c.lab.EmptyInstance) && !instance
}

func compareNames(a, b Label) int { return strings.Compare(a.Name, b.Name) }

// withInstance returns the labels of the identity with instance="".
func (c *canonicalizer) withInstance() string {
	c.labels = append(c.labels, Label{Name: "instance"})
	slices.SortFunc(c.labels, compareNames)
	return string(AppendLabels(nil, c.labels))
}

// base returns the labels of a metric's identity, and the labels to write.
func (c *canonicalizer) base(labels []Label) (base, shown string) {
	empty := c.identity(labels, "")
	if len(c.labels) > 0 {
		base = string(AppendLabels(nil, c.labels))
	}
	if shown = base; empty {
		shown = c.withInstance()
	}
	return base, shown
}

func (c *canonicalizer) overrules(name string) bool {
	for i := range c.lab.Over {
		if c.lab.Over[i].Name == name {
			return true
		}
	}
	return false
}

// badBound returns the error for a bucket without a number in le, or a quantile
// without one in quantile.
func (c *canonicalizer) badBound(f *RawFamily, s *Sample, label, value string, ok bool) error {
	if !ok {
		return c.fail(s, "the sample of a %s has no label %s: give it one that is a number", f.Typ, label)
	}
	return c.fail(s, "invalid value %s of label %s of a %s: it must be a number", token(value), label, f.Typ)
}

func (c *canonicalizer) fail(s *Sample, format string, args ...any) error {
	e := fault(s.line, Syntax, "metric", s.Name, format, args...)
	e.Decoded = s.line == 0 // without a line it came as protobuf, which was decoded before
	return e
}

// completeBuckets adds the +Inf bucket to a pushed histogram that has a count and no
// such bucket, as Pushgateway does.
func (c *canonicalizer) completeBuckets() {
	inf := map[string]bool{}
	for _, r := range c.records {
		if r.part == 0 && math.IsInf(r.bound, 1) {
			inf[r.base] = true
		}
	}
	for _, r := range c.records[:len(c.records):len(c.records)] {
		if r.part == 2 && !inf[r.base] {
			inf[r.base] = true
			r.part, r.bound = 0, math.Inf(1)
			c.records = append(c.records, r)
		}
	}
}

// completeCounts gives a gauge histogram without a count the one of its +Inf bucket. In
// OpenMetrics the count is optional if there is no sum.
func (c *canonicalizer) completeCounts(f *RawFamily) error {
	counts, infs := map[string]bool{}, map[string]record{}
	for _, r := range c.records {
		switch {
		case r.part == 2:
			counts[r.base] = true
		case r.part == 0 && math.IsInf(r.bound, 1):
			infs[r.base] = r
		}
	}
	for _, r := range c.records[:len(c.records):len(c.records)] {
		if counts[r.base] {
			continue
		}
		counts[r.base] = true
		inf, ok := infs[r.base]
		if !ok {
			e := fault(r.line, Syntax, "family", f.Name, `%s has no bucket with le="+Inf": each metric of a gaugehistogram must have one`, series(appendSeries(nil, f, &r, f.gcount)))
			e.Decoded = true
			return e
		}
		inf.part, inf.bound = 2, 0
		c.records = append(c.records, inf)
	}
	return nil
}

// write appends the line of one record.
func (c *canonicalizer) write(f *RawFamily, r *record) {
	c.series++
	b := appendSeries(c.text, f, r, false)
	b = append(b, ' ')
	b = AppendValue(b, r.value)
	c.text = append(b, '\n')
}

// appendSeries appends the name and the labels of one record. With gcount the count and
// sum of a gauge histogram are named as in OpenMetrics.
func appendSeries(b []byte, f *RawFamily, r *record, gcount bool) []byte {
	name := f.Name
	switch {
	case gcount && r.part == 1:
		name += gsumSuffix
	case gcount && r.part == 2:
		name += gcountSuffix
	case r.part == 1:
		name += "_sum"
	case r.part == 2:
		name += "_count"
	case f.Typ == Histogram:
		name += "_bucket"
	}
	base, bound := r.shown, ""
	if r.part == 0 {
		bound = f.Typ.bound()
	}
	if PlainName(name) {
		b = append(b, name...)
		if base != "" || bound != "" {
			b = append(b, '{')
		}
	} else {
		b = append(b, '{')
		b = appendQuoted(b, name)
		if base != "" || bound != "" {
			b = append(b, ',')
		}
	}
	if base != "" {
		b = append(b, base[1:len(base)-1]...)
	}
	if bound != "" {
		if base != "" {
			b = append(b, ',')
		}
		b = append(b, bound...)
		b = append(b, '=', '"')
		b = AppendValue(b, r.bound)
		b = append(b, '"')
	}
	if base != "" || bound != "" || !PlainName(name) {
		b = append(b, '}')
	}
	return b
}

// PlainName reports whether a metric name needs no quotes.
func PlainName(s string) bool {
	for i := range len(s) {
		if !NameByte(s[i], i, true) {
			return false
		}
	}
	return s != ""
}

// AppendHeader appends the HELP line, if there is a text, and the TYPE line.
func AppendHeader(b []byte, name, help string, t Type) []byte {
	if help != "" {
		b = AppendHelpLine(b, name, help)
	}
	b = append(b, "# TYPE "...)
	b = AppendName(b, name)
	b = append(b, ' ')
	b = append(b, t.String()...)
	return append(b, '\n')
}

// AppendHelpLine appends the HELP line of a family.
func AppendHelpLine(b []byte, name, help string) []byte {
	b = append(b, "# HELP "...)
	b = AppendName(b, name)
	b = append(b, ' ')
	b = AppendHelp(b, help)
	return append(b, '\n')
}

// AppendName appends the name of a metric, in quotes if it needs them.
func AppendName(b []byte, name string) []byte {
	if PlainName(name) {
		return append(b, name...)
	}
	return appendQuoted(b, name)
}

// AppendHelp appends a HELP text with the two escapes it needs.
func AppendHelp(b []byte, help string) []byte {
	for {
		i := strings.IndexAny(help, "\\\n")
		if i < 0 {
			return append(b, help...)
		}
		b = append(b, help[:i]...)
		if help[i] == '\n' {
			b = append(b, '\\', 'n')
		} else {
			b = append(b, '\\', '\\')
		}
		help = help[i+1:]
	}
}
