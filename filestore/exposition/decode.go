package exposition

import (
	"math"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// A Family is a decoded metric family of one file, for display.
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

	Native []NativeBucket // not nil for a native histogram
}

// A Bound is one bucket of a histogram or one quantile of a summary.
type Bound struct {
	Bound float64 // upper bound, or quantile
	Value float64 // cumulative count, or value
}

// DecodeFamily decodes the canonical text of a family.
func DecodeFamily(d Desc, text string) Family {
	f := Family{Name: d.Name, Help: d.Help, Type: d.Typ}
	EachMetric(d, text, func(_ []byte, lines string) bool {
		f.Metrics = append(f.Metrics, DecodeMetric(d, lines))
		return true
	})
	return f
}

// DecodeMetric decodes the canonical lines of one metric.
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

// A NativeBucket is one bucket of a native histogram that is not empty.
type NativeBucket struct {
	Lower, Upper float64
	LowerIn      bool // the bound is in the bucket
	UpperIn      bool
	Count        float64
}

// DecodeNative returns the buckets of the native histograms of a part, ascending.
// The key is the labels of the identity in braces.
func DecodeNative(d Desc, extra string) map[string][]NativeBucket {
	if extra == "" || d.Typ != Histogram {
		return nil
	}
	var w Wire
	natives := map[string][]NativeBucket{}
	for base, p := range w.readExtra(d, extra) {
		if p.h.Schema != nil {
			natives[base] = nativeBuckets(p.h)
		}
	}
	return natives
}

func nativeBuckets(h *dto.Histogram) []NativeBucket {
	list := []NativeBucket{}
	eachBucket(h.NegativeSpan, h.NegativeDelta, h.NegativeCount, func(index int64, count float64) {
		list = append(list, NativeBucket{Lower: -nativeBound(h.GetSchema(), index), Upper: -nativeBound(h.GetSchema(), index-1), LowerIn: true, Count: count})
	})
	slices.Reverse(list)
	zero := h.GetZeroCountFloat()
	if !isFloat(h) {
		zero = float64(h.GetZeroCount())
	}
	if zero > 0 {
		list = append(list, NativeBucket{Lower: -h.GetZeroThreshold(), Upper: h.GetZeroThreshold(), LowerIn: true, UpperIn: true, Count: zero})
	}
	eachBucket(h.PositiveSpan, h.PositiveDelta, h.PositiveCount, func(index int64, count float64) {
		list = append(list, NativeBucket{Lower: nativeBound(h.GetSchema(), index-1), Upper: nativeBound(h.GetSchema(), index), UpperIn: true, Count: count})
	})
	return list
}

// eachBucket calls yield for the buckets of one side that are not empty.
func eachBucket(spans []*dto.BucketSpan, deltas []int64, counts []float64, yield func(index int64, count float64)) {
	index, last, n := int64(0), int64(0), 0
	for _, s := range spans {
		index += int64(s.GetOffset())
		for range s.GetLength() {
			count := 0.0
			if n < len(counts) {
				count = counts[n]
			} else if n < len(deltas) {
				last += deltas[n]
				count = float64(last)
			}
			if n++; count != 0 {
				yield(index, count)
			}
			index++
		}
	}
}

// nativeBound returns the upper bound of a positive bucket.
func nativeBound(schema int32, index int64) float64 {
	if schema <= 0 {
		exponent := index << -schema
		if exponent >= 1024 {
			return math.Inf(1)
		}
		return math.Ldexp(1, int(max(exponent, -1100)))
	}
	exponent, fraction := index>>schema, index&(1<<schema-1)
	if exponent >= 1024 {
		return math.Inf(1)
	}
	return math.Ldexp(math.Exp2(float64(fraction)/float64(int64(1)<<schema)), int(max(exponent, -1100)))
}
