package exposition

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

// DecodeFamily takes the canonical text of a family apart.
func DecodeFamily(d Desc, text string) Family {
	f := Family{Name: d.Name, Help: d.Help, Type: d.Typ}
	EachMetric(d, text, func(_ []byte, lines string) bool {
		f.Metrics = append(f.Metrics, DecodeMetric(d, lines))
		return true
	})
	return f
}

// DecodeMetric takes the canonical lines of one metric apart.
func DecodeMetric(d Desc, lines string) Metric {
	var m Metric
	first := true
	for lines != "" {
		var l textLine
		l, lines = CutLine(lines)
		v, _ := ParseFloat(l.value)
		bound := ""
		for name, value := range EachLabel(l.labels) {
			switch {
			case name == d.Typ.bound():
				bound = Unquote(value)
			case first:
				m.Labels = append(m.Labels, Label{Unquote(name), Unquote(value)})
			}
		}
		first = false
		switch suffix := strings.TrimPrefix(Unquote(l.Name), d.Name); {
		case !d.Typ.Composite():
			m.Value = v
		case suffix == "_sum":
			m.Sum = v
		case suffix == "_count":
			m.Count = v
		default:
			b, _ := ParseFloat(bound)
			m.Bounds = append(m.Bounds, Bound{b, v})
		}
	}
	return m
}
