package exposition

import (
	"slices"
	"time"
)

// A Type is the type of a metric family in the text format.
type Type uint8

// The types. Unstated is that of a family without a TYPE line in a dropped file. It
// does not conflict with any simple type of another file.
const (
	Unstated Type = iota
	Untyped
	Counter
	Gauge
	Summary
	Histogram
)

var typeNames = [...]string{"untyped", "untyped", "counter", "gauge", "summary", "histogram"}

// String returns the type as in a TYPE line.
func (t Type) String() string { return typeNames[t] }

// bound returns the label that distinguishes the lines of one metric of the type,
// or "".
func (t Type) bound() string {
	switch t {
	case Histogram:
		return "le"
	case Summary:
		return "quantile"
	}
	return ""
}

// Composite reports whether one metric of the type has several lines.
func (t Type) Composite() bool { return t >= Summary }

// Families are parsed metric families. They can be used for one commit only, and by
// one goroutine at a time.
type Families struct {
	List       []*RawFamily
	ByName     map[string]*RawFamily
	Directives []Directive
	timestamp  int    // line of the first sample that carries a timestamp; 0 if none does
	stamped    string // the name of that sample
	stamp      string // its timestamp
	series     int

	units, points []rawLine    // until they are assigned to families
	issue         *SyntaxError // an ignored line of a file
}

// Series returns the number of samples.
func (f *Families) Series() int { return f.series }

// Has reports whether a family of that name is among them.
func (f *Families) Has(name string) bool { return f.ByName[name] != nil }

// RawFamily is one metric family as read.
type RawFamily struct {
	Name     string
	help     string
	Typ      Type
	helpSeen bool
	Samples  []Sample
	unit     string
	suffix   string     // of the names of its samples, in OpenMetrics
	gauge    bool       // its type is gaugehistogram; Typ is Histogram
	gcount   bool       // its samples end in _gcount and _gsum
	start    time.Time  // of its metrics without one of their own
	points   []rawPoint // data of its metrics that the text format lacks
}

// kind returns the type as a TYPE line of OpenMetrics states it.
func (f *RawFamily) kind() string {
	if f.gauge {
		return "gaugehistogram"
	}
	return f.Typ.String()
}

// Sample is one line. Its labels are as written, without the name.
type Sample struct {
	Name   string
	Labels []Label
	Value  float64
	line   int
}

// Directive is a comment line "# promspool:KEY TEXT".
type Directive struct {
	Key, Text string
}

// A directive begins with DirectivePrefix. GroupDirective is the key of the one with
// the group of a file.
const (
	DirectivePrefix = "# promspool:"
	GroupDirective  = "group"
)

// FamilyAt returns the family of the sample in that line, or "".
func (f *Families) FamilyAt(line int) string {
	for _, fam := range f.List {
		if slices.ContainsFunc(fam.Samples, func(s Sample) bool { return s.line == line }) {
			return fam.Name
		}
	}
	return ""
}

// LineOf returns the line of a series of a family, or the family's first.
func (f *Families) LineOf(family, series string) int {
	fam := f.ByName[family]
	if fam == nil {
		return 0
	}
	for i := range fam.Samples {
		c := canonicalizer{lenient: true}
		if series != "" && c.add(fam, &fam.Samples[i]) == nil {
			if c.write(fam, &c.records[0]); SeriesOf(string(c.text)) == series {
				return fam.Samples[i].line
			}
		}
	}
	return fam.Samples[0].line
}

// Adds reports whether samples of the type can be added up. For a summary that
// holds for its sum and count only.
func (t Type) Adds() bool { return t == Counter || t.Composite() }

// NoFamilies returns an empty set of families.
func NoFamilies() *Families { return &Families{ByName: map[string]*RawFamily{}} }

// SetStart sets the start time of counters, histograms and summaries that have none,
// in the families for which is returns true.
func (f *Families) SetStart(at time.Time, is func(name string) bool) {
	for _, fam := range f.List {
		if (fam.Typ == Counter || fam.Typ.Composite()) && is(fam.Name) {
			fam.start = at
		}
	}
}

// Single is a family of one sample without labels.
type Single struct {
	Name, Help string
	Value      float64
}

// Gauges returns families of one sample each.
func Gauges(list ...Single) *Families {
	f := NoFamilies()
	for _, g := range list {
		r := &RawFamily{Name: g.Name, help: g.Help, Typ: Gauge, Samples: []Sample{{Name: g.Name, Value: g.Value}}}
		f.List, f.ByName[g.Name] = append(f.List, r), r
	}
	return f
}

// A Label is one label of a series or of a grouping key.
type Label struct{ Name, Value string }
