package exposition

import (
	"errors"
	"maps"
	"math"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// AddExtras returns the Extra of the sum of two parts, whose text has been added up
// already. The sum has the start time of the older part and the exemplars of the
// newer one. Native histograms are added up if they have the same schema. If only
// one of two has native buckets, the sum has none, because they would not match the
// text.
func AddExtras(d Desc, sum string, fresh, old Part) (string, error) {
	if fresh.Extra == "" && old.Extra == "" {
		return "", nil
	}
	var w Wire
	news, olds := w.readExtra(d, fresh.Extra), w.readExtra(d, old.Extra)
	inNew, inOld := basesOf(d, fresh.Text), basesOf(d, old.Text)
	var b []byte
	if w.Unit != "" {
		b = append(append(append(AppendName(append(b, unitPrefix...), d.Name), ' '), w.Unit...), '\n')
	}
	var err error
	EachMetric(d, sum, func(key []byte, lines string) bool {
		base := string(key)
		p, o := news[base], olds[base]
		switch {
		case !inNew[base]:
			p = o
		case inOld[base] && (p != nil || o != nil):
			p, err = addPoints(d, DecodeMetric(d, lines), p, o)
		}
		if err != nil || p == nil {
			return err == nil
		}
		b = append(b, om2Prefix...)
		b, err = appendPoint(b, d.Name, base, p.toMetric(d.Typ))
		return err == nil
	})
	return string(b), err
}

func basesOf(d Desc, text string) map[string]bool {
	bases := map[string]bool{}
	EachMetric(d, text, func(base []byte, _ string) bool {
		bases[string(base)] = true
		return true
	})
	return bases
}

// addPoints returns the point of the sum m of two metrics. At most one of the two
// points is nil.
func addPoints(d Desc, m Metric, fresh, old *point) (*point, error) {
	p := &point{name: d.Name, value: m.Value}
	if old != nil {
		p.start, p.exemplars = old.start, old.exemplars
	}
	if fresh != nil && len(fresh.exemplars) > 0 {
		p.exemplars = fresh.exemplars
	}
	if !d.Typ.Composite() {
		if p.start == nil && len(p.exemplars) == 0 {
			return nil, nil
		}
		return p, nil
	}
	p.composite = true
	p.h = &dto.Histogram{SampleSum: &m.Sum}
	both := fresh != nil && old != nil
	native := func(p *point) bool { return p != nil && p.h.Schema != nil }
	natives := native(fresh) && native(old)
	if natives && isFloat(fresh.h) != isFloat(old.h) {
		return nil, errors.New("has counts that are whole numbers in one of the two only")
	}
	var exact uint64 // the sum in integers, which may have more digits than the text
	if both && !isFloat(fresh.h) && !isFloat(old.h) {
		exact = fresh.h.GetSampleCount() + old.h.GetSampleCount()
	}
	switch agree := exact > 0 && agrees(float64(exact), m.Count); {
	case natives && !isFloat(fresh.h) && !agree && m.Count != 0:
		return nil, errors.New("has a count that gets too large")
	case natives && !isFloat(fresh.h), agree && wholeBuckets(d, m):
		p.h.SampleCount = &exact
	case !natives && isWhole(m.Count) && wholeBuckets(d, m):
		p.h.SampleCount = proto.Uint64(wholeCount(m.Count))
	default:
		p.h.SampleCountFloat = &m.Count
	}
	switch {
	case fresh != nil && fresh.gauge || old != nil && old.gauge:
		return nil, errors.New("is a histogram of gauges, which do not add up")
	case native(fresh) != native(old):
		return nil, errors.New("has native buckets in one of the two only")
	case native(fresh):
		p.classic = fresh.classic || old.classic
		if err := addNative(p.h, fresh.h, old.h); err != nil {
			return nil, err
		}
	case p.start == nil && len(p.exemplars) == 0:
		return nil, nil
	}
	if _, ok := countable(p.h); !ok {
		return nil, errors.New("has a count that gets too large or is not a number")
	}
	return p, nil
}

// wholeBuckets reports whether the buckets of a histogram have integer counts. It is true
// for a summary.
func wholeBuckets(d Desc, m Metric) bool {
	return d.Typ != Histogram || !slices.ContainsFunc(m.Bounds, func(b Bound) bool { return !isWhole(b.Value) })
}

// addNative sets the native part of h to the sum of those of two histograms.
func addNative(h, a, b *dto.Histogram) error {
	if a.GetSchema() != b.GetSchema() || a.GetZeroThreshold() != b.GetZeroThreshold() {
		return errors.New("has native buckets of another schema or zero_threshold than the group holds")
	}
	h.Schema, h.ZeroThreshold = a.Schema, a.ZeroThreshold
	if isFloat(a) {
		h.ZeroCountFloat = proto.Float64(a.GetZeroCountFloat() + b.GetZeroCountFloat())
	} else {
		h.ZeroCount = proto.Uint64(a.GetZeroCount() + b.GetZeroCount())
	}
	var err1, err2 error
	h.PositiveSpan, h.PositiveDelta, h.PositiveCount, err1 = addSides(isFloat(a), a.PositiveSpan, a.PositiveDelta, a.PositiveCount, b.PositiveSpan, b.PositiveDelta, b.PositiveCount)
	h.NegativeSpan, h.NegativeDelta, h.NegativeCount, err2 = addSides(isFloat(a), a.NegativeSpan, a.NegativeDelta, a.NegativeCount, b.NegativeSpan, b.NegativeDelta, b.NegativeCount)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if n := len(h.PositiveDelta) + len(h.PositiveCount) + len(h.NegativeDelta) + len(h.NegativeCount); n > FileLimits.Buckets {
		return errors.New("has " + FileLimits.buckets())
	}
	markNative(h)
	return checkNative(h)
}

func addSides(float bool, aSpans []*dto.BucketSpan, aDeltas []int64, aCounts []float64, bSpans []*dto.BucketSpan, bDeltas []int64, bCounts []float64) (spans []*dto.BucketSpan, deltas []int64, counts []float64, err error) {
	whole, fractions := map[int64]int64{}, map[int64]float64{}
	add := func(spans []*dto.BucketSpan, deltas []int64, counts []float64) {
		index, last := int64(0), int64(0)
		for _, s := range spans {
			index += int64(s.GetOffset())
			for range s.GetLength() {
				if float {
					fractions[index] += counts[0]
					counts = counts[1:]
				} else {
					last += deltas[0]
					deltas = deltas[1:]
					if whole[index] > math.MaxInt64-last {
						err = errors.New("has a bucket that gets too large")
						return
					}
					whole[index] += last
				}
				index++
			}
		}
	}
	add(aSpans, aDeltas, aCounts)
	add(bSpans, bDeltas, bCounts)
	indexes := slices.Sorted(maps.Keys(whole))
	if float {
		indexes = slices.Sorted(maps.Keys(fractions))
	}
	next, last := int64(0), int64(0)
	for i, index := range indexes {
		if i == 0 || index != next {
			spans = append(spans, &dto.BucketSpan{Offset: proto.Int32(int32(index - next)), Length: proto.Uint32(0)})
		}
		*spans[len(spans)-1].Length++
		if float {
			counts = append(counts, fractions[index])
		} else {
			deltas = append(deltas, whole[index]-last)
			last = whole[index]
		}
		next = index + 1
	}
	return spans, deltas, counts, err
}
