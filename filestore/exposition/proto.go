package exposition

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// FromProto converts a push in protobuf. The last of several families of one name is
// used. Data that the text format lacks (native buckets, exemplars, created
// timestamps, units) is kept in comments, see om2.go. A histogram without classic
// buckets gets the +Inf bucket. Errors are of type *SyntaxError. The caller must not
// use mfs any more.
func FromProto(mfs []*dto.MetricFamily, limits Limits, utf8Names bool) (*Families, error) {
	c := converter{limits: limits, utf8Names: utf8Names}
	c.out.ByName = make(map[string]*RawFamily, len(mfs))
	for i, mf := range mfs {
		c.number = i + 1
		if err := c.family(mf); err != nil {
			e := err.(*SyntaxError)
			if more := c.faults.add(e); !more || e.Reason == TooLarge {
				break
			}
		}
	}
	if c.timestamp != "" {
		e := fault(0, Timestamp, "family", c.timestamp, "invalid timestamp %s: "+timestampMsg, token(strconv.FormatInt(c.stamp, 10)))
		e.Decoded = true
		c.faults.add(e)
	}
	if err := c.faults.err(); err != nil {
		return nil, err
	}
	return &c.out, nil
}

type converter struct {
	limits    Limits
	utf8Names bool
	timestamp string // the first family that has one
	stamp     int64
	faults    faults
	number    int // of the family in the body
	out       Families
}

// wrong returns the error for metrics that were decoded and are invalid. The family
// may be empty.
func wrong(r Reason, family, format string, args ...any) error {
	e := fault(0, r, "family", family, format, args...)
	e.Decoded = true
	return e
}

// refuse returns the error for a body that no program could decode.
func refuse(r Reason, family, format string, args ...any) error {
	return fault(0, r, "family", family, format, args...)
}

func (c *converter) family(mf *dto.MetricFamily) error {
	name := mf.GetName()
	switch {
	case name == "":
		return refuse(Syntax, "", "metric family %d of the body has no name: give it one", c.number)
	case !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0:
		return refuse(Encoding, "", "the name %s of a metric family is not UTF-8 text: convert it", token(name))
	case !c.utf8Names && !model.LegacyValidation.IsValidMetricName(name):
		return refuse(Syntax, "", "invalid metric name %s: use letters, digits, underscores and colons, and no digit first", token(name))
	case !utf8.ValidString(mf.GetHelp()) || strings.IndexByte(mf.GetHelp(), 0) >= 0:
		return refuse(Encoding, name, "the HELP text is not UTF-8 text: convert it")
	case len(mf.GetHelp()) > MaxHelp:
		return refuse(TooLarge, name, "the HELP text has %d bytes, and the limit is %d: shorten it", len(mf.GetHelp()), MaxHelp)
	}
	f := &RawFamily{Name: name, help: mf.GetHelp(), helpSeen: mf.Help != nil}
	switch mf.GetType() {
	case dto.MetricType_COUNTER:
		f.Typ = Counter
	case dto.MetricType_GAUGE:
		f.Typ = Gauge
	case dto.MetricType_UNTYPED:
		f.Typ = Untyped
	case dto.MetricType_SUMMARY:
		f.Typ = Summary
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		f.Typ = Histogram
	default:
		return refuse(Syntax, name, "unknown type: use one of the types of the client library")
	}
	var err error
	if f.unit, err = unitOf(mf); err != nil {
		return err
	}
	for _, m := range mf.GetMetric() {
		if err := c.metric(f, m, mf.GetType() == dto.MetricType_GAUGE_HISTOGRAM); err != nil {
			return err
		}
	}
	if old := c.out.ByName[name]; old != nil {
		c.out.series -= len(old.Samples)
		*old = *f // in place, as there may be many families
	} else {
		c.out.ByName[name] = f
		c.out.List = append(c.out.List, f)
	}
	if c.limits.Series > 0 && len(c.out.List) > c.limits.Series {
		return refuse(TooLarge, "", "%s", c.limits.samples())
	}
	return nil
}

func (c *converter) metric(f *RawFamily, m *dto.Metric, gauge bool) error {
	labels := make([]Label, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		n, v := l.GetName(), l.GetValue()
		switch {
		case n == "":
			return wrong(Syntax, f.Name, "a label with the value %s has no name: give it one", token(v))
		case !utf8.ValidString(n) || !utf8.ValidString(v) || strings.IndexByte(n, 0) >= 0 || strings.IndexByte(v, 0) >= 0:
			return refuse(Encoding, f.Name, "label %s is not UTF-8 text: convert its name and its value", token(n))
		case strings.HasPrefix(n, "__"):
			return wrong(Reserved, f.Name, "label name %s begins with two underscores, which is reserved: use another name", token(n))
		case !c.utf8Names && !model.LegacyValidation.IsValidLabelName(n):
			return refuse(Syntax, f.Name, "invalid label name %s: %s", token(n), labelRule)
		case c.limits.LabelName > 0 && len(n) > c.limits.LabelName:
			return refuse(TooLarge, f.Name, "label name %s is %s", token(n), c.limits.nameBytes())
		case c.limits.LabelValue > 0 && len(v) > c.limits.LabelValue:
			return refuse(TooLarge, f.Name, "the value of label %s is %s", token(n), c.limits.valueBytes())
		case slices.ContainsFunc(labels, func(l Label) bool { return l.Name == n }):
			return wrong(Syntax, f.Name, "label %s is given twice", token(n))
		}
		labels = append(labels, Label{n, v})
		if c.limits.Labels > 0 && len(labels) > c.limits.Labels {
			return refuse(TooLarge, f.Name, "a sample has %s", c.limits.labels())
		}
	}
	if m.TimestampMs != nil {
		if c.timestamp == "" {
			c.timestamp, c.stamp = f.Name, m.GetTimestampMs()
		}
	}
	add := func(name string, v float64, extra ...Label) {
		c.out.series++
		f.Samples = append(f.Samples, Sample{Name: name, Labels: append(labels[:len(labels):len(labels)], extra...), Value: v})
	}
	mismatch := false
	switch f.Typ {
	case Counter:
		mismatch = m.Counter == nil
		add(f.Name, m.GetCounter().GetValue())
	case Gauge:
		mismatch = m.Gauge == nil
		add(f.Name, m.GetGauge().GetValue())
	case Untyped:
		mismatch = m.Untyped == nil
		add(f.Name, m.GetUntyped().GetValue())
	case Summary:
		mismatch = m.Summary == nil
		for _, q := range m.GetSummary().GetQuantile() {
			add(f.Name, q.GetValue(), Label{"quantile", floatText(q.GetQuantile())})
		}
		add(f.Name+"_sum", m.GetSummary().GetSampleSum())
		add(f.Name+"_count", float64(m.GetSummary().GetSampleCount()))
	case Histogram:
		h := m.Histogram
		if mismatch = h == nil; mismatch {
			break
		}
		count := countOf(h)
		inf := false
		for _, b := range h.Bucket {
			inf = inf || math.IsInf(b.GetUpperBound(), 1)
			add(f.Name+"_bucket", bucketCount(b), Label{"le", floatText(b.GetUpperBound())})
		}
		if !inf {
			add(f.Name+"_bucket", count, Label{"le", "+Inf"})
		}
		add(f.Name+"_sum", h.GetSampleSum())
		add(f.Name+"_count", count)
	}
	if mismatch {
		return wrong(Syntax, f.Name, "a metric has no value of the type %s: set the one of that type", f.Typ)
	}
	more, err := c.point(f, m, gauge)
	if err != nil {
		return err
	}
	if more != nil {
		f.points = append(f.points, rawPoint{point: point{labels: labels}, metric: more})
	}
	if c.limits.Series > 0 && c.out.series > c.limits.Series {
		return refuse(TooLarge, "", "%s", c.limits.samples())
	}
	return nil
}

func floatText(v float64) string { return string(AppendValue(nil, v)) }
