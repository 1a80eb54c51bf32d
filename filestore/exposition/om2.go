package exposition

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The text format lacks native histograms, exemplars, start times and units. A file
// keeps these in comments after the lines of their family, so readers of the text
// format see the classic part:
//
//	# UNIT NAME UNIT
//	# promspool:om2 NAME{LABELS} VALUE st@START # {EXEMPLAR} VALUE TIME
//
// The value of the directive is the sample of one metric in OpenMetrics 2.0. The line
// only adds data. It is ignored if its value, or its count and sum, differ from the
// text.
const (
	om2Directive = "om2"
	om2Prefix    = DirectivePrefix + om2Directive + " "
	unitPrefix   = "# UNIT "
)

// IsExtra reports whether a directive of that key belongs to one series, see
// [Part].Extra.
func IsExtra(key string) bool { return key == om2Directive }

// A point is the sample of an om2 line.
type point struct {
	name   string
	labels []Label

	composite bool // has count and sum
	gauge     bool // named gcount and gsum
	classic   bool // has buckets
	summary   bool // has quantiles
	value     float64
	h         *dto.Histogram // count, sum and the native part; nil if not composite

	start     *timestamppb.Timestamp
	exemplars []*dto.Exemplar
}

// count returns the count as in the text format.
func (p *point) count() float64 { return countOf(p.h) }

// countOf returns the number of observations of a histogram.
func countOf(h *dto.Histogram) float64 {
	if h.SampleCountFloat != nil && (h.SampleCount == nil || h.GetSampleCountFloat() > 0) {
		return h.GetSampleCountFloat()
	}
	return float64(h.GetSampleCount())
}

// parsePoint parses a sample of OpenMetrics 2.0. It is strict: only the form of
// appendPoint is valid.
func parsePoint(text string, limits Limits) (p point, err error) {
	var r pointReader
	if p.name, p.labels, r.rest, err = cutSeries(text, limits); err != nil {
		return p, err
	}
	if !r.cut(" ") {
		return p, errors.New("has no value")
	}
	if r.cut("{") {
		p.composite, p.h = true, new(dto.Histogram)
		err = r.composite(&p, limits)
	} else {
		p.value, err = number(r.word())
	}
	if err != nil {
		return p, err
	}
	if r.cut(" st@") {
		if p.start, err = parseTimestamp(r.word()); err != nil {
			return p, fmt.Errorf("has a start time that is not a Unix time (%w)", err)
		}
	}
	for r.cut(" # ") {
		e := new(dto.Exemplar)
		if e, r.rest, err = parseExemplar(r.rest, limits, true); err != nil {
			return p, err
		}
		if p.exemplars = append(p.exemplars, e); len(p.exemplars) > limits.maxExemplars() {
			return p, errors.New("has " + limits.exemplars())
		}
	}
	if r.rest != "" {
		return p, errors.New("does not end after its value, start time and exemplars")
	}
	return p, nil
}

// cutSeries cuts the name and the labels off an om2 line.
func cutSeries(text string, limits Limits) (name string, labels []Label, rest string, err error) {
	s := parser{utf8Names: true, limits: limits, rest: text, slab: make([]Label, 0, 8)}
	switch {
	case !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0:
		return "", nil, "", errors.New("is not UTF-8 text")
	case text == "":
		return "", nil, "", errors.New("is empty")
	case text[0] != '{':
		if name, err = s.metricName(); err != nil {
			return "", nil, "", bare(err)
		}
	}
	if strings.HasPrefix(s.rest, "{") {
		if name, labels, err = s.labels(name); err != nil {
			return "", nil, "", bare(err)
		}
	}
	if name == "" {
		return "", nil, "", errors.New("has no metric name")
	}
	return name, labels, s.rest, nil
}

// bare returns the message of an error without its position.
func bare(err error) error {
	var e *SyntaxError
	if errors.As(err, &e) {
		return errors.New(e.Msg)
	}
	return err
}

// parseExemplar parses labels, value and time, and returns the rest. In an om2 line the
// time is strict; in other text it may have an exponent, as OpenMetrics allows.
func parseExemplar(text string, limits Limits, strict bool) (*dto.Exemplar, string, error) {
	s := parser{utf8Names: true, limits: limits, rest: text, slab: make([]Label, 0, 4)}
	if !strings.HasPrefix(text, "{") {
		return nil, "", errors.New("has an exemplar without labels in braces")
	}
	name, labels, err := s.labels("")
	if err != nil {
		return nil, "", fmt.Errorf("has an exemplar in which %w", bare(err))
	}
	if name != "" {
		return nil, "", errors.New("has an exemplar with a metric name")
	}
	e := &dto.Exemplar{Label: labelPairs(labels)}
	r := pointReader{s.rest}
	if !r.cut(" ") {
		return nil, "", errors.New("has an exemplar without a value")
	}
	v, err := number(r.word())
	if err != nil {
		return nil, "", errors.New("has an exemplar whose value is not a number")
	}
	e.Value = &v
	if strings.HasPrefix(r.rest, " ") && !strings.HasPrefix(r.rest, " # ") {
		r.rest = r.rest[1:]
		word := r.word()
		if !strict {
			word = plainTime(word)
		}
		if e.Timestamp, err = parseTimestamp(word); err != nil {
			return nil, "", fmt.Errorf("has an exemplar whose time is not a Unix time (%w)", err)
		}
	}
	return e, r.rest, nil
}

func labelPairs(labels []Label) []*dto.LabelPair {
	if len(labels) == 0 {
		return nil
	}
	pairs := make([]dto.LabelPair, len(labels))
	list := make([]*dto.LabelPair, len(labels))
	for i, l := range labels {
		pairs[i].Name, pairs[i].Value = proto.String(l.Name), proto.String(l.Value)
		list[i] = &pairs[i]
	}
	return list
}

func number(word string) (float64, error) {
	v, err := ParseFloat(word)
	if err != nil {
		return 0, errors.New("has a value that is not a number")
	}
	return v, nil
}

// parseTimestamp parses Unix time in seconds, with up to nine decimals.
func parseTimestamp(word string) (*timestamppb.Timestamp, error) {
	whole, fraction, point := strings.Cut(word, ".")
	digits := strings.TrimPrefix(whole, "-")
	if digits == "" || len(digits) > 12 || !areDigits(digits) || point && (fraction == "" || len(fraction) > 9 || !areDigits(fraction)) {
		return nil, errors.New("it must be decimal digits, up to nine after the point")
	}
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return nil, errors.New("it is out of range")
	}
	nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 32)
	if strings.HasPrefix(whole, "-") && nanos > 0 {
		sec, nanos = sec-1, 1e9-nanos
	}
	t := &timestamppb.Timestamp{Seconds: sec, Nanos: int32(nanos)}
	if t.CheckValid() != nil {
		return nil, errors.New("it is out of range")
	}
	return t, nil
}

// plainTime returns a real number without its exponent and plus sign, cut after nine
// decimals. A text that is no such number is returned unchanged.
func plainTime(word string) string {
	mantissa, exponent, scaled := strings.Cut(strings.ToLower(word), "e")
	shift := 0
	if scaled {
		var err error
		if shift, err = strconv.Atoi(exponent); err != nil || shift < -64 || shift > 64 {
			return word
		}
	}
	sign := ""
	if mantissa != "" && (mantissa[0] == '-' || mantissa[0] == '+') {
		sign, mantissa = strings.TrimPrefix(mantissa[:1], "+"), mantissa[1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	if digits == "" || len(digits) > 64 || !areDigits(digits) {
		return word
	}
	point := len(whole) + shift
	if point <= 0 {
		digits, point = strings.Repeat("0", 1-point)+digits, 1
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	whole, fraction = digits[:point], digits[point:]
	whole = strings.TrimLeft(whole[:len(whole)-1], "0") + whole[len(whole)-1:]
	if fraction = fraction[:min(9, len(fraction))]; fraction != "" {
		fraction = "." + fraction
	}
	return sign + whole + fraction
}

func areDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// pointReader cuts tokens off the rest of an om2 line.
type pointReader struct{ rest string }

func (r *pointReader) cut(prefix string) (ok bool) {
	r.rest, ok = strings.CutPrefix(r.rest, prefix)
	return ok
}

// word cuts off the text before the next space.
func (r *pointReader) word() string {
	w := r.rest
	if i := strings.IndexByte(w, ' '); i >= 0 {
		w = w[:i]
	}
	r.rest = r.rest[len(w):]
	return w
}

// sides are the spans and buckets of a histogram in the form of the line.
type sides struct{ spans, buckets string }

// composite parses the fields in braces after the opening one.
func (r *pointReader) composite(p *point, limits Limits) error {
	fields := map[string]string{}
	for {
		i := strings.IndexAny(r.rest, ":}")
		if i <= 0 || r.rest[i] != ':' {
			return errors.New("has a value in braces with a field that has no name")
		}
		key := r.rest[:i]
		if r.rest = r.rest[i+1:]; strings.HasPrefix(r.rest, "[") {
			i = strings.IndexByte(r.rest, ']') + 1
		} else {
			i = strings.IndexAny(r.rest, ",}")
		}
		if i <= 0 {
			return errors.New("has a value whose braces are not closed")
		}
		if _, twice := fields[key]; twice {
			return fmt.Errorf("has the field %s twice", shortToken(key))
		}
		fields[key], r.rest = r.rest[:i], r.rest[i:]
		if r.cut("}") {
			break
		}
		if !r.cut(",") {
			return errors.New("has a value in braces with fields that no comma parts")
		}
	}
	return p.fill(fields, limits)
}

// shortToken returns a piece of a line, shortened for a message.
func shortToken(s string) string {
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return strconv.Quote(s)
}

// fill sets the fields of the histogram from those in braces.
func (p *point) fill(fields map[string]string, limits Limits) error {
	take := func(key string) (string, bool) {
		v, ok := fields[key]
		delete(fields, key)
		return v, ok
	}
	count, ok := take("count")
	sum, summed := take("sum")
	if g, is := take("gcount"); is {
		var s string
		if s, p.gauge = take("gsum"); !p.gauge || ok || summed {
			return errors.New("needs either count and sum or gcount and gsum")
		}
		count, ok, sum, summed = g, true, s, true
	}
	if !ok || !summed {
		return errors.New("needs count and sum")
	}
	h, err := p.h, error(nil)
	whole := areDigits(count)
	for _, key := range [...]string{"zero_count", "negative_buckets", "positive_buckets"} {
		if whole && strings.ContainsAny(fields[key], ".eE") { // all are floats if one is
			whole, count = false, count+".0"
		}
	}
	if h.SampleCount, h.SampleCountFloat, err = parseCount(count); err != nil {
		return fmt.Errorf("has a count that %w", err)
	}
	v, err := number(sum)
	if err != nil {
		return errors.New("has a sum that is not a number")
	}
	h.SampleSum = &v
	if list, ok := take("quantile"); ok {
		if p.summary = true; !isList(list) {
			return errors.New("has quantiles that are not a list")
		}
	}
	if list, ok := take("bucket"); ok {
		if p.classic = true; !isList(list) {
			return errors.New("has buckets that are not a list")
		}
	}
	if p.summary && (p.classic || p.gauge) {
		return errors.New("has both quantiles and buckets")
	}
	schema, native := take("schema")
	if native && !p.summary {
		if err := fillNative(h, schema, whole, take, limits); err != nil {
			return err
		}
	}
	for key := range fields {
		return fmt.Errorf("has the field %s, which is not known", shortToken(key))
	}
	return nil
}

func isList(s string) bool { return len(s) >= 2 && s[0] == '[' && s[len(s)-1] == ']' }

func fillNative(h *dto.Histogram, schema string, whole bool, take func(string) (string, bool), limits Limits) error {
	n, err := strconv.ParseInt(schema, 10, 32)
	if err != nil {
		return errors.New("has a schema that is not a number")
	}
	h.Schema = proto.Int32(int32(n))
	text, _ := take("zero_threshold")
	threshold, err := number(text)
	if err != nil {
		return errors.New("has a zero_threshold that is not a number")
	}
	h.ZeroThreshold = &threshold
	text, _ = take("zero_count")
	if h.ZeroCount, h.ZeroCountFloat, err = parseCount(text); err != nil {
		return fmt.Errorf("has a zero_count that %w", err)
	}
	if !whole && h.ZeroCount != nil { // all are floats if the count is one
		h.ZeroCountFloat, h.ZeroCount = proto.Float64(float64(h.GetZeroCount())), nil
	} else if whole && h.ZeroCountFloat != nil {
		return errors.New("has a zero_count that is not an integer, as its count is")
	}
	left := limits.maxBuckets()
	side := func(name string) (spans []*dto.BucketSpan, deltas []int64, counts []float64, err error) {
		var s sides
		var both bool
		s.spans, _ = take(name + "_spans")
		if s.buckets, both = take(name + "_buckets"); both != (s.spans != "") {
			return nil, nil, nil, fmt.Errorf("needs both %s_spans and %s_buckets", name, name)
		}
		if !both {
			return nil, nil, nil, nil
		}
		if spans, deltas, counts, err = s.parse(whole, limits, &left); err != nil {
			return nil, nil, nil, fmt.Errorf("has %s %w", name, err)
		}
		return spans, deltas, counts, nil
	}
	if h.NegativeSpan, h.NegativeDelta, h.NegativeCount, err = side("negative"); err != nil {
		return err
	}
	if h.PositiveSpan, h.PositiveDelta, h.PositiveCount, err = side("positive"); err != nil {
		return err
	}
	markNative(h)
	return checkNative(h)
}

// markNative marks an empty native histogram by a span without buckets, as client
// libraries do.
func markNative(h *dto.Histogram) {
	if len(h.PositiveSpan) == 0 && len(h.NegativeSpan) == 0 && h.GetZeroThreshold() == 0 && h.GetZeroCount() == 0 && h.GetZeroCountFloat() == 0 {
		h.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
}

// parseCount parses a number of observations, an integer or a float.
func parseCount(word string) (*uint64, *float64, error) {
	if word != "" && areDigits(word) {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return nil, nil, errors.New("is too large")
		}
		return &n, nil, nil
	}
	v, err := ParseFloat(word)
	switch {
	case err != nil:
		return nil, nil, errors.New("is not a number")
	case !(v >= 0) || math.IsInf(v, 0):
		return nil, nil, errors.New("is negative or not finite")
	}
	return nil, &v, nil
}

// parse parses two lists: spans as OFFSET:LENGTH, and the count of each bucket.
func (s sides) parse(whole bool, limits Limits, left *int) (spans []*dto.BucketSpan, deltas []int64, counts []float64, err error) {
	if !isList(s.spans) || !isList(s.buckets) {
		return nil, nil, nil, errors.New("spans or buckets that are not a list")
	}
	n := 1 + strings.Count(s.buckets, ",")
	if *left -= max(n, strings.Count(s.spans, ",")); *left < 0 {
		return nil, nil, nil, errors.New("buckets: " + limits.buckets())
	}
	for item := range strings.SplitSeq(s.spans[1:len(s.spans)-1], ",") {
		offset, length, ok := strings.Cut(item, ":")
		o, err1 := strconv.ParseInt(offset, 10, 32)
		l, err2 := strconv.ParseUint(length, 10, 32)
		if !ok || err1 != nil || err2 != nil {
			return nil, nil, nil, errors.New("spans that are not OFFSET:LENGTH")
		}
		spans = append(spans, &dto.BucketSpan{Offset: proto.Int32(int32(o)), Length: proto.Uint32(uint32(l))})
	}
	if whole {
		deltas = make([]int64, 0, n)
	} else {
		counts = make([]float64, 0, n)
	}
	var last int64
	for item := range strings.SplitSeq(s.buckets[1:len(s.buckets)-1], ",") {
		if whole {
			v, err := strconv.ParseInt(item, 10, 64)
			if err != nil || v < 0 {
				return nil, nil, nil, errors.New("buckets that are negative or not integers, as its count is")
			}
			deltas, last = append(deltas, v-last), v
			continue
		}
		v, err := ParseFloat(item)
		if err != nil {
			return nil, nil, nil, errors.New("buckets that are not numbers")
		}
		counts = append(counts, v)
	}
	return spans, deltas, counts, nil
}

// checkNative returns the reason for which Prometheus would reject a native
// histogram, and the whole scrape with it.
func checkNative(h *dto.Histogram) error {
	if s := h.GetSchema(); s < -4 || s > 8 {
		return fmt.Errorf("has the schema %d, which is not in -4 to 8", s)
	}
	if z := h.GetZeroThreshold(); !(z >= 0) || math.IsInf(z, 0) {
		return errors.New("has a zero_threshold that is negative or not finite")
	}
	whole := !isFloat(h)
	sum, err := uint64(0), error(nil)
	for _, side := range [...]struct {
		spans  []*dto.BucketSpan
		deltas []int64
		counts []float64
	}{{h.NegativeSpan, h.NegativeDelta, h.NegativeCount}, {h.PositiveSpan, h.PositiveDelta, h.PositiveCount}} {
		if whole && len(side.counts) > 0 || !whole && len(side.deltas) > 0 {
			return errors.New("has a whole count and buckets that are floats, or the reverse")
		}
		if err = checkSpans(side.spans, len(side.deltas)+len(side.counts)); err != nil {
			return err
		}
		var n int64
		for _, d := range side.deltas {
			if d > 0 && n > math.MaxInt64-d {
				return errors.New("has a bucket that is too large")
			}
			if n += d; n < 0 {
				return errors.New("has a bucket that is negative")
			}
			if sum+uint64(n) < sum {
				return errors.New("has buckets that are too large")
			}
			sum += uint64(n)
		}
		for _, v := range side.counts {
			if !(v >= 0) || math.IsInf(v, 0) {
				return errors.New("has a bucket that is negative or not finite")
			}
		}
	}
	if !whole {
		if z := h.GetZeroCountFloat(); !(z >= 0) || math.IsInf(z, 0) {
			return errors.New("has a zero_count that is negative or not finite")
		}
		if c := h.GetSampleCountFloat(); !(c >= 0) || math.IsInf(c, 0) {
			return errors.New("has a count that is negative or not finite")
		}
		return nil
	}
	total := sum + h.GetZeroCount()
	switch {
	case total < sum:
		return errors.New("has buckets that are too large")
	case total > h.GetSampleCount(), total < h.GetSampleCount() && !math.IsNaN(h.GetSampleSum()):
		return fmt.Errorf("counts %d observations and has %d in its buckets", h.GetSampleCount(), total)
	}
	return nil
}

func checkSpans(spans []*dto.BucketSpan, buckets int) error {
	total, index := uint64(0), int64(0)
	for i, s := range spans {
		if i > 0 && s.GetOffset() < 0 {
			return errors.New("has a span that begins before the end of the one before")
		}
		total += uint64(s.GetLength())
		index += int64(s.GetOffset()) + int64(s.GetLength())
		if index > math.MaxInt32 || index < math.MinInt32 {
			return errors.New("has a span that ends beyond the last possible bucket")
		}
	}
	if total != uint64(buckets) {
		return fmt.Errorf("has spans of %d buckets and %d counts", total, buckets)
	}
	return nil
}

// isFloat reports whether the counts of a histogram are floats.
func isFloat(h *dto.Histogram) bool {
	return h.SampleCountFloat != nil && (h.SampleCount == nil || h.GetSampleCountFloat() > 0)
}

// agrees reports whether a value of the line equals that of the text.
func agrees(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

// fits reports whether a family of that type can have such a point.
func (p *point) fits(t Type) bool {
	switch t {
	case Histogram:
		return p.composite && !p.summary
	case Summary:
		return p.composite && !p.gauge && !p.classic && p.h.Schema == nil && len(p.exemplars) == 0
	case Counter:
		return !p.composite && len(p.exemplars) <= 1
	}
	return false // it has no data to add
}

// points assigns the om2 and UNIT lines of a text to their families. Lines without
// a family, or before their family, are ignored.
func (p *parser) points() error {
	for _, u := range p.out.units {
		f := p.out.ByName[u.name]
		if f != nil && len(f.Samples) == 0 && f.suffix != "" {
			f = p.out.ByName[u.name+f.suffix]
		}
		switch {
		case f == nil || len(f.Samples) == 0:
		case f.unit == "":
			f.unit = u.text
		case f.unit != u.text:
			if err := p.ignore(u.line, "the UNIT line names another unit than one before"); err != nil {
				return err
			}
		}
	}
	for _, l := range p.out.points {
		pt, err := parsePoint(strings.TrimRight(l.text, "\r"), p.limits)
		if err != nil {
			if err := p.ignore(l.line, "the line # promspool:om2 "+err.Error()); err != nil {
				return err
			}
			continue
		}
		f := p.out.ByName[pt.name]
		if f == nil || len(f.Samples) == 0 || f.Samples[0].line > l.line {
			continue
		}
		if !pt.fits(f.Typ) {
			if err := p.ignore(l.line, "the line # promspool:om2 is not one that a "+f.Typ.String()+" can have"); err != nil {
				return err
			}
			continue
		}
		f.points = append(f.points, rawPoint{line: l.line, text: l.text, point: pt})
	}
	p.out.units, p.out.points = nil, nil
	return nil
}

// ignore reports that a line of a file is ignored. In a push it is an error.
func (p *parser) ignore(line int, msg string) error {
	e := &SyntaxError{Line: line, Reason: Syntax, Msg: msg}
	if !p.lenient {
		e.Decoded = true
		return e
	}
	if p.out.issue == nil {
		p.out.issue = e
	}
	return nil
}

// A rawLine is a comment with data that the text format lacks.
type rawLine struct {
	line       int
	name, text string
}

// unitLine records a UNIT line, given the text after that word. An empty one is a
// comment like any other.
func (p *parser) unitLine() error {
	p.blanks()
	if p.rest == "" {
		return nil
	}
	name, err := p.metricName()
	unit := strings.Trim(p.rest, " \t")
	if err != nil || unit == p.rest || unit == "" || !utf8.ValidString(unit) || strings.ContainsAny(unit, "\x00\r") {
		return nil
	}
	if len(unit) > MaxUnit {
		p.kind, p.name = "family", name
		if !p.lenient {
			return p.failf(TooLarge, longUnit, token(unit), len(unit), MaxUnit)
		}
		return p.ignore(p.line, fmt.Sprintf("the unit has %d bytes, and the limit is %d: shorten it", len(unit), MaxUnit))
	}
	p.out.units = append(p.out.units, rawLine{line: p.line, name: name, text: unit})
	return nil
}

// longUnit is the error for a unit beyond MaxUnit.
const longUnit = "the unit %s has %d bytes, and the limit is %d: shorten it"

// rawPoint is the point of an om2 line, or of a metric that came as protobuf.
type rawPoint struct {
	line   int
	text   string // of the line in a file
	point  point
	metric *dto.Metric // from a push in protobuf; its labels are not used
	// partial is true for a point of OpenMetrics samples, which has only a start time
	// and exemplars.
	partial bool
}

// attach appends the lines with data that the text of a family lacks. Its records
// must be sorted.
func (c *canonicalizer) attach(f *RawFamily) error {
	if f.unit != "" {
		c.extra = append(c.extra, unitPrefix...)
		c.extra = AppendName(c.extra, f.Name)
		c.extra = append(c.extra, ' ')
		c.extra = append(c.extra, f.unit...)
		c.extra = append(c.extra, '\n')
	}
	if len(f.points) == 0 && f.start.IsZero() && !f.gauge {
		return nil
	}
	list := make([]pointOf, 0, len(f.points))
	for i := range f.points {
		raw := &f.points[i]
		base, shown := c.base(raw.point.labels)
		at, found := slices.BinarySearchFunc(c.records, base, func(r record, b string) int { return strings.Compare(r.base, b) })
		if !found {
			if c.lenient {
				continue // its series does not exist any more
			}
			return &SyntaxError{Line: raw.line, Reason: Syntax, Decoded: true, Msg: "the line # promspool:om2 has no series"}
		}
		if raw.partial {
			c.complete(f, &raw.point, at)
			if r := c.uncountable(f, at); r != nil {
				e := fault(r.line, Syntax, "family", f.Name, invalidCount, token(floatText(r.value)), f.kind()+withExtra)
				if f.Typ == Summary {
					e = fault(r.line, Syntax, "family", f.Name, "invalid value %s of the count of a summary with a start time: counts must be zero or more, and finite", token(floatText(r.value)))
				}
				e.Decoded = true
				if !c.lenient {
					return e
				}
				c.complain(e)
				continue
			}
		} else if f.gauge && !raw.point.gauge {
			if err := c.ignored(raw.line, "the line # promspool:om2 is not one that a gauge histogram can have"); err != nil {
				return err
			}
			continue
		} else if raw.metric == nil && !c.agree(f, &raw.point, at) {
			if err := c.ignored(raw.line, "the line # promspool:om2 has another value, or count and sum, than its series"); err != nil {
				return err
			}
			continue
		}
		list = append(list, pointOf{base, shown, raw})
	}
	slices.SortStableFunc(list, func(a, b pointOf) int { return strings.Compare(a.base, b.base) })
	if f.gauge {
		list = c.addGauges(f, list)
	}
	if !f.start.IsZero() {
		list = c.addStart(f, list)
	}
	for i := 1; i < len(list); i++ { // of several samples of one metric
		before, p := list[i-1], list[i]
		if before.base != p.base || !p.raw.partial || !before.raw.partial {
			continue
		}
		if before.raw.point.start == nil {
			before.raw.point.start = p.raw.point.start
		}
		before.raw.point.exemplars = append(before.raw.point.exemplars, p.raw.point.exemplars...)
		list = slices.Delete(list, i, i+1)
		i--
	}
	for i, p := range list {
		if i > 0 && list[i-1].base == p.base {
			if p.raw.partial {
				continue
			}
			if err := c.ignored(p.raw.line, "a second line # promspool:om2 for one series"); err != nil {
				return err
			}
			continue
		}
		c.extra = append(c.extra, om2Prefix...)
		if p.raw.metric == nil && !p.raw.partial && f.start.IsZero() && c.lenient && len(c.lab.Over) == 0 && len(c.lab.Strip) == 0 && !c.lab.EmptyInstance {
			c.extra = append(c.extra, strings.TrimRight(p.raw.text, "\r")...)
			c.extra = append(c.extra, '\n')
			continue
		}
		m := p.raw.metric
		if m == nil {
			m = p.raw.point.toMetric(f.Typ)
		}
		var err error
		if c.extra, err = appendPoint(c.extra, f.Name, p.shown, m); err != nil {
			return &SyntaxError{Line: p.raw.line, Reason: Syntax, Decoded: true, Msg: fmt.Sprintf("family %s cannot be kept: %s", shortToken(f.Name), err)}
		}
	}
	return nil
}

// pointOf is a point with its metric.
type pointOf struct {
	base, shown string
	raw         *rawPoint
}

// addGauges adds a point for each metric of a gauge histogram that has none. The point
// distinguishes it from a histogram.
func (c *canonicalizer) addGauges(f *RawFamily, list []pointOf) []pointOf {
	out := make([]pointOf, 0, len(c.records))
	for i, r := range c.records {
		if i > 0 && c.records[i-1].base == r.base {
			continue
		}
		if len(list) == 0 || list[0].base != r.base {
			raw := &rawPoint{line: r.line, partial: true}
			c.complete(f, &raw.point, i)
			out = append(out, pointOf{r.base, r.shown, raw})
		}
		for len(list) > 0 && list[0].base == r.base {
			out, list = append(out, list[0]), list[1:]
		}
	}
	return out
}

// addStart sets the start time of the metrics of a family that have none to that of
// the family.
func (c *canonicalizer) addStart(f *RawFamily, list []pointOf) []pointOf {
	start := timestamppb.New(f.start)
	out := make([]pointOf, 0, len(list))
	for i, r := range c.records {
		if i > 0 && c.records[i-1].base == r.base {
			continue
		}
		n, stated := len(out), false
		for len(list) > 0 && list[0].base == r.base {
			stated = stated || list[0].raw.hasStart()
			out, list = append(out, list[0]), list[1:]
		}
		switch {
		case stated:
		case n < len(out):
			out[n].raw.setStart(start)
		default:
			raw := &rawPoint{line: r.line, partial: true, point: point{start: start}}
			c.complete(f, &raw.point, i)
			if h := raw.point.h; h != nil {
				if _, ok := countable(h); !ok {
					continue // the line would not be read back
				}
			}
			out = append(out, pointOf{r.base, r.shown, raw})
		}
	}
	return out
}

// hasStart reports whether a point has a start time, or cannot have one.
func (r *rawPoint) hasStart() bool {
	if m := r.metric; m != nil {
		return m.Gauge != nil || m.Counter.GetCreatedTimestamp() != nil || m.Summary.GetCreatedTimestamp() != nil || m.Histogram.GetCreatedTimestamp() != nil
	}
	return r.point.gauge || r.point.start != nil
}

func (r *rawPoint) setStart(t *timestamppb.Timestamp) {
	switch m := r.metric; {
	case m == nil:
		r.point.start = t
	case m.Counter != nil:
		m.Counter.CreatedTimestamp = t
	case m.Summary != nil:
		m.Summary.CreatedTimestamp = t
	default:
		m.Histogram.CreatedTimestamp = t
	}
}

func (c *canonicalizer) ignored(line int, msg string) error {
	e := &SyntaxError{Line: line, Reason: Duplicate, Msg: msg, Decoded: true}
	if !c.lenient {
		return e
	}
	if c.issue == nil {
		c.issue = e
	}
	return nil
}

// agree reports whether the records of a metric equal the value of its point.
func (c *canonicalizer) agree(f *RawFamily, p *point, at int) bool {
	base := c.records[at].base
	if !f.Typ.Composite() {
		return agrees(c.records[at].value, p.value)
	}
	sum, count := agrees(0, p.h.GetSampleSum()), agrees(0, p.count()) // if the text lacks them
	sums, counts := 0, 0
	for _, r := range c.records[at:] {
		if r.base != base {
			break
		}
		switch r.part {
		case 1:
			sum = sums > 0 && sum || agrees(r.value, p.h.GetSampleSum())
			sums++
		case 2:
			count = counts > 0 && count || agrees(r.value, p.count())
			counts++
		}
	}
	return sum && count
}
