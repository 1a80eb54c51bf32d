package filestore

import (
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
