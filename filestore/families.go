package filestore

import (
	"slices"
)

// A Type is the type of a metric family in the text format.
type Type uint8

// The types. Unstated is that of a family without a TYPE line in a dropped
// file: it contradicts no simple type that another file states.
const (
	Unstated Type = iota
	Untyped
	Counter
	Gauge
	Summary
	Histogram
)

var typeNames = [...]string{"untyped", "untyped", "counter", "gauge", "summary", "histogram"}

// String returns the word that stands in a TYPE line.
func (t Type) String() string { return typeNames[t] }

// bound returns the name of the label that tells the lines of one metric of the
// type apart, or "".
func (t Type) bound() string {
	switch t {
	case Histogram:
		return "le"
	case Summary:
		return "quantile"
	}
	return ""
}

// composite reports whether one metric of the type has several lines.
func (t Type) composite() bool { return t >= Summary }

// Families are metric families as they were read, not yet part of a group or a
// file. They may be used for one commit only and by one goroutine at a time.
type Families struct {
	list       []*rawFamily
	byName     map[string]*rawFamily
	directives []directive
	timestamp  int // line of the first sample that carries a timestamp; 0 if none does
	series     int
}

// Series returns the number of samples.
func (f *Families) Series() int { return f.series }

// Has reports whether a family of that name is among them.
func (f *Families) Has(name string) bool { return f.byName[name] != nil }

// rawFamily is one metric family as read.
type rawFamily struct {
	name     string
	help     string
	typ      Type
	helpSeen bool
	samples  []sample
}

// sample is one line. Its labels are as written, without the name.
type sample struct {
	name   string
	labels []Label
	value  float64
	line   int
}

// directive is a comment line "# promspool:KEY TEXT".
type directive struct {
	key, text string
}

const (
	directivePrefix = "# promspool:"
	groupDirective  = "group"
)

// familyAt returns the family of the sample in that line, or "".
func (f *Families) familyAt(line int) string {
	for _, fam := range f.list {
		if slices.ContainsFunc(fam.samples, func(s sample) bool { return s.line == line }) {
			return fam.name
		}
	}
	return ""
}

// lineOf returns the line of a series of a family, or the family's first.
func (f *Families) lineOf(family, series string) int {
	fam := f.byName[family]
	if fam == nil {
		return 0
	}
	for i := range fam.samples {
		c := canonicalizer{lenient: true}
		if series != "" && c.add(fam, &fam.samples[i]) == nil {
			if c.write(fam, &c.records[0]); seriesOf(string(c.text)) == series {
				return fam.samples[i].line
			}
		}
	}
	return fam.samples[0].line
}

// adds reports whether samples of the type can be added up. Of a summary that
// goes for its sum and count only.
func (t Type) adds() bool { return t == Counter || t.composite() }

// noFamilies returns families that are none.
func noFamilies() *Families { return &Families{byName: map[string]*rawFamily{}} }

// gauge is a family of one sample without labels.
type gauge struct {
	name, help string
	value      float64
}

// gauges returns families of one sample each.
func gauges(list ...gauge) *Families {
	f := noFamilies()
	for _, g := range list {
		r := &rawFamily{name: g.name, help: g.help, typ: Gauge, samples: []sample{{name: g.name, value: g.value}}}
		f.list, f.byName[g.name] = append(f.list, r), r
	}
	return f
}
