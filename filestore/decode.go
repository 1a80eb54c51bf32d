package filestore

import (
	"iter"
	"strings"
)

// A Family is a metric family of one file, taken apart for display.
type Family struct {
	Name    string
	Help    string
	Type    Type
	Metrics []Metric
}

// A Metric is one metric of a Family: one sample, or the samples of one
// histogram or summary.
type Metric struct {
	Labels []Label // without le and quantile, by name
	Value  float64 // of a counter, gauge or untyped metric
	Count  float64 // of a histogram or summary
	Sum    float64
	Bounds []Bound // the buckets or quantiles, ascending
}

// A Bound is one bucket of a histogram or one quantile of a summary.
type Bound struct {
	Bound float64 // upper bound, or quantile
	Value float64 // cumulative count, or value
}

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

func decodeFamily(d desc, text string) Family {
	f := Family{Name: d.name, Help: d.help, Type: d.typ}
	eachMetric(d, text, func(_ []byte, lines string) bool {
		f.Metrics = append(f.Metrics, decodeMetric(d, lines))
		return true
	})
	return f
}

func decodeMetric(d desc, lines string) Metric {
	var m Metric
	first := true
	for lines != "" {
		var l textLine
		l, lines = cutLine(lines)
		v, _ := parseFloat(l.value)
		bound := ""
		for name, value := range eachLabel(l.labels) {
			switch {
			case name == d.typ.bound():
				bound = unquote(value)
			case first:
				m.Labels = append(m.Labels, Label{unquote(name), unquote(value)})
			}
		}
		first = false
		switch suffix := strings.TrimPrefix(unquote(l.name), d.name); {
		case !d.typ.composite():
			m.Value = v
		case suffix == "_sum":
			m.Sum = v
		case suffix == "_count":
			m.Count = v
		default:
			b, _ := parseFloat(bound)
			m.Bounds = append(m.Bounds, Bound{b, v})
		}
	}
	return m
}
