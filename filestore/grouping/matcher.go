package grouping

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/exposition"
)

// A Matcher is a condition on one label of a grouping key, as in a selector of
// PromQL. A missing label is the same as an empty one. Matchers are immutable and
// safe for concurrent use.
type Matcher struct {
	name, value string
	re          *regexp.Regexp // of =~ and !~, anchored
	not         bool           // != and !~
}

// Matchers are conditions that a group must meet, all of them.
type Matchers []*Matcher

// ParseMatchers parses matchers in the syntax of Prometheus' match[], promtool and
// amtool: {job="backup",instance=~"db.+"}, with or without the braces, with the
// operators = != =~ !~ and Go's three kinds of quotes. Regular expressions are RE2
// and anchored at both ends, and a dot matches newlines, as in Prometheus. Values of
// plain characters need no quotes, as in job=backup. An empty list is an error, so
// that no command selects every group by mistake; use {job!=""} for that.
//
// Groups have no metric name, so a selector with one is an error, too.
func ParseMatchers(s string) (Matchers, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("matcher %q is not UTF-8", s)
	}
	p := matcherParser{rest: s}
	matchers, err := p.matchers()
	if err != nil {
		return nil, fmt.Errorf("matcher %s: %w at position %d", QuoteShort(s), err, len(s)-len(p.rest)+1)
	}
	if len(matchers) == 0 {
		return nil, fmt.Errorf(`matcher %q names no label: at least one condition such as job="backup" is needed`, s)
	}
	return matchers, nil
}

// Match reports whether the group meets all conditions. The zero Key, that of a
// dropped file, meets none.
func (ms Matchers) Match(g Key) bool {
	if g.IsZero() {
		return false
	}
	labels := g.Labels()
	return !slices.ContainsFunc(ms, func(m *Matcher) bool { return !m.matches(labels) })
}

// String returns the matchers in the form that ParseMatchers reads, in braces.
func (ms Matchers) String() string {
	b := []byte{'{'}
	for i, m := range ms {
		if i > 0 {
			b = append(b, ',')
		}
		b = m.appendTo(b)
	}
	return string(append(b, '}'))
}

func (m *Matcher) matches(labels []exposition.Label) bool {
	value := ""
	for _, l := range labels {
		if l.Name == m.name {
			value = l.Value
			break
		}
	}
	if m.re != nil {
		return m.re.MatchString(value) != m.not
	}
	return (value == m.value) != m.not
}

func (m *Matcher) appendTo(b []byte) []byte {
	if model.LegacyValidation.IsValidLabelName(m.name) {
		b = append(b, m.name...)
	} else {
		b = strconv.AppendQuote(b, m.name)
	}
	switch {
	case m.re == nil && !m.not:
		b = append(b, '=')
	case m.re == nil:
		b = append(b, "!="...)
	case m.not:
		b = append(b, "!~"...)
	default:
		b = append(b, "=~"...)
	}
	return strconv.AppendQuote(b, m.value)
}

// ParseGroup parses a group such as job=backup,instance=db1, with or without braces,
// with values as for ParseMatchers. It accepts the output of [Key.Name].
func ParseGroup(s string) (Key, error) {
	if s != "" && !strings.ContainsAny(s, "={}!~\"") {
		return Key{}, fmt.Errorf("a group has the form job=backup,instance=db1: %s has no label name; write it as job=NAME", QuoteShort(s))
	}
	ms, err := ParseMatchers(s)
	if err != nil {
		return Key{}, fmt.Errorf("a group has the form job=backup,instance=db1: %w", err)
	}
	labels := make([]exposition.Label, 0, len(ms))
	for _, m := range ms {
		if m.re != nil || m.not {
			return Key{}, fmt.Errorf("invalid group %s: it is a selector; use only = and one value for each label", QuoteShort(s))
		}
		labels = append(labels, exposition.Label{Name: m.name, Value: m.value})
	}
	g, err := New(labels...)
	if err != nil {
		return Key{}, fmt.Errorf("invalid group %s: %w", QuoteShort(s), err)
	}
	return g, nil
}

// Name returns the group in the syntax of ParseGroup: without quotes and braces if
// all values are plain, else with both. It is one line of printable characters.
func (g Key) Name() string {
	labels := g.Labels()
	plain := func(s string) bool {
		return !strings.ContainsAny(s, notPlain) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	}
	b := []byte{}
	for i, l := range labels {
		if !plain(l.Value) || !model.LegacyValidation.IsValidLabelName(l.Name) {
			var ms Matchers
			for _, l := range labels {
				ms = append(ms, &Matcher{name: l.Name, value: l.Value})
			}
			return ms.String()
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, l.Name...), '='), l.Value...)
	}
	return string(b)
}

// notPlain are the characters that need quotes.
const notPlain = "{}!=~,\\\"'` \t\r\n"

// matcherParser parses a list of matchers. The parsers of Prometheus and
// Alertmanager would import large parts of these programs.
type matcherParser struct{ rest string }

func (p *matcherParser) blanks() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// take skips c and reports whether it was next.
func (p *matcherParser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	p.blanks()
	return true
}

func (p *matcherParser) matchers() (list Matchers, err error) {
	p.blanks()
	braces := p.take('{')
	for p.rest != "" && p.rest[0] != '}' {
		m, err := p.matcher()
		if err != nil {
			return nil, err
		}
		list = append(list, m)
		if !p.take(',') {
			break
		}
	}
	switch {
	case braces && p.rest == "":
		return nil, errors.New("the braces are not closed")
	case braces && !p.take('}'), p.rest != "":
		return nil, errors.New("expected a comma or the end")
	}
	return list, nil
}

func (p *matcherParser) matcher() (*Matcher, error) {
	m := &Matcher{}
	var err error
	if m.name, err = p.name(); err != nil {
		return nil, err
	}
	isRegexp := false
	switch {
	case strings.HasPrefix(p.rest, "=~"):
		isRegexp = true
	case strings.HasPrefix(p.rest, "!~"):
		isRegexp, m.not = true, true
	case strings.HasPrefix(p.rest, "!="):
		m.not = true
	case strings.HasPrefix(p.rest, "="):
		p.rest = p.rest[1:]
		p.blanks()
		m.value, err = p.value()
		return m, err
	case strings.HasPrefix(p.rest, "{"):
		return nil, errors.New("groups have no metric name: begin with the brace")
	default:
		return nil, errors.New("expected one of = != =~ !~ after a label name")
	}
	p.rest = p.rest[2:]
	p.blanks()
	at := p.rest
	if m.value, err = p.value(); err != nil {
		return nil, err
	}
	if isRegexp {
		// Compile it alone first, because a)|(b becomes valid within the anchors.
		if _, err = syntax.Parse(m.value, syntax.Perl); err == nil {
			m.re, err = regexp.Compile("^(?s:" + m.value + ")$")
		}
		if err != nil {
			p.rest = at
			return nil, fmt.Errorf("the regular expression is wrong (%s)", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
	}
	return m, nil
}

func (p *matcherParser) name() (name string, err error) {
	if p.rest[0] == '"' {
		if name, err = p.quoted(); err != nil {
			return "", err
		}
	} else {
		i := 0
		for i < len(p.rest) && exposition.NameByte(p.rest[i], i, false) {
			i++
		}
		name, p.rest = p.rest[:i], p.rest[i:]
		p.blanks()
	}
	switch {
	case name == "":
		return "", errors.New("expected a label name")
	case strings.HasPrefix(name, "__"):
		return "", fmt.Errorf("groups have no label %s", name)
	}
	return name, nil
}

func (p *matcherParser) value() (string, error) {
	if p.rest != "" && strings.IndexByte("\"'`", p.rest[0]) >= 0 {
		return p.quoted()
	}
	end := strings.IndexAny(p.rest, notPlain)
	if end < 0 {
		end = len(p.rest)
	}
	value := p.rest[:end]
	p.rest = p.rest[end:]
	p.blanks()
	switch {
	case value == "":
		return "", errors.New("expected a value in quotes")
	case p.rest != "" && p.rest[0] != ',' && p.rest[0] != '}':
		return "", errors.New("a value with more than plain characters has to be in quotes")
	}
	return value, nil
}

// quoted cuts off a string in any of the three kinds of quotes.
func (p *matcherParser) quoted() (string, error) {
	quote := p.rest[0]
	rest := p.rest[1:]
	if quote == '`' {
		value, rest, closed := strings.Cut(rest, "`")
		if !closed {
			return "", errors.New("the quotes are not closed")
		}
		p.rest = rest
		p.blanks()
		return value, nil
	}
	var b []byte
	for {
		switch {
		case rest == "":
			return "", errors.New("the quotes are not closed")
		case rest[0] == quote:
			if p.rest = rest[1:]; !utf8.Valid(b) {
				return "", errors.New("the escapes are not valid UTF-8")
			}
			p.blanks()
			return string(b), nil
		case rest[0] == '\n': // strconv accepts it in backquotes only
			return "", errors.New("a line ends within quotes")
		}
		c, multibyte, tail, err := strconv.UnquoteChar(rest, quote)
		if err != nil {
			p.rest = rest
			return "", errors.New(`a backslash begins no known escape (a backslash itself is \\)`)
		}
		if rest = tail; multibyte {
			b = utf8.AppendRune(b, c)
		} else {
			b = append(b, byte(c))
		}
	}
}

// QuoteShort quotes user input of any length, shortened.
func QuoteShort(s string) string {
	const most = 200
	if len(s) > most {
		return strconv.Quote(strings.ToValidUTF8(s[:most], "")) + "…"
	}
	return strconv.Quote(s)
}
