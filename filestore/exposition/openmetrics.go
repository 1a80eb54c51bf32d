package exposition

import (
	"math"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// This file handles elements of OpenMetrics that the text format 0.0.4 lacks.
//
// A text is OpenMetrics if it is a push with that content type or a file that ends
// in # EOF. In OpenMetrics and in all files, exemplars are kept, and info metrics
// and state sets become gauges. In other pushes they are an error, as in
// Pushgateway. UNIT lines are kept in any text. In OpenMetrics the name of counter
// samples differs from that in their TYPE line, and samples that end in _created are
// start times. In other texts the latter are gauges, as some client libraries push
// them.

// ParseOpenMetrics is Parse for a push with the content type of OpenMetrics.
func ParseOpenMetrics(data []byte, limits Limits, utf8Names bool) (*Families, error) {
	p := parser{limits: limits, utf8Names: utf8Names, openMetrics: true}
	p.out.ByName = make(map[string]*RawFamily)
	return p.parse(string(data))
}

// keepsExemplars reports whether the text may have exemplars, info metrics and state
// sets.
func (p *parser) keepsExemplars() bool { return p.lenient || p.openMetrics }

// endsInEOF reports whether a text ends with # EOF, as OpenMetrics requires.
func endsInEOF(text string) bool {
	text = strings.TrimRight(text, " \t\r\n")
	return strings.HasSuffix(text, "\n# EOF")
}

// sampleFamily returns the family of a sample whose name differs from that in the
// TYPE line, nil if there is none.
func (p *parser) sampleFamily(name string) *RawFamily {
	for _, suffix := range [...]string{"_total", "_info"} {
		base, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		if o := p.out.ByName[base]; o != nil && o.suffix == suffix {
			f := p.family(name)
			f.Typ, f.help, f.helpSeen = o.Typ, o.help, o.helpSeen
			return f
		}
	}
	return nil
}

// Suffixes of the count and sum of gauge histograms in OpenMetrics. The encoder of
// prometheus/common writes _count and _sum, which are read as well.
const (
	gcountSuffix = "_gcount"
	gsumSuffix   = "_gsum"
)

// gaugeHistogram returns the gauge histogram with a count or sum of that name, nil if
// there is none.
func (p *parser) gaugeHistogram(name string) *RawFamily {
	for _, suffix := range [...]string{gcountSuffix, gsumSuffix} {
		base, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		if f := p.out.ByName[base]; f != nil && f.gauge {
			f.gcount = true
			return f
		}
	}
	return nil
}

// created reports whether a sample is a start time, and records it.
func (p *parser) created(name string, labels []Label, value float64) (bool, error) {
	base, ok := strings.CutSuffix(name, "_created")
	if !ok || !p.openMetrics {
		return false, nil
	}
	f := p.out.ByName[base]
	if f == nil || f.gauge || f.Typ != Counter && !f.Typ.Composite() {
		return false, nil
	}
	start, ok := timestampOf(value)
	if !ok {
		return true, p.ignore(p.line, "the start time is no Unix time")
	}
	if f.suffix != "" {
		if f = p.out.ByName[base+f.suffix]; f == nil {
			f = p.sampleFamily(base + "_total")
		}
	}
	f.points = append(f.points, rawPoint{line: p.line, partial: true, point: point{labels: labels, start: start}})
	return true, nil
}

// timestampOf returns the time of a number of seconds, with the precision of that.
func timestampOf(seconds float64) (*timestamppb.Timestamp, bool) {
	if !(math.Abs(seconds) < 1e11) {
		return nil, false
	}
	t := timestamppb.New(time.UnixMicro(int64(math.Round(seconds * 1e6))))
	return t, t.CheckValid() == nil
}

// exemplar parses the exemplar after a value, from its number sign on.
func (p *parser) exemplar() (*dto.Exemplar, error) {
	text := p.rest
	p.rest = p.rest[1:]
	p.blanks()
	if !strings.HasPrefix(p.rest, "{") {
		return nil, p.failf(Syntax, commentAfterValue, token(text))
	}
	e, rest, err := parseExemplar(p.rest, p.limits, false)
	if err != nil {
		return nil, p.fail("the sample " + err.Error())
	}
	p.rest = rest
	p.blanks()
	if p.rest != "" {
		return nil, p.fail("the line does not end after the exemplar")
	}
	return e, nil
}

// keepExemplar records the exemplar of a sample if its type can have one.
func (p *parser) keepExemplar(f *RawFamily, name string, labels []Label, e *dto.Exemplar) error {
	switch {
	case f.Typ == Counter:
	case f.Typ == Histogram && name != f.Name:
		kept := make([]Label, 0, len(labels))
		for _, l := range labels {
			if l.Name != "le" {
				kept = append(kept, l)
			}
		}
		labels = kept
	default:
		return p.ignore(p.line, "only counters and histograms can have exemplars; state the type in a TYPE line")
	}
	f.points = append(f.points, rawPoint{line: p.line, partial: true, point: point{labels: labels, exemplars: []*dto.Exemplar{e}}})
	return nil
}

// uncountable returns the first record of a metric whose count is no number of
// observations, nil if there is none.
func (c *canonicalizer) uncountable(f *RawFamily, at int) *record {
	if !f.Typ.Composite() {
		return nil
	}
	base := c.records[at].base
	for i := at; i < len(c.records) && c.records[i].base == base; i++ {
		if r := &c.records[i]; (r.part == 2 || r.part == 0 && f.Typ == Histogram) && !isCount(r.value) {
			return r
		}
	}
	return nil
}

// complete fills in a partial point from the records of its metric.
func (c *canonicalizer) complete(f *RawFamily, p *point, at int) {
	p.name, p.value = f.Name, c.records[at].value
	if !f.Typ.Composite() {
		return
	}
	p.composite, p.h, p.gauge = true, &dto.Histogram{SampleSum: proto.Float64(0)}, f.gauge
	base, count, whole := c.records[at].base, 0.0, true
	for i := at; i < len(c.records) && c.records[i].base == base; i++ {
		switch r := &c.records[i]; r.part {
		case 0:
			whole = whole && (f.Typ == Summary || isWhole(r.value))
			if f.gauge { // the line has its buckets, as for a push in protobuf
				p.h.Bucket = append(p.h.Bucket, &dto.Bucket{UpperBound: &r.bound, CumulativeCountFloat: &r.value})
			}
		case 1:
			p.h.SampleSum = &r.value
		case 2:
			count = r.value
		}
	}
	if !whole || !isWhole(count) {
		p.h.SampleCountFloat = &count
		return
	}
	p.h.SampleCount = proto.Uint64(wholeCount(count))
	for _, b := range p.h.Bucket {
		b.CumulativeCount, b.CumulativeCountFloat = proto.Uint64(wholeCount(b.GetCumulativeCountFloat())), nil
	}
}

// WithStart adds a start time to the counters, histograms and summaries of a text
// that have none. An invalid text is returned unchanged.
func WithStart(text []byte, at time.Time) []byte {
	f, err := Parse(text, Limits{}, true)
	if err != nil {
		return text
	}
	f.SetStart(at, func(string) bool { return true })
	parts, _, _, err := Canonical(f, Labelling{}, false)
	if err != nil {
		return text
	}
	var out []byte
	for _, p := range parts {
		d := p.Desc.Value()
		out = append(AppendHeader(out, d.Name, d.Help, d.Typ), p.Text...)
		out = append(out, p.Extra...)
	}
	return out
}
