package exposition

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// FromProto converts what was pushed as protobuf. Of two families of one name
// the last counts. What the text format cannot hold (native buckets, exemplars,
// created timestamps, units) is kept beside it, see om2.go. A histogram without
// classic buckets gets the one for +Inf. Errors are of type *SyntaxError; mfs must not
// be used any more.
func FromProto(mfs []*dto.MetricFamily, limits Limits, utf8Names bool) (*Families, error) {
	c := converter{limits: limits, utf8Names: utf8Names}
	c.out.ByName = make(map[string]*RawFamily, len(mfs))
	for _, mf := range mfs {
		if err := c.family(mf); err != nil {
			return nil, err
		}
	}
	if c.timestamp {
		return nil, &SyntaxError{Reason: Timestamp, Decoded: true, Msg: "samples must not have timestamps: Prometheus takes the time of the scrape; push the time as a value of its own instead"}
	}
	return &c.out, nil
}

type converter struct {
	limits    Limits
	utf8Names bool
	timestamp bool
	out       Families
}

// wrong is the error for what was read and cannot be.
func wrong(r Reason, msg string) error { return &SyntaxError{Reason: r, Msg: msg, Decoded: true} }

func refuse(r Reason, msg string) error { return &SyntaxError{Reason: r, Msg: msg} }

func (c *converter) family(mf *dto.MetricFamily) error {
	name := mf.GetName()
	switch {
	case name == "":
		return refuse(Syntax, "a metric family has no name")
	case !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0:
		return refuse(Encoding, "the name of a metric family is not UTF-8 text")
	case !c.utf8Names && !model.LegacyValidation.IsValidMetricName(name):
		return refuse(Syntax, "the metric name is not [a-zA-Z_:][a-zA-Z0-9_:]*, and other names are not switched on")
	case !utf8.ValidString(mf.GetHelp()) || strings.IndexByte(mf.GetHelp(), 0) >= 0:
		return refuse(Encoding, "the HELP text of family "+name+" is not UTF-8 text")
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
		return refuse(Syntax, "family "+name+" has a type that is not known")
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
		*old = *f // in its place: there may be very many
	} else {
		c.out.ByName[name] = f
		c.out.List = append(c.out.List, f)
	}
	if c.limits.Series > 0 && len(c.out.List) > c.limits.Series {
		return refuse(TooLarge, c.limits.samples())
	}
	return nil
}

func (c *converter) metric(f *RawFamily, m *dto.Metric, gauge bool) error {
	labels := make([]Label, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		n, v := l.GetName(), l.GetValue()
		switch {
		case n == "":
			return wrong(Syntax, "a label of family "+f.Name+" has no name")
		case !utf8.ValidString(n) || !utf8.ValidString(v) || strings.IndexByte(n, 0) >= 0 || strings.IndexByte(v, 0) >= 0:
			return refuse(Encoding, "a label of family "+f.Name+" is not UTF-8 text")
		case strings.HasPrefix(n, "__"):
			return wrong(Reserved, "a label name begins with two underscores, which is reserved")
		case !c.utf8Names && !model.LegacyValidation.IsValidLabelName(n):
			return refuse(Syntax, "a label name is not [a-zA-Z_][a-zA-Z0-9_]*, and other names are not switched on")
		case c.limits.LabelName > 0 && len(n) > c.limits.LabelName:
			return refuse(TooLarge, "a label name of family "+f.Name+" is "+c.limits.nameBytes())
		case c.limits.LabelValue > 0 && len(v) > c.limits.LabelValue:
			return refuse(TooLarge, "a label value of family "+f.Name+" is "+c.limits.valueBytes())
		case slices.ContainsFunc(labels, func(l Label) bool { return l.Name == n }):
			return wrong(Syntax, "a label of family "+f.Name+" is given twice")
		}
		labels = append(labels, Label{n, v})
		if c.limits.Labels > 0 && len(labels) > c.limits.Labels {
			return refuse(TooLarge, "a sample of family "+f.Name+" has "+c.limits.labels())
		}
	}
	if m.TimestampMs != nil {
		c.timestamp = true
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
			n := float64(b.GetCumulativeCount())
			if b.CumulativeCountFloat != nil && b.GetCumulativeCountFloat() > 0 {
				n = b.GetCumulativeCountFloat()
			}
			inf = inf || math.IsInf(b.GetUpperBound(), 1)
			add(f.Name+"_bucket", n, Label{"le", floatText(b.GetUpperBound())})
		}
		if !inf {
			add(f.Name+"_bucket", count, Label{"le", "+Inf"})
		}
		add(f.Name+"_sum", h.GetSampleSum())
		add(f.Name+"_count", count)
	}
	if mismatch {
		return wrong(Syntax, "a metric of family "+f.Name+" has no value of the family's type")
	}
	more, err := c.point(f, m, gauge)
	if err != nil {
		return err
	}
	if more != nil {
		f.points = append(f.points, rawPoint{point: point{labels: labels}, metric: more})
	}
	if c.limits.Series > 0 && c.out.series > c.limits.Series {
		return refuse(TooLarge, c.limits.samples())
	}
	return nil
}

func floatText(v float64) string { return string(AppendValue(nil, v)) }
