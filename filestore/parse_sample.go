package filestore

import (
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
)

// metricName cuts a name off the front of the line, quoted or not.
func (p *parser) metricName() (string, error) {
	if p.rest[0] == '"' {
		name, err := p.quoted("metric name")
		if err != nil {
			return "", err
		}
		return name, p.checkName(name)
	}
	i := 0
	for i < len(p.rest) && nameByte(p.rest[i], i, true) {
		i++
	}
	if i == 0 {
		return "", p.fail("the line does not begin with a metric name")
	}
	name := p.rest[:i]
	p.rest = p.rest[i:]
	return name, nil
}

func (p *parser) checkName(name string) error {
	if name == "" {
		return p.fail("the metric name is empty")
	}
	if !p.utf8Names && !model.LegacyValidation.IsValidMetricName(name) {
		return p.fail("the metric name is not [a-zA-Z_:][a-zA-Z0-9_:]*, and other names are not switched on")
	}
	return nil
}

// nameByte reports whether c may stand at position i of a plain name.
func nameByte(c byte, i int, colon bool) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == ':' && colon || '0' <= c && c <= '9' && i > 0
}

// quoted cuts a quoted string off the front of the line.
func (p *parser) quoted(what string) (string, error) {
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
				return "", p.failf(Syntax, "the quotes around a %s are not closed", what)
			}
			switch s[i] {
			case '\\', '"':
				b = append(b, s[i])
			case 'n':
				b = append(b, '\n')
			default:
				return "", p.failf(Syntax, `a %s has a backslash that begins no known escape (\\, \n, \")`, what)
			}
		default:
			b = append(b, c)
		}
	}
	return "", p.failf(Syntax, "the quotes around a %s are not closed", what)
}

func (p *parser) sample() error {
	var name string
	var err error
	if p.rest[0] != '{' {
		if name, err = p.metricName(); err != nil {
			return err
		}
		p.blanks()
	}
	var labels []Label
	if p.rest != "" && p.rest[0] == '{' {
		if name, labels, err = p.labels(name); err != nil {
			return err
		}
		if name == "" {
			return p.fail("the sample has labels but no metric name")
		}
	}
	value, err := p.value()
	if err != nil {
		return err
	}
	if p.out.series++; p.limits.Series > 0 && p.out.series > p.limits.Series {
		return p.failf(TooLarge, "%s", p.limits.samples())
	}
	f := p.familyOf(name)
	p.last = f
	f.samples = append(f.samples, sample{name: name, labels: labels, value: value, line: p.line})
	return nil
}

func (p *parser) value() (float64, error) {
	p.blanks()
	word := p.token()
	if word == "" {
		return 0, p.fail("the sample has no value")
	}
	v, err := parseFloat(word)
	if err != nil {
		return 0, p.fail("the value is not a number")
	}
	p.blanks()
	if p.rest == "" {
		return v, nil
	}
	if _, err := strconv.ParseInt(p.token(), 10, 64); err != nil {
		return 0, p.fail("something other than a number follows the value")
	}
	p.blanks()
	if p.rest != "" {
		return 0, p.fail("the line does not end after the value")
	}
	if p.out.timestamp == 0 {
		p.out.timestamp = p.line
	}
	return v, nil
}

// labels reads a set of labels in braces, which may begin with the quoted name
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
			return "", nil, p.fail("the braces are not closed")
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
			return "", nil, p.fail("the sample has two metric names")
		case isName:
			name = label.Name
		default:
			for _, l := range p.slab[from:] {
				if l.Name == label.Name {
					return "", nil, p.fail("a label is given twice")
				}
			}
			p.slab = append(p.slab, label)
			if p.limits.Labels > 0 && len(p.slab)-from > p.limits.Labels {
				return "", nil, p.failf(TooLarge, "a sample has %s", p.limits.labels())
			}
		}
		p.blanks()
		if p.rest == "" || p.rest[0] != ',' && p.rest[0] != '}' {
			return "", nil, p.fail("expected a comma or a closing brace after a label")
		}
		if p.rest[0] == ',' {
			p.rest = p.rest[1:]
		}
	}
	return name, p.slab[from:len(p.slab):len(p.slab)], nil
}

// label reads one label, or the quoted metric name.
func (p *parser) label() (l Label, isName bool, err error) {
	if p.rest[0] == '"' {
		if l.Name, err = p.quoted("name"); err != nil {
			return l, false, err
		}
		p.blanks()
		if p.rest != "" && (p.rest[0] == ',' || p.rest[0] == '}') {
			return l, true, p.checkName(l.Name)
		}
		if l.Name == "" {
			return l, false, p.fail("a label name is empty")
		}
		if !p.utf8Names && !model.LegacyValidation.IsValidLabelName(l.Name) {
			return l, false, p.fail("a label name is not [a-zA-Z_][a-zA-Z0-9_]*, and other names are not switched on")
		}
	} else {
		i := 0
		for i < len(p.rest) && nameByte(p.rest[i], i, false) {
			i++
		}
		if i == 0 {
			return l, false, p.fail("expected a label name")
		}
		l.Name = p.rest[:i]
		p.rest = p.rest[i:]
		p.blanks()
		if p.rest != "" && (p.rest[0] == ',' || p.rest[0] == '}') {
			return l, true, nil // expfmt takes it for the metric's name, without the quotes
		}
	}
	if p.rest == "" || p.rest[0] != '=' {
		return l, false, p.fail("expected an equals sign after a label name")
	}
	p.rest = p.rest[1:]
	p.blanks()
	if p.rest == "" || p.rest[0] != '"' {
		return l, false, p.fail("a label value is not in quotes")
	}
	if l.Value, err = p.quoted("label value"); err != nil {
		return l, false, err
	}
	return l, false, p.checkLabel(l)
}

func (p *parser) checkLabel(l Label) error {
	switch {
	case strings.HasPrefix(l.Name, "__"):
		return p.failf(Reserved, "a label name begins with two underscores, which is reserved")
	case p.limits.LabelName > 0 && len(l.Name) > p.limits.LabelName:
		return p.failf(TooLarge, "a label name is %s", p.limits.nameBytes())
	case p.limits.LabelValue > 0 && len(l.Value) > p.limits.LabelValue:
		return p.failf(TooLarge, "a label value is %s", p.limits.valueBytes())
	}
	return nil
}
