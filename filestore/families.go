package filestore

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
