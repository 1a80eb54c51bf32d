package exposition

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// appendPoint appends the sample of a metric in OpenMetrics 2.0, with the name and
// the labels in braces. Values that the standard rejects without need, such as a NaN
// counter, are written as well.
func appendPoint(b []byte, name, labels string, m *dto.Metric) ([]byte, error) {
	if PlainName(name) {
		b = append(append(b, name...), labels...)
	} else {
		b = append(b, '{')
		b = appendQuoted(b, name)
		if labels != "" {
			b = append(b, ',')
			b = append(b, labels[1:]...)
		} else {
			b = append(b, '}')
		}
	}
	b = append(b, ' ')
	value, err := valueOf(m)
	if err != nil {
		return b, err
	}
	b = append(b, value...)
	for _, e := range exemplarsOf(m) {
		b = append(b, " # "...)
		pairs := make([]Label, 0, len(e.Label))
		for _, l := range e.Label {
			pairs = append(pairs, Label{l.GetName(), l.GetValue()})
		}
		b = AppendLabels(b, pairs)
		b = append(b, ' ')
		b = appendReal(b, e.GetValue())
		if e.Timestamp != nil {
			b = append(b, ' ')
			b = appendTimestamp(b, e.Timestamp)
		}
	}
	return append(b, '\n'), nil
}

// valueOf returns the value and the start time.
func valueOf(m *dto.Metric) ([]byte, error) {
	const name = "x"
	f := &dto.MetricFamily{Name: proto.String(name), Metric: []*dto.Metric{{Counter: m.Counter, Summary: m.Summary, Histogram: m.Histogram}}}
	var start *timestamppb.Timestamp
	native := false
	switch {
	case m.Counter != nil:
		f.Type, start = dto.MetricType_COUNTER.Enum(), m.Counter.CreatedTimestamp
	case m.Summary != nil:
		f.Type, start = dto.MetricType_SUMMARY.Enum(), m.Summary.CreatedTimestamp
	case m.Gauge != nil: // marks a gauge histogram
		f.Type, native = dto.MetricType_GAUGE_HISTOGRAM.Enum(), m.Histogram.Schema != nil
	default:
		f.Type, start, native = dto.MetricType_HISTOGRAM.Enum(), m.Histogram.CreatedTimestamp, m.Histogram.Schema != nil
	}
	var out bytes.Buffer
	_, err := expfmt.MetricFamilyToOpenMetrics20(&out, f)
	floatSummary := m.Summary != nil && m.Histogram != nil
	if err == nil && !floatSummary {
		text := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
		text = text[bytes.LastIndexByte(text, '\n')+1+len(name)+1:]
		if i := bytes.Index(text, []byte(" # ")); i >= 0 { // exemplars; some are omitted
			text = text[:i]
		}
		if m.Histogram != nil && isFloat(m.Histogram) { // an integer count would mean that all counts are integers
			if i, j := bytes.IndexByte(text, ':')+1, bytes.IndexByte(text, ','); j > i && areDigits(string(text[i:j])) {
				text = slices.Concat(text[:j], []byte(".0"), text[j:])
			}
		}
		return text, nil
	}
	if native {
		return nil, errors.New(strings.TrimSuffix(strings.TrimSuffix(err.Error(), " in metric "+name), name))
	}
	var b []byte
	switch {
	case m.Counter != nil:
		b = appendReal(b, m.Counter.GetValue())
	case m.Summary != nil:
		b = append(b, "{count:"...)
		if floatSummary {
			b = appendReal(b, m.Histogram.GetSampleCountFloat())
		} else {
			b = strconv.AppendUint(b, m.Summary.GetSampleCount(), 10)
		}
		b = append(b, ",sum:"...)
		b = AppendValue(b, m.Summary.GetSampleSum())
		b = append(b, ",quantile:[]}"...)
	default:
		g := ""
		if m.Gauge != nil {
			g = "g"
		}
		b = append(b, "{"+g+"count:"...)
		if isFloat(m.Histogram) {
			b = appendReal(b, m.Histogram.GetSampleCountFloat())
		} else {
			b = strconv.AppendUint(b, m.Histogram.GetSampleCount(), 10)
		}
		b = append(b, ","+g+"sum:"...)
		b = AppendValue(b, m.Histogram.GetSampleSum())
		b = append(b, ",bucket:[]}"...)
	}
	if start != nil {
		b = append(b, " st@"...)
		b = appendTimestamp(b, start)
	}
	return b, nil
}

// appendReal appends a number with a decimal point or exponent, as the standard
// requires for samples and exemplars.
func appendReal(b []byte, v float64) []byte {
	n := len(b)
	if b = AppendValue(b, v); !bytes.ContainsAny(b[n:], ".eNI") {
		b = append(b, ".0"...)
	}
	return b
}

// appendTimestamp appends Unix time in seconds.
func appendTimestamp(b []byte, t *timestamppb.Timestamp) []byte {
	sec, nanos := t.GetSeconds(), int64(t.GetNanos())
	if sec < 0 && nanos > 0 {
		sec, nanos = sec+1, 1e9-nanos
		if sec == 0 {
			b = append(b, '-')
		}
	}
	b = strconv.AppendInt(b, sec, 10)
	if nanos == 0 {
		return b
	}
	fraction := strconv.FormatInt(1e9+nanos, 10)[1:]
	return append(append(b, '.'), strings.TrimRight(fraction, "0")...)
}

// exemplarsOf returns the exemplars of a metric, those of classic buckets first.
func exemplarsOf(m *dto.Metric) (list []*dto.Exemplar) {
	if m.Counter.GetExemplar() != nil {
		list = append(list, m.Counter.Exemplar)
	}
	for _, b := range m.Histogram.GetBucket() {
		if b.GetExemplar() != nil {
			list = append(list, b.Exemplar)
		}
	}
	for _, e := range m.Histogram.GetExemplars() {
		if e != nil && !slices.ContainsFunc(list, func(o *dto.Exemplar) bool { return sameExemplar(o, e) }) {
			list = append(list, e)
		}
	}
	return list
}

// isCount reports whether a value is a number of observations.
func isCount(v float64) bool { return v >= 0 && !math.IsInf(v, 1) }

// invalidCount is the error for a value that is no number of observations, and withExtra
// follows the type in it if only the data in an om2 line forbids the value.
const (
	invalidCount = "invalid value %s of a bucket or count of a %s: counts must be zero or more, and finite"
	withExtra    = " with an exemplar or start time"
)

// countable reports whether the count and the buckets of a histogram are numbers of
// observations. If not, it returns the first one that is none.
func countable(h *dto.Histogram) (float64, bool) {
	if v := countOf(h); !isCount(v) {
		return v, false
	}
	for _, b := range h.Bucket {
		if v := bucketCount(b); !isCount(v) {
			return v, false
		}
	}
	return 0, true
}

// bucketCount returns the cumulative count of a classic bucket.
func bucketCount(b *dto.Bucket) float64 {
	if b.CumulativeCountFloat != nil && (b.CumulativeCount == nil || b.GetCumulativeCountFloat() > 0) {
		return b.GetCumulativeCountFloat()
	}
	return float64(b.GetCumulativeCount())
}

// sameExemplar reports whether two exemplars are written as the same text. Fields that
// this version does not know are ignored.
func sameExemplar(a, b *dto.Exemplar) bool {
	return a.GetValue() == b.GetValue() && (a.Timestamp == nil) == (b.Timestamp == nil) &&
		a.GetTimestamp().GetSeconds() == b.GetTimestamp().GetSeconds() && a.GetTimestamp().GetNanos() == b.GetTimestamp().GetNanos() &&
		slices.EqualFunc(a.Label, b.Label, func(a, b *dto.LabelPair) bool {
			return a.GetName() == b.GetName() && a.GetValue() == b.GetValue()
		})
}

// toMetric returns the metric of a point in protobuf.
func (p *point) toMetric(t Type) *dto.Metric {
	m := new(dto.Metric)
	switch t {
	case Counter:
		m.Counter = &dto.Counter{Value: &p.value, CreatedTimestamp: p.start}
		if len(p.exemplars) > 0 {
			m.Counter.Exemplar = p.exemplars[0]
		}
	case Summary:
		m.Summary = &dto.Summary{SampleCount: p.h.SampleCount, SampleSum: p.h.SampleSum, CreatedTimestamp: p.start}
		if isFloat(p.h) { // a Summary cannot hold the count
			m.Histogram = &dto.Histogram{SampleCountFloat: p.h.SampleCountFloat}
		}
	default:
		if p.gauge {
			m.Gauge = new(dto.Gauge)
		}
		m.Histogram = proto.Clone(p.h).(*dto.Histogram)
		m.Histogram.CreatedTimestamp, m.Histogram.Exemplars = p.start, p.exemplars
		if len(m.Histogram.Bucket) == 0 && (p.classic || p.h.Schema == nil) {
			m.Histogram.Bucket = []*dto.Bucket{{UpperBound: proto.Float64(math.Inf(1)), CumulativeCount: p.h.SampleCount, CumulativeCountFloat: p.h.SampleCountFloat}}
		}
	}
	return m
}

// point returns the data of a protobuf metric that the text format lacks, nil if
// there is none.
func (c *converter) point(f *RawFamily, m *dto.Metric, gauge bool) (*dto.Metric, error) {
	var start *timestamppb.Timestamp
	more := &dto.Metric{}
	switch f.Typ {
	case Counter:
		start = m.Counter.GetCreatedTimestamp()
		if more.Counter = m.Counter; start == nil && m.Counter.GetExemplar() == nil {
			return nil, nil
		}
	case Summary:
		if start = m.Summary.GetCreatedTimestamp(); start == nil {
			return nil, nil
		}
		more.Summary = m.Summary
	case Histogram:
		start = m.Histogram.GetCreatedTimestamp()
		more.Histogram = m.Histogram
		if gauge {
			more.Gauge = new(dto.Gauge)
		}
		if err := c.native(f, m.Histogram); err != nil {
			return nil, err
		}
	default:
		return nil, nil
	}
	if start != nil && start.CheckValid() != nil {
		return nil, wrong(Syntax, f.Name, "a metric has a created timestamp that is out of range")
	}
	list := exemplarsOf(more)
	if h := more.Histogram; h != nil && !gauge && start == nil && len(list) == 0 && h.Schema == nil {
		return nil, nil
	}
	if h := more.Histogram; h != nil {
		if v, ok := countable(h); !ok {
			kind := f.Typ.String()
			if gauge {
				kind = "gaugehistogram"
			} else if h.Schema == nil {
				kind += withExtra
			}
			return nil, wrong(Syntax, f.Name, invalidCount, token(floatText(v)), kind)
		}
	}
	if len(list) > c.limits.maxExemplars() {
		return nil, refuse(TooLarge, f.Name, "%s", "a metric has "+c.limits.exemplars())
	}
	for _, e := range list {
		if err := c.exemplar(f, e); err != nil {
			return nil, err
		}
	}
	return more, nil
}

// native checks the native part of a histogram.
func (c *converter) native(f *RawFamily, h *dto.Histogram) error {
	n := len(h.PositiveDelta) + len(h.PositiveCount) + len(h.NegativeDelta) + len(h.NegativeCount)
	if h.Schema == nil {
		if n == 0 && len(h.PositiveSpan) == 0 && len(h.NegativeSpan) == 0 {
			return nil
		}
		h.Schema = proto.Int32(0)
	}
	if max(n, len(h.PositiveSpan)+len(h.NegativeSpan)) > c.limits.maxBuckets() {
		return refuse(TooLarge, f.Name, "%s", "a histogram has "+c.limits.buckets())
	}
	if isFloat(h) != (h.ZeroCountFloat != nil && (h.ZeroCount == nil || h.GetZeroCountFloat() > 0)) {
		if isFloat(h) {
			h.ZeroCountFloat = proto.Float64(float64(h.GetZeroCount()))
		} else if h.GetZeroCountFloat() != 0 {
			return wrong(Syntax, f.Name, "a native histogram has a whole count and a zero_count that is a float")
		} else {
			h.ZeroCountFloat = nil
		}
	}
	if err := checkNative(h); err != nil {
		return wrong(Syntax, f.Name, "%s", "a native histogram "+err.Error())
	}
	markNative(h)
	return nil
}

func (c *converter) exemplar(f *RawFamily, e *dto.Exemplar) error {
	if e.Timestamp != nil && e.Timestamp.CheckValid() != nil {
		return wrong(Syntax, f.Name, "an exemplar has a time that is out of range")
	}
	for i, l := range e.Label {
		n, v := l.GetName(), l.GetValue()
		switch {
		case n == "":
			return wrong(Syntax, f.Name, "an exemplar has a label without a name")
		case !utf8.ValidString(n) || !utf8.ValidString(v) || strings.IndexByte(n, 0) >= 0 || strings.IndexByte(v, 0) >= 0:
			return refuse(Encoding, f.Name, "a label of an exemplar is not UTF-8 text")
		case strings.HasPrefix(n, "__"):
			return wrong(Reserved, f.Name, "an exemplar has a label name that begins with two underscores, which is reserved")
		case c.limits.LabelName > 0 && len(n) > c.limits.LabelName:
			return refuse(TooLarge, f.Name, "%s", "a label name of an exemplar is "+c.limits.nameBytes())
		case c.limits.LabelValue > 0 && len(v) > c.limits.LabelValue:
			return refuse(TooLarge, f.Name, "%s", "a label value of an exemplar is "+c.limits.valueBytes())
		case c.limits.Labels > 0 && i >= c.limits.Labels:
			return refuse(TooLarge, f.Name, "%s", "an exemplar has "+c.limits.labels())
		case slices.ContainsFunc(e.Label[:i], func(o *dto.LabelPair) bool { return o.GetName() == n }):
			return wrong(Syntax, f.Name, "an exemplar has a label twice")
		}
	}
	return nil
}

// unitOf returns the unit of a family if a UNIT line can hold it.
func unitOf(mf *dto.MetricFamily) (string, error) {
	unit := strings.Trim(mf.GetUnit(), " \t")
	if !utf8.ValidString(unit) || strings.ContainsAny(unit, "\x00\r\n") {
		return "", refuse(Encoding, mf.GetName(), "the unit is not one line of UTF-8 text")
	}
	if len(unit) > MaxUnit {
		return "", refuse(TooLarge, mf.GetName(), longUnit, token(unit), len(unit), MaxUnit)
	}
	return unit, nil
}
