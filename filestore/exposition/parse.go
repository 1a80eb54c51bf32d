// Package exposition parses and writes the text format of Prometheus. It does no
// I/O.
//
// [Parse] and [ParseFile] read text of other programs and report faults with line
// and reason. [Canonical] turns the result into canonical text: sorted families and
// series, numbers in their shortest form, no timestamps. Canonical text is read with
// one tokenizer, [CutLine] and [EachLabel].
//
// The identity of a metric is its family and its labels without empty ones.
// Canonical returns the same identities that are read back from its text.
package exposition

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// Limits are the limits of a push or file. Zero means no limit. The error of a push
// names the flag of the agent that sets the limit.
type Limits struct {
	Series     int // samples in one push or file
	Labels     int // labels of one sample
	LabelName  int // bytes
	LabelValue int // bytes
	Buckets    int // native buckets of one histogram
	Exemplars  int // of one metric
}

// FileLimits are the limits of files.
var FileLimits = Limits{Labels: 1000, Buckets: 100_000, Exemplars: 10_000}

// Default limits of native buckets and exemplars. The limits of pushes cannot be
// higher than those of files, or a stored push could not be read again.
const (
	DefaultBuckets   = 10_000
	DefaultExemplars = 1000
)

// MaxHelp is the maximum length of a HELP text in bytes. The text of one file is
// written to all groups that have the family, so a longer one could fill the disk. In
// a push it is an error; of a text in a file only the beginning is used.
const MaxHelp = 4096

// MaxUnit is the maximum length of a unit in bytes. A unit is a word, and in OpenMetrics
// 1.0 the end of the metric's name. It is served once for each family and not written
// to other files. In a push a longer one is an error; in a file it is ignored.
const MaxUnit = 256

// cutHelp shortens a HELP text of a file to MaxHelp.
func cutHelp(text string) string {
	n := MaxHelp
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

func (l Limits) maxBuckets() int   { return withinFile(l.Buckets, FileLimits.Buckets) }
func (l Limits) maxExemplars() int { return withinFile(l.Exemplars, FileLimits.Exemplars) }

func withinFile(n, file int) int {
	if n <= 0 {
		return file
	}
	return min(n, file)
}

func (l Limits) samples() string {
	return fmt.Sprintf("more than --push.max-series=%d samples: push fewer at a time, or raise the limit", l.Series)
}

func (l Limits) labels() string {
	if l == FileLimits {
		return fmt.Sprintf("more than %d labels, the limit for files: use fewer", l.Labels)
	}
	return fmt.Sprintf("more than --push.max-labels=%d labels: use fewer, or raise the limit", l.Labels)
}

func (l Limits) buckets() string {
	if n := l.maxBuckets(); n == FileLimits.Buckets {
		return fmt.Sprintf("more than %d native buckets, the limit for files", n)
	}
	return fmt.Sprintf("more than --push.max-buckets=%d native buckets", l.Buckets)
}

func (l Limits) exemplars() string {
	if n := l.maxExemplars(); n == FileLimits.Exemplars {
		return fmt.Sprintf("more than %d exemplars, the limit for files", n)
	}
	return fmt.Sprintf("more than --push.max-exemplars=%d exemplars", l.Exemplars)
}

func (l Limits) nameBytes() string {
	return fmt.Sprintf("longer than --push.max-label-name-bytes=%d bytes: shorten it, or raise the limit", l.LabelName)
}

func (l Limits) valueBytes() string {
	return fmt.Sprintf("longer than --push.max-label-value-bytes=%d bytes: shorten it, or raise the limit", l.LabelValue)
}

// Parse parses a push in the text format 0.0.4. Quoted names outside of
// [a-zA-Z_:][a-zA-Z0-9_:]* are accepted only if utf8Names is set. Errors are of type
// *SyntaxError. The reason is Timestamp if timestamps are the only fault. The result
// does not refer to data.
func Parse(data []byte, limits Limits, utf8Names bool) (*Families, error) {
	return parse(data, limits, utf8Names, false)
}

// parse parses the text format. In files, repeated equal header lines, the type
// "unknown" and invalid HELP texts are accepted. In pushes they are errors.
func parse(data []byte, limits Limits, utf8Names, lenient bool) (*Families, error) {
	return ParseWith(nil, string(data), limits, utf8Names, lenient)
}

// ParseWith is parse with a buffer for labels. The caller may reuse it when the
// result is not used any more.
func ParseWith(slab *[]Label, data string, limits Limits, utf8Names, lenient bool) (*Families, error) {
	p := parser{limits: limits, utf8Names: utf8Names, lenient: lenient, openMetrics: lenient && endsInEOF(data)}
	p.out.ByName = make(map[string]*RawFamily)
	if slab != nil {
		p.slab = (*slab)[:0]
		defer func() { *slab = p.slab }()
	}
	return p.parse(data)
}

// parse reads the text to its end.
func (p *parser) parse(data string) (*Families, error) {
	if err := p.run(data); err != nil {
		return nil, err
	}
	if err := p.timestamps(); err != nil {
		return nil, err
	}
	if len(p.out.points) > 0 || len(p.out.units) > 0 {
		if err := p.points(); err != nil {
			return nil, err
		}
	}
	// A family without samples neither creates nor replaces a family.
	p.out.List = slices.DeleteFunc(p.out.List, func(f *RawFamily) bool {
		if len(f.Samples) > 0 {
			return false
		}
		delete(p.out.ByName, f.Name)
		return true
	})
	return &p.out, nil
}

// parser parses text line by line. Its strings are parts of the text, except those
// with escapes.
type parser struct {
	limits    Limits
	utf8Names bool
	lenient   bool
	// openMetrics is true for a text in OpenMetrics, see openmetrics.go.
	openMetrics bool

	out  Families
	last *RawFamily // of the previous sample
	line int
	text string  // the line
	rest string  // the unread part of the line
	slab []Label // labels are cut from here

	kind, name string // subject of the line, for errors
	faults     faults
	reserved   *SyntaxError // a label of the line that is reserved
}

func (p *parser) fail(msg string) error {
	return p.failf(Syntax, "%s", msg)
}

func (p *parser) failf(r Reason, format string, args ...any) error {
	return fault(p.line, r, p.kind, p.name, format, args...)
}

const timestampMsg = "samples must not have timestamps: Prometheus uses the time of the scrape; push the time as a value of its own instead"

// timestamps returns the error for a text whose samples have timestamps. It is
// returned at the end of the text, because a push counts as failed only if all of it
// could be read.
func (p *parser) timestamps() error {
	if p.out.timestamp == 0 {
		return nil
	}
	e := fault(p.out.timestamp, Timestamp, "metric", p.out.stamped, "invalid timestamp %s: "+timestampMsg, token(p.out.stamp))
	e.Decoded = true
	return e
}

// ByteOrderMark is skipped where a text begins with it.
const ByteOrderMark = "\uFEFF"

func (p *parser) run(s string) error {
	s = strings.TrimPrefix(s, ByteOrderMark)
	if s == "" {
		return nil
	}
	if err := notText(s, p.lenient); err != nil {
		return err
	}
	valid := utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
	for s != "" {
		p.line++
		end := strings.IndexByte(s, '\n')
		if end < 0 {
			if strings.Trim(s, " \t") == "" {
				break
			}
			p.name = ""
			if err := p.faulty(p.unended(s)); err != nil {
				return err
			}
			break
		}
		p.text = strings.TrimSuffix(s[:end], "\r")
		s = s[end+1:]
		if err := p.oneLine(valid); err != nil {
			if err = p.faulty(err); err != nil {
				return err
			}
		}
	}
	if len(p.faults.list) > 0 && p.out.timestamp > 0 {
		p.faults.add(p.timestamps().(*SyntaxError))
	}
	return p.faults.err()
}

// faulty records a fault of a push. It returns an error if parsing has to stop, as
// after the first fault of a file.
func (p *parser) faulty(err error) error {
	e := err.(*SyntaxError)
	if p.lenient {
		return e
	}
	if more := p.faults.add(e); !more || e.Reason == TooLarge {
		p.faults.unlisted = p.faults.unlisted || e.Reason == TooLarge && len(p.faults.list) > 1
		return p.faults.err()
	}
	return nil
}

// oneLine parses one line.
func (p *parser) oneLine(valid bool) error {
	p.rest, p.name, p.reserved = p.text, "", nil
	p.blanks()
	switch {
	case p.rest == "":
		return nil
	case p.rest[0] == '#':
		return p.comment(p.text, valid)
	case !valid && !utf8.ValidString(p.text):
		return p.notUTF8()
	case !valid && strings.IndexByte(p.text, 0) >= 0:
		return p.failf(Encoding, nulBytes)
	}
	return p.sample()
}

func (p *parser) blanks() {
	i := 0
	for i < len(p.rest) && (p.rest[i] == ' ' || p.rest[i] == '\t') {
		i++
	}
	p.rest = p.rest[i:]
}

// token cuts off the text before the next space.
func (p *parser) token() string {
	i := strings.IndexAny(p.rest, " \t")
	if i < 0 {
		i = len(p.rest)
	}
	t := p.rest[:i]
	p.rest = p.rest[i:]
	return t
}

func (p *parser) comment(line string, valid bool) error {
	if text, ok := strings.CutPrefix(line, DirectivePrefix); ok && (valid || utf8.ValidString(line)) {
		key, text, _ := strings.Cut(text, " ")
		if key == om2Directive {
			p.out.points = append(p.out.points, rawLine{line: p.line, text: text})
			return nil
		}
		p.out.Directives = append(p.out.Directives, Directive{key, text})
		return nil
	}
	p.rest = p.rest[1:]
	p.blanks()
	key := p.token()
	if key == "UNIT" {
		return p.unitLine()
	}
	if key != "HELP" && key != "TYPE" {
		return nil
	}
	p.blanks()
	if p.rest == "" {
		return nil // a comment that happens to begin with that word
	}
	name, err := p.metricName()
	if err != nil {
		return err
	}
	if p.rest != "" && p.rest[0] != ' ' && p.rest[0] != '\t' {
		return p.failf(Syntax, "invalid metric name %s in the %s line: %s", token(name+p.token()), key, p.nameRule())
	}
	p.kind, p.name = "family", name
	p.blanks()
	if p.rest == "" {
		return nil // no text or type
	}
	f := p.family(name)
	if key == "HELP" {
		return p.help(f, valid)
	}
	return p.typeLine(f)
}

func (p *parser) help(f *RawFamily, valid bool) error {
	text, err := p.unescapeHelp()
	if err != nil {
		return err
	}
	if !valid && (!utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0) {
		if !p.lenient {
			return p.failf(Encoding, "the HELP text is not UTF-8 text: %s", p.firstInvalid(text))
		}
		text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	}
	if len(text) > MaxHelp {
		if !p.lenient {
			return p.failf(TooLarge, "the HELP text has %d bytes, and the limit is %d: shorten it", len(text), MaxHelp)
		}
		text = cutHelp(text)
	}
	if f.helpSeen && (!p.lenient || f.help != text) {
		return p.fail("second HELP line: write one for each family")
	}
	f.help, f.helpSeen = text, true
	return nil
}

func (p *parser) unescapeHelp() (string, error) {
	s := p.rest
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			i++
			if i == len(s) {
				return "", p.fail(`the HELP text ends in a single backslash: write it as \\`)
			}
			switch s[i] {
			case '\\', '"':
				c = s[i]
			case 'n':
				c = '\n'
			default:
				return "", p.failf(Syntax, `invalid escape %s in the HELP text: only \\, \n and \" are known; write a backslash as \\`, token(s[i-1:i+1]))
			}
		}
		b = append(b, c)
	}
	return string(b), nil
}

func (p *parser) typeLine(f *RawFamily) error {
	word := strings.TrimRight(p.rest, " \t")
	var t Type
	gauge := false
	switch strings.ToLower(word) {
	case "counter":
		if t = Counter; p.openMetrics {
			f.suffix = "_total"
		}
	case "gauge":
		t = Gauge
	case "untyped":
		t = Untyped
	case "summary":
		t = Summary
	case "histogram":
		t = Histogram
	case "info", "stateset":
		if !p.keepsExemplars() {
			return p.failf(Syntax, "invalid type %s: only OpenMetrics has it; use gauge", token(word))
		}
		if t = Gauge; word == "info" {
			f.suffix = "_info"
		}
	case "gaugehistogram", "gauge_histogram":
		if p.lenient && !p.openMetrics {
			return p.failf(Syntax, "invalid type %s: only OpenMetrics has it; end the file with # EOF, or use gauges", token(word))
		}
		t, gauge = Histogram, true
	case "unknown":
		if p.lenient || p.openMetrics {
			t = Untyped
			break
		}
		fallthrough
	default:
		return p.badType(word)
	}
	if f.Typ != Unstated && (!p.lenient || f.Typ != t || f.gauge != gauge) {
		return p.failf(Syntax, "second TYPE line: the type is %s already; write one for each family", f.kind())
	}
	if len(f.Samples) > 0 && f.Typ != t {
		return p.fail("the TYPE line comes after samples of its family: write it before them")
	}
	f.Typ, f.gauge = t, gauge
	return nil
}

// family returns the family of that name.
func (p *parser) family(name string) *RawFamily {
	f := p.out.ByName[name]
	if f == nil {
		f = &RawFamily{Name: name}
		p.out.ByName[name] = f
		p.out.List = append(p.out.List, f)
	}
	return f
}

// familyOf returns the family of a sample: the one of the same name, or else the
// histogram or summary that it is part of.
func (p *parser) familyOf(name string) *RawFamily {
	if p.last != nil && p.last.Name == name {
		return p.last
	}
	if f := p.out.ByName[name]; f != nil {
		return f
	}
	for _, suffix := range [...]string{"_bucket", "_sum", "_count"} {
		base, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		if f := p.out.ByName[base]; f != nil && (f.Typ == Histogram || f.Typ == Summary && suffix != "_bucket") {
			return f
		}
	}
	if f := p.gaugeHistogram(name); f != nil {
		return f
	}
	if f := p.sampleFamily(name); f != nil {
		return f
	}
	return p.family(name)
}

// ParseFile parses the text of a file. Repeated equal header lines, the type
// "unknown" and invalid HELP texts are accepted. Errors do not quote the text, because
// their readers may not be allowed to read the file.
func ParseFile(data []byte) (*Families, error) {
	f, err := parse(data, FileLimits, true, true)
	if bad, ok := err.(*SyntaxError); ok {
		bad.Detail = ""
	}
	return f, err
}

// metricName cuts a name off the front of the line, quoted or not.
func (p *parser) metricName() (string, error) {
	if p.rest[0] == '"' {
		name, err := p.quoted("metric name", token(""))
		if err != nil {
			return "", err
		}
		return name, p.checkName(name)
	}
	i := 0
	for i < len(p.rest) && NameByte(p.rest[i], i, true) {
		i++
	}
	if i == 0 {
		return "", p.noName()
	}
	name := p.rest[:i]
	p.rest = p.rest[i:]
	return name, nil
}

func (p *parser) checkName(name string) error {
	if name == "" {
		return p.fail("the metric name is empty: write a name before the labels")
	}
	if !p.utf8Names && !model.LegacyValidation.IsValidMetricName(name) {
		return p.failf(Syntax, "invalid metric name %s: %s", token(name), p.nameRule())
	}
	return nil
}

// NameByte reports whether c may stand at position i of a plain name.
func NameByte(c byte, i int, colon bool) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == ':' && colon || '0' <= c && c <= '9' && i > 0
}

// quoted cuts a quoted string off the front of the line. It is the name, or the value of
// a label of that name.
func (p *parser) quoted(what string, of any) (string, error) {
	s := p.rest[1:]
	end := strings.IndexAny(s, `"\`)
	if end >= 0 && s[end] == '"' {
		p.rest = s[end+1:]
		return s[:end], nil
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			p.rest = s[i+1:]
			return string(b), nil
		case '\\':
			if i++; i == len(s) {
				return "", p.failf(Syntax, "the quotes around the %s %s are not closed: end it with a quote on the same line", what, of)
			}
			switch s[i] {
			case '\\', '"':
				b = append(b, s[i])
			case 'n':
				b = append(b, '\n')
			default:
				return "", p.failf(Syntax, `invalid escape %s in the %s %s: only \\, \n and \" are known; write a backslash as \\`, token(s[i-1:i+1]), what, of)
			}
		default:
			b = append(b, c)
		}
	}
	return "", p.failf(Syntax, "the quotes around the %s %s are not closed: end it with a quote on the same line", what, of)
}

func (p *parser) sample() error {
	var name string
	var err error
	if p.rest[0] != '{' {
		if name, err = p.metricName(); err != nil {
			return err
		}
		p.kind, p.name = "metric", name
		p.blanks()
	}
	var labels []Label
	if p.rest != "" && p.rest[0] == '{' && !isComposite(p.rest) {
		if name, labels, err = p.labels(name); err != nil {
			return err
		}
		if name == "" {
			return p.fail("the sample has labels but no metric name: write it before the braces")
		}
	}
	p.kind, p.name = "metric", name
	value, err := p.value()
	if err != nil {
		return err
	}
	if p.reserved != nil {
		return p.reserved
	}
	var more *dto.Exemplar
	if p.rest != "" {
		if more, err = p.exemplar(); err != nil {
			return err
		}
	}
	if is, err := p.created(name, labels, value); is {
		return err
	}
	if p.out.series++; p.limits.Series > 0 && p.out.series > p.limits.Series {
		return p.failf(TooLarge, "%s", p.limits.samples())
	}
	f := p.familyOf(name)
	p.last = f
	f.Samples = append(f.Samples, Sample{Name: name, Labels: labels, Value: value, line: p.line})
	if more != nil {
		return p.keepExemplar(f, name, labels, more)
	}
	return nil
}

func (p *parser) value() (float64, error) {
	p.blanks()
	before := len(p.text) - len(p.rest)
	word := p.token()
	v, err := ParseFloat(word)
	if err != nil {
		if isComposite(word) {
			return 0, p.failf(Syntax, "invalid value %s: values in braces are of OpenMetrics 2.0; push OpenMetrics 1.0 or protobuf", token(word))
		}
		return 0, p.badValue(before, word)
	}
	p.blanks()
	if p.rest == "" || p.rest[0] == '#' && p.keepsExemplars() {
		return v, nil
	}
	stamp := p.token()
	if _, err := strconv.ParseInt(stamp, 10, 64); err != nil {
		if _, err := ParseFloat(stamp); err != nil || !p.openMetrics {
			return 0, p.badEnd(before + len(word))
		}
	}
	p.blanks()
	if p.rest != "" && (p.rest[0] != '#' || !p.keepsExemplars()) {
		return 0, p.badEnd(len(p.text) - len(p.rest))
	}
	if p.out.timestamp == 0 {
		p.out.timestamp, p.out.stamped, p.out.stamp = p.line, p.name, stamp
	}
	return v, nil
}

// labels parses a set of labels in braces, which may begin with the quoted name
// of the metric. The set is cut from the slab.
func (p *parser) labels(name string) (string, []Label, error) {
	p.rest = p.rest[1:]
	if cap(p.slab)-len(p.slab) < 16 {
		p.slab = make([]Label, 0, max(64, min(4096, 2*cap(p.slab))))
	}
	from := len(p.slab)
	for {
		p.blanks()
		if p.rest == "" {
			return "", nil, p.fail("the braces are not closed: end the labels with }")
		}
		if p.rest[0] == '}' {
			p.rest = p.rest[1:]
			break
		}
		label, isName, err := p.label()
		if err != nil {
			return "", nil, err
		}
		switch {
		case isName && name != "":
			return "", nil, p.failf(Syntax, "the sample has a second metric name %s", token(label.Name))
		case isName:
			name = label.Name
		default:
			for _, l := range p.slab[from:] {
				if l.Name == label.Name {
					return "", nil, p.failf(Syntax, "label %s is given twice", token(l.Name))
				}
			}
			p.slab = append(p.slab, label)
			if p.limits.Labels > 0 && len(p.slab)-from > p.limits.Labels {
				return "", nil, p.failf(TooLarge, "the sample has %s", p.limits.labels())
			}
		}
		p.blanks()
		if p.rest == "" || p.rest[0] != ',' && p.rest[0] != '}' {
			return "", nil, p.badAfterLabel(label.Name)
		}
		if p.rest[0] == ',' {
			p.rest = p.rest[1:]
		}
	}
	return name, p.slab[from:len(p.slab):len(p.slab)], nil
}

// label parses one label, or the quoted metric name.
func (p *parser) label() (l Label, isName bool, err error) {
	if p.rest[0] == '"' {
		if l.Name, err = p.quoted("name", token("")); err != nil {
			return l, false, err
		}
		p.blanks()
		if p.rest != "" && (p.rest[0] == ',' || p.rest[0] == '}') {
			return l, true, p.checkName(l.Name)
		}
		if l.Name == "" {
			return l, false, p.fail("a label name is empty: write a name before the equals sign")
		}
		if !p.utf8Names && !model.LegacyValidation.IsValidLabelName(l.Name) {
			return l, false, p.failf(Syntax, "invalid label name %s: %s", token(l.Name), labelRule)
		}
	} else {
		i := 0
		for i < len(p.rest) && NameByte(p.rest[i], i, false) {
			i++
		}
		if i == 0 {
			return l, false, p.badLabelName("")
		}
		l.Name = p.rest[:i]
		p.rest = p.rest[i:]
		p.blanks()
		if p.rest != "" && (p.rest[0] == ',' || p.rest[0] == '}') {
			return l, true, nil // expfmt reads it as the metric's name, without the quotes
		}
	}
	if p.rest == "" || p.rest[0] != '=' {
		return l, false, p.badLabelName(l.Name)
	}
	p.rest = p.rest[1:]
	p.blanks()
	if p.rest == "" || p.rest[0] != '"' {
		return l, false, p.failf(Syntax, "the value %s of label %s is not in quotes: write it in double quotes", token(p.bare()), token(l.Name))
	}
	if l.Value, err = p.quoted("value of label", token(l.Name)); err != nil {
		return l, false, err
	}
	return l, false, p.checkLabel(l)
}

func (p *parser) checkLabel(l Label) error {
	switch {
	case strings.HasPrefix(l.Name, "__"):
		if p.reserved == nil { // whether the push can be decoded depends on the rest
			p.reserved = p.reservedLabel(l.Name)
		}
	case p.limits.LabelName > 0 && len(l.Name) > p.limits.LabelName:
		return p.failf(TooLarge, "label name %s is %s", token(l.Name), p.limits.nameBytes())
	case p.limits.LabelValue > 0 && len(l.Value) > p.limits.LabelValue:
		return p.failf(TooLarge, "the value of label %s is %s", token(l.Name), p.limits.valueBytes())
	}
	return nil
}
