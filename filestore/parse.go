package filestore

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Parse reads a push in the text format 0.0.4. Names outside of
// [a-zA-Z_:][a-zA-Z0-9_:]* are accepted, in quotes, only if utf8Names is set.
// Errors are of type *SyntaxError. A body whose only fault are timestamps gives
// an error with the reason Timestamp. Nothing of data is kept.
func Parse(data []byte, limits Limits, utf8Names bool) (*Families, error) {
	return parse(data, limits, utf8Names, false)
}

// parse reads the text format. Files are read leniently: repeated equal header
// lines, the type "unknown" and broken HELP texts cost nothing there, while the
// sender of a push is told.
func parse(data []byte, limits Limits, utf8Names, lenient bool) (*Families, error) {
	return parseWith(nil, string(data), limits, utf8Names, lenient)
}

// parseWith is parse with room for labels that the caller may use again once it
// is done with the result.
func parseWith(slab *[]Label, data string, limits Limits, utf8Names, lenient bool) (*Families, error) {
	p := parser{limits: limits, utf8Names: utf8Names, lenient: lenient}
	p.out.byName = make(map[string]*rawFamily)
	if slab != nil {
		p.slab = (*slab)[:0]
		defer func() { *slab = p.slab }()
	}
	if err := p.run(data); err != nil {
		return nil, err
	}
	if p.out.timestamp > 0 {
		return nil, &SyntaxError{Line: p.out.timestamp, Reason: Timestamp, Decoded: true, Msg: "samples must not have timestamps: Prometheus takes the time of the scrape; push the time as a value of its own instead"}
	}
	// What has no samples says nothing: it neither makes nor replaces a family.
	p.out.list = slices.DeleteFunc(p.out.list, func(f *rawFamily) bool {
		if len(f.samples) > 0 {
			return false
		}
		delete(p.out.byName, f.name)
		return true
	})
	return &p.out, nil
}

// parser reads line by line. All strings it yields are parts of the one string
// that it reads, but for those that contain escapes.
type parser struct {
	limits    Limits
	utf8Names bool
	lenient   bool

	out  Families
	last *rawFamily // of the previous sample
	line int
	rest string  // what is left of the line
	slab []Label // labels are cut from here
}

func (p *parser) fail(msg string) error {
	return &SyntaxError{Line: p.line, Reason: Syntax, Msg: msg}
}

func (p *parser) failf(r Reason, format string, args ...any) error {
	return &SyntaxError{Line: p.line, Reason: r, Msg: fmt.Sprintf(format, args...)}
}

const byteOrderMark = "\uFEFF"

func (p *parser) run(s string) error {
	s = strings.TrimPrefix(s, byteOrderMark)
	if s == "" {
		return nil
	}
	if err := notText(s); err != nil {
		return err
	}
	valid := utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
	for s != "" {
		p.line++
		end := strings.IndexByte(s, '\n')
		if end < 0 {
			if strings.Trim(s, " \t") == "" {
				return nil
			}
			return p.failf(Incomplete, "the last line does not end in a newline, so its writer may have died in the middle of it")
		}
		line := strings.TrimSuffix(s[:end], "\r")
		s = s[end+1:]
		p.rest = line
		p.blanks()
		switch {
		case p.rest == "":
			continue
		case p.rest[0] == '#':
			if err := p.comment(line, valid); err != nil {
				return err
			}
			continue
		case !valid && !utf8.ValidString(line):
			return p.failf(Encoding, "the line is not UTF-8 text")
		case !valid && strings.IndexByte(line, 0) >= 0:
			return p.failf(Encoding, "the line contains a NUL byte")
		}
		if err := p.sample(); err != nil {
			return err
		}
	}
	return nil
}

// notText recognises by their first bytes what is no text at all, so that the
// error can say so.
func notText(s string) error {
	kind := ""
	switch {
	case strings.HasPrefix(s, "\x1f\x8b"):
		kind = "gzip data"
	case strings.HasPrefix(s, "\x28\xb5\x2f\xfd"):
		kind = "zstd data"
	case strings.HasPrefix(s, "\xff\xfe"), strings.HasPrefix(s, "\xfe\xff"):
		kind = "UTF-16 text"
	case s[0] == 0:
		kind = "NUL bytes, as a crash leaves them"
	case len(s) > 1 && s[1] == 0:
		kind = "UTF-16 text"
	default:
		return nil
	}
	return &SyntaxError{Line: 1, Reason: Encoding, Msg: "not in the text format, but " + kind}
}

func (p *parser) blanks() {
	i := 0
	for i < len(p.rest) && (p.rest[i] == ' ' || p.rest[i] == '\t') {
		i++
	}
	p.rest = p.rest[i:]
}

// token cuts off what stands before the next blank.
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
	if text, ok := strings.CutPrefix(line, directivePrefix); ok && (valid || utf8.ValidString(line)) {
		key, text, _ := strings.Cut(text, " ")
		p.out.directives = append(p.out.directives, directive{key, text})
		return nil
	}
	p.rest = p.rest[1:]
	p.blanks()
	key := p.token()
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
		return p.failf(Syntax, "the %s line has an invalid metric name", key)
	}
	p.blanks()
	if p.rest == "" {
		return nil // neither a text nor a type: says nothing
	}
	f := p.family(name)
	if key == "HELP" {
		return p.help(f, valid)
	}
	return p.typeLine(f)
}

func (p *parser) help(f *rawFamily, valid bool) error {
	text, err := p.unescapeHelp()
	if err != nil {
		return err
	}
	if !valid && (!utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0) {
		if !p.lenient {
			return p.failf(Encoding, "the HELP text is not UTF-8")
		}
		text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	}
	if f.helpSeen && (!p.lenient || f.help != text) {
		return p.fail("a second HELP line for the same metric")
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
				return "", p.fail("the HELP text ends in a lone backslash")
			}
			switch s[i] {
			case '\\', '"':
				c = s[i]
			case 'n':
				c = '\n'
			default:
				return "", p.fail(`the HELP text has a backslash that begins no known escape (\\, \n, \")`)
			}
		}
		b = append(b, c)
	}
	return string(b), nil
}

func (p *parser) typeLine(f *rawFamily) error {
	word := strings.TrimRight(p.rest, " \t")
	var t Type
	switch strings.ToLower(word) {
	case "counter":
		t = Counter
	case "gauge":
		t = Gauge
	case "untyped":
		t = Untyped
	case "summary":
		t = Summary
	case "histogram":
		t = Histogram
	case "gaugehistogram", "gauge_histogram":
		return p.fail("gauge histograms cannot be kept in the text format; use plain gauges")
	case "unknown":
		if p.lenient {
			t = Untyped
			break
		}
		fallthrough
	default:
		return p.fail("unknown metric type; the text format has counter, gauge, histogram, summary and untyped")
	}
	if f.typ != Unstated && (!p.lenient || f.typ != t) {
		return p.fail("a second TYPE line for the same metric")
	}
	if len(f.samples) > 0 && f.typ != t {
		return p.fail("the TYPE line comes after samples of its metric")
	}
	f.typ = t
	return nil
}

// family returns the family of exactly that name.
func (p *parser) family(name string) *rawFamily {
	f := p.out.byName[name]
	if f == nil {
		f = &rawFamily{name: name}
		p.out.byName[name] = f
		p.out.list = append(p.out.list, f)
	}
	return f
}

// familyOf returns the family to which a sample of that name belongs: that of
// its own name, or else the histogram or summary whose part it is.
func (p *parser) familyOf(name string) *rawFamily {
	if p.last != nil && p.last.name == name {
		return p.last
	}
	if f := p.out.byName[name]; f != nil {
		return f
	}
	for _, suffix := range [...]string{"_bucket", "_sum", "_count"} {
		base, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		if f := p.out.byName[base]; f != nil && (f.typ == Histogram || f.typ == Summary && suffix != "_bucket") {
			return f
		}
	}
	return p.family(name)
}

// parseLenient reads the text of a file: repeated equal header lines, the type
// "unknown" and broken HELP texts cost nothing there.
func parseLenient(data []byte) (*Families, error) { return parse(data, fileLimits, true, true) }
