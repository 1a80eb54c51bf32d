package record

import (
	"strings"
	"unicode/utf8"
	"unique"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
)

// scanPushed reads a file in the form that Encode writes. It is several times as
// fast as the parser, for a start with many groups. If the file deviates from that
// form or has histograms or escapes, ok is false, and the parser has to read it.
func scanPushed(name, data string) (c *Content, ok bool) {
	line, rest, _ := strings.Cut(data, "\n")
	set, isGroup := strings.CutPrefix(line, exposition.DirectivePrefix+exposition.GroupDirective+" ")
	if !isGroup || !utf8.ValidString(data) || strings.IndexByte(data, 0) >= 0 {
		return nil, false
	}
	lines := strings.Count(rest, "\n") // a family takes three, or two
	s := scanner{rest: rest, parts: make([]exposition.Part, 0, lines/3+1), hashes: make([]uint64, 0, lines/2)}
	if !s.attributes() {
		return nil, false
	}
	for s.rest != "" {
		if !s.family() {
			return nil, false
		}
	}
	g, ok := grouping.Scan(set, name)
	if !ok || len(s.parts) == 0 {
		return nil, false
	}
	var err error
	stored := askedHelp(s.parts, s.help)
	c = newContent(&ID{PushedKind, name}, s.parts, len(s.hashes))
	c.File.group, c.File.attrs, c.File.stored = g, s.attrs, stored
	if c.File.age, err = ageFrom(s.attrs, string(s.withheld)); err != nil {
		return nil, false
	}
	if text, ok := s.attrs.get(ttlAttribute); ok {
		if _, err := ParseTTL(text); err != nil {
			return nil, false
		}
	}
	return c, true
}

type scanner struct {
	rest     string
	attrs    Attributes
	help     []exposition.Directive
	withheld []byte
	parts    []exposition.Part
	hashes   []uint64
	scratch  []byte
	last     string // the name of the family before
}

// line cuts a line off that begins with a prefix, and returns what follows it.
func (s *scanner) line(prefix string) (string, bool) {
	after, ok := strings.CutPrefix(s.rest, prefix)
	end := strings.IndexByte(after, '\n')
	if !ok || end < 0 {
		return "", false
	}
	s.rest = after[end+1:]
	return after[:end], true
}

// attributes reads the attributes of the group.
func (s *scanner) attributes() bool {
	for {
		text, ok := s.line(exposition.DirectivePrefix)
		if !ok {
			return true
		}
		key, value, _ := strings.Cut(text, " ")
		n := len(s.attrs)
		if key == helpDirective && !strings.HasSuffix(text, "\r") {
			s.help = append(s.help, exposition.Directive{Key: key, Text: value})
			continue
		}
		if key == withheldDirective && !strings.HasSuffix(text, "\r") {
			s.withheld = append(append(s.withheld, value...), '\n')
			continue
		}
		if len(s.withheld) > 0 || !isAttribute(key) || strings.HasSuffix(text, "\r") || n > 0 && s.attrs[n-1].key > key {
			return false
		}
		s.attrs = append(s.attrs, attribute{strings.Clone(key), strings.Clone(value)}) // the bytes of the file can be freed
	}
}

func (s *scanner) family() bool {
	var d exposition.Desc
	helpName, hasHelp := "", false
	if text, ok := s.line("# HELP "); ok {
		if helpName, d.Help, ok = strings.Cut(text, " "); !ok || !plainHelp(d.Help) {
			return false
		}
		hasHelp = true
	}
	text, ok := s.line("# TYPE ")
	name, typ, _ := strings.Cut(text, " ")
	if !ok || hasHelp && helpName != name || name <= s.last || !exposition.PlainName(name) {
		return false
	}
	d.Name, s.last = name, name
	switch typ {
	case "untyped":
		d.Typ = exposition.Untyped
	case "counter":
		d.Typ = exposition.Counter
	case "gauge":
		d.Typ = exposition.Gauge
	default:
		return false
	}
	// No family may have the name of a part of another. Files with histograms go to
	// the parser, so every such suffix is suspect.
	start, from := s.rest, len(s.hashes)
	last, first := "", true
	for s.rest != "" && s.rest[0] != '#' {
		base, ok := s.sample(name)
		if !ok || !first && base <= last {
			return false
		}
		last, first = base, false
		s.hashes = append(s.hashes, exposition.IdentityHash(name, base))
	}
	if first {
		return false
	}
	s.parts = append(s.parts, exposition.Part{
		Desc:   unique.Make(d),
		Text:   start[:len(start)-len(s.rest)],
		Hashes: s.hashes[from:len(s.hashes):len(s.hashes)],
	})
	return true
}

func plainHelp(s string) bool {
	return s != "" && len(s) <= exposition.MaxHelp && s[0] != ' ' && s[0] != '\t' && strings.IndexByte(s, '\\') < 0 && s[len(s)-1] != '\r'
}

// sample cuts off a sample line of the family and returns its label set.
func (s *scanner) sample(name string) (base string, ok bool) {
	line, ok := s.line(name)
	if !ok || line == "" {
		return "", false
	}
	if line[0] == '{' {
		n := exposition.ScanLabels(line)
		if n == 0 {
			return "", false
		}
		base, line = line[:n], line[n:]
	}
	if len(line) < 2 || line[0] != ' ' {
		return "", false
	}
	return base, s.canonicalValue(line[1:])
}

// canonicalValue reports whether text is how AppendValue writes a number. The form
// of the text mostly decides it.
func (s *scanner) canonicalValue(text string) bool {
	if looksShortest(text) {
		return true
	}
	v, err := exposition.ParseFloat(text)
	if err != nil {
		return false
	}
	s.scratch = exposition.AppendValue(s.scratch[:0], v)
	return string(s.scratch) == text
}

// looksShortest reports whether text is certainly the shortest form of a number. It
// has at most 15 digits, because then no other such number is the same float, no
// redundant zero at either end, and an exponent from a million on, as in %g.
func looksShortest(text string) bool {
	text = strings.TrimPrefix(text, "-")
	whole := leadingDigits(text)
	if whole == 0 || whole > 6 || text[0] == '0' && whole > 1 {
		return false
	}
	zero, rest, digits := text[0] == '0', text[whole:], whole
	if strings.HasPrefix(rest, ".") {
		n := leadingDigits(rest[1:])
		fraction := rest[1 : 1+n]
		if n == 0 || fraction[n-1] == '0' || zero && strings.HasPrefix(fraction, "0000") {
			return false
		}
		rest, digits = rest[1+n:], digits+n
	}
	switch {
	case digits > 15:
		return false
	case rest == "":
		return true
	}
	return whole == 1 && !zero && len(rest) == 4 && rest[:2] == "e+" && leadingDigits(rest[2:]) == 2 && rest[2:] >= "06"
}

func leadingDigits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}
