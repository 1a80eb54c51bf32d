package exposition

import (
	"math"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Field numbers of io.prometheus.client. Plain metrics are encoded by hand, which
// costs a fraction of building messages first.
const (
	familyName   = 1
	familyHelp   = 2
	familyType   = 3
	familyMetric = 4
	familyUnit   = 5

	metricLabel     = 1
	metricGauge     = 2
	metricCounter   = 3
	metricSummary   = 4
	metricUntyped   = 5
	metricHistogram = 7
)

// Wire has some metrics of a family in protobuf.
type Wire struct {
	Metrics []byte // the fields of the metrics, one after the other
	Unit    string // that the part has which was added last
	Count   int    // metrics
	Gauges  int    // gauge histograms among them

	metric, sub, base []byte // scratch
}

// Next begins another family. It overwrites the metrics.
func (w *Wire) Next(kept bool) {
	w.Unit, w.Count, w.Gauges = "", 0, 0
	if w.Metrics = w.Metrics[:0]; kept {
		w.Metrics = nil
	}
}

// Add appends the metrics of a part, given its canonical text and its Extra. Points
// that match no metric are ignored.
func (w *Wire) Add(d Desc, text, extra string) {
	var points map[string]*point
	w.Unit = ""
	if extra != "" {
		points = w.readExtra(d, extra)
	}
	if d.Typ.Composite() {
		EachMetric(d, text, func(base []byte, lines string) bool {
			w.add(d, lines, points[string(base)])
			return true
		})
		return
	}
	for text != "" {
		line, rest := CutLine(text)
		var p *point
		if points != nil {
			w.base = appendIdentity(w.base[:0], d.Typ, line.labels)
			p = points[string(w.base)]
		}
		w.add(d, text[:len(text)-len(rest)], p)
		text = rest
	}
}

func (w *Wire) add(d Desc, lines string, p *point) {
	w.metric, w.sub = appendMetric(w.metric[:0], w.sub[:0], d, lines, p, &w.Gauges)
	w.Metrics = protowire.AppendTag(w.Metrics, familyMetric, protowire.BytesType)
	w.Metrics = protowire.AppendBytes(w.Metrics, w.metric)
	w.Count++
}

// readExtra returns the points of a part by their identity.
func (w *Wire) readExtra(d Desc, extra string) map[string]*point {
	points := map[string]*point{}
	c := canonicalizer{lenient: true}
	for line := range strings.Lines(extra) {
		line = strings.TrimSuffix(line, "\n")
		if unit, ok := strings.CutPrefix(line, unitPrefix); ok {
			p := parser{utf8Names: true, rest: unit}
			if _, err := p.metricName(); err == nil && w.Unit == "" {
				w.Unit = strings.TrimPrefix(p.rest, " ")
			}
			continue
		}
		text, ok := strings.CutPrefix(line, om2Prefix)
		if !ok {
			continue
		}
		p, err := parsePoint(text, Limits{})
		if err != nil || !p.fits(d.Typ) {
			continue
		}
		base, _ := c.base(p.labels)
		points[base] = &p
	}
	return points
}

// ExtraByMetric returns the points in the Extra of a part, by the labels of the
// metric's identity in braces.
func ExtraByMetric(extra string) map[string]string {
	if extra == "" {
		return nil
	}
	more := map[string]string{}
	c := canonicalizer{lenient: true}
	for line := range strings.Lines(extra) {
		text, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), om2Prefix)
		if !ok {
			continue
		}
		if _, labels, rest, err := cutSeries(text, Limits{}); err == nil {
			base, _ := c.base(labels)
			more[base] = rest
		}
	}
	return more
}

func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	b = protowire.AppendTag(b, field, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, math.Float64bits(v))
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	b = protowire.AppendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, s)
}

func appendSub(b []byte, field protowire.Number, sub []byte) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendBytes(b, sub)
}

// appendMetric appends the message of one metric. It uses sub as a buffer for nested
// messages and returns it for reuse.
func appendMetric(b, sub []byte, d Desc, lines string, p *point, gauges *int) (message, scratch []byte) {
	bound := d.Typ.bound()
	line, _ := CutLine(lines)
	for name, value := range EachLabel(line.labels) {
		if bound != "" && name == bound {
			continue
		}
		sub = appendString(appendString(sub[:0], 1, Unquote(name)), 2, Unquote(value))
		b = appendSub(b, metricLabel, sub)
	}
	sub = sub[:0]
	field := protowire.Number(metricUntyped)
	switch d.Typ {
	case Counter:
		v, _ := ParseFloat(line.value)
		sub, field = appendDouble(sub, 1, v), metricCounter
		if p != nil {
			if len(p.exemplars) > 0 {
				sub = appendMessage(sub, 2, p.exemplars[0])
			}
			if p.start != nil {
				sub = appendMessage(sub, 3, p.start)
			}
		}
	case Gauge:
		v, _ := ParseFloat(line.value)
		sub, field = appendDouble(sub, 1, v), metricGauge
	case Summary:
		field = metricSummary
		m := DecodeMetric(d, lines)
		count := wholeCount(m.Count)
		if p != nil && p.h.SampleCount != nil {
			count = p.h.GetSampleCount()
		}
		sub = appendDouble(appendVarint(sub, 1, count), 2, m.Sum)
		for _, q := range m.Bounds {
			var two []byte
			two = appendDouble(appendDouble(two, 1, q.Bound), 2, q.Value)
			sub = appendSub(sub, 3, two)
		}
		if p != nil && p.start != nil {
			sub = appendMessage(sub, 4, p.start)
		}
	case Histogram:
		field = metricHistogram
		h := histogramOf(DecodeMetric(d, lines), p)
		if p != nil && p.gauge {
			*gauges++
		}
		sub, _ = proto.MarshalOptions{}.MarshalAppend(sub, h)
	default:
		v, _ := ParseFloat(line.value)
		sub = appendDouble(sub, 1, v)
	}
	return appendSub(b, field, sub), sub
}

// appendMessage appends a message that is always valid.
func appendMessage(b []byte, field protowire.Number, m proto.Message) []byte {
	text, _ := proto.Marshal(m)
	return appendSub(b, field, text)
}

// isWhole reports whether a count is an integer of 64 bits. It is true for 1<<64, which
// is the float next to the largest one.
func isWhole(v float64) bool { return v >= 0 && v <= 1<<64 && v == math.Trunc(v) }

// wholeCount returns the integer nearest below a count. The result is 0 for NaN.
func wholeCount(v float64) uint64 {
	switch {
	case v >= 1<<64:
		return math.MaxUint64
	case v >= 0:
		return uint64(v)
	}
	return 0
}

// histogramOf returns the histogram of the classic lines of a metric and of its point.
func histogramOf(m Metric, p *point) *dto.Histogram {
	h := &dto.Histogram{SampleSum: proto.Float64(m.Sum)}
	float := !isWhole(m.Count)
	for _, b := range m.Bounds {
		float = float || !isWhole(b.Value)
	}
	var exemplars []*dto.Exemplar
	if p != nil {
		h = p.h
		h.CreatedTimestamp, exemplars = p.start, p.exemplars
		float = isFloat(h)
	} else if float {
		h.SampleCountFloat = proto.Float64(m.Count)
	} else {
		h.SampleCount = proto.Uint64(wholeCount(m.Count))
	}
	if h.Schema != nil && !p.classic {
		h.Exemplars = exemplars
		return h
	}
	h.Bucket = make([]*dto.Bucket, len(m.Bounds))
	for i, b := range m.Bounds {
		h.Bucket[i] = &dto.Bucket{UpperBound: proto.Float64(b.Bound)}
		switch {
		case float || !isWhole(b.Value):
			h.Bucket[i].CumulativeCountFloat = proto.Float64(b.Value)
		case math.IsInf(b.Bound, 1) && b.Value == countOf(h):
			h.Bucket[i].CumulativeCount = proto.Uint64(h.GetSampleCount()) // the count may have more digits
		default:
			h.Bucket[i].CumulativeCount = proto.Uint64(wholeCount(b.Value))
		}
	}
	attachExemplars(h, exemplars)
	return h
}

// attachExemplars sets the exemplar of each classic bucket to the first one in its
// range. If a native histogram has more exemplars, it gets all of them.
func attachExemplars(h *dto.Histogram, list []*dto.Exemplar) {
	more := false
	for _, e := range list {
		i := 0
		for i < len(h.Bucket) && !(e.GetValue() <= h.Bucket[i].GetUpperBound()) {
			i++
		}
		if i < len(h.Bucket) && h.Bucket[i].Exemplar == nil {
			h.Bucket[i].Exemplar = e
		} else {
			more = true
		}
	}
	if more && h.Schema != nil {
		h.Exemplars = list
	}
}

// AppendFamilyHead appends the name and HELP text of a family as protobuf.
func AppendFamilyHead(b []byte, name, help string) []byte {
	b = appendString(b, familyName, name)
	if help != "" {
		b = appendString(b, familyHelp, help)
	}
	return b
}

// AppendFamilyKind appends the type and unit of a family that has these metrics.
func AppendFamilyKind(b []byte, t Type, unit string, metrics, gauges int) []byte {
	kind := dto.MetricType_UNTYPED
	switch t {
	case Counter:
		kind = dto.MetricType_COUNTER
	case Gauge:
		kind = dto.MetricType_GAUGE
	case Summary:
		kind = dto.MetricType_SUMMARY
	case Histogram:
		if kind = dto.MetricType_HISTOGRAM; metrics > 0 && gauges == metrics {
			kind = dto.MetricType_GAUGE_HISTOGRAM
		}
	}
	b = appendVarint(b, familyType, uint64(kind))
	if unit != "" {
		b = appendString(b, familyUnit, unit)
	}
	return b
}

// ParseHeader reads the header lines of a family, as [AppendHeader] writes them.
func ParseHeader(text string) (d Desc) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			_, d.Help, _ = ParseHelp(rest)
			continue
		}
		p := parser{utf8Names: true, lenient: true, rest: strings.TrimPrefix(line, "# TYPE ")}
		if p.rest == "" {
			continue
		}
		if name, err := p.metricName(); err == nil {
			d.Name = name
			for t := Untyped; t <= Histogram; t++ {
				if typeNames[t] == strings.TrimPrefix(p.rest, " ") {
					d.Typ = t
				}
			}
		}
	}
	return d
}
