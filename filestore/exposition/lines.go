package exposition

import (
	"iter"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// FirstValue returns the value in the first line of canonical text.
func FirstValue(text string) float64 {
	line, _, _ := strings.Cut(text, "\n")
	v, _ := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
	return v
}

// A textLine is one sample line of canonical text. Its fields are parts of the line:
// quotes and escapes are kept.
type textLine struct {
	Name   string
	labels string // without the braces and without a quoted metric name
	value  string
}

// CutLine splits the first line of canonical text and returns the text after it. It
// never fails; the result for a line that is not canonical is undefined.
func CutLine(text string) (l textLine, rest string) {
	line, rest, _ := strings.Cut(text, "\n")
	// A value has no space, so it follows the last one of the line.
	head := line
	if i := strings.LastIndexByte(line, ' '); i >= 0 {
		head, l.value = line[:i], line[i+1:]
	}
	if strings.HasPrefix(head, `{"`) { // {"name",labels}
		head = strings.TrimSuffix(head[1:], "}")
		n := quotedLen(head)
		l.Name, l.labels = head[:n], strings.TrimPrefix(head[n:], ",")
	} else if i := strings.IndexByte(head, '{'); i >= 0 {
		l.Name, l.labels = head[:i], strings.TrimSuffix(head[i+1:], "}")
	} else {
		l.Name = head
	}
	return l, rest
}

// EachLabel yields the names and values of labels without braces, with their quotes
// and escapes. It stops at labels that are not canonical.
func EachLabel(labels string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for labels != "" {
			n := strings.IndexByte(labels, '=')
			if labels[0] == '"' {
				n = quotedLen(labels)
			}
			if n <= 0 || n+1 >= len(labels) || labels[n] != '=' || labels[n+1] != '"' {
				return
			}
			name, value := labels[:n], labels[n+1:]
			n = quotedLen(value)
			if !yield(name, value[:n]) {
				return
			}
			labels = strings.TrimPrefix(value[n:], ",")
		}
	}
}

// quotedLen returns the length of the quoted string that s begins with.
func quotedLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

var tokenUnescaper = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n")

// Unquote returns the name or value of a token, without quotes and escapes.
func Unquote(token string) string {
	if len(token) < 2 || token[0] != '"' {
		return token
	}
	token = token[1 : len(token)-1]
	if strings.IndexByte(token, '\\') < 0 {
		return token
	}
	return tokenUnescaper.Replace(token)
}

// SeriesOf returns the series of the first canonical line, without its value.
func SeriesOf(lines string) string {
	line, _, _ := strings.Cut(lines, "\n")
	return line[:max(strings.LastIndexByte(line, ' '), 0)]
}

// ValueOf returns the value in the first canonical line.
func ValueOf(lines string) string {
	line, _, _ := strings.Cut(lines, "\n")
	return line[strings.LastIndexByte(line, ' ')+1:]
}

// ScanLabels returns the length of a non-empty canonical label set at the beginning
// of a line, or 0 if there is none.
func ScanLabels(line string) int {
	last := ""
	for i := 1; ; i++ {
		var l Label
		if l, i = ScanLabel(line, i); i == 0 || l.Name <= last {
			return 0
		}
		switch last = l.Name; line[i] {
		case '}':
			return i + 1
		case ',':
		default:
			return 0
		}
	}
}

// ScanLabel reads a label without escapes and returns the position after it, which
// is within the line, or 0 if it finds none.
func ScanLabel(line string, i int) (l Label, next int) {
	from := i
	for i < len(line) && NameByte(line[i], i-from, false) {
		i++
	}
	l.Name = line[from:i]
	if l.Name == "" || strings.HasPrefix(l.Name, "__") || !strings.HasPrefix(line[i:], `="`) {
		return l, 0
	}
	i += 2
	n := strings.IndexByte(line[i:], '"')
	if n <= 0 || strings.IndexByte(line[i:i+n], '\\') >= 0 {
		return l, 0
	}
	l.Value = line[i : i+n]
	if i += n + 1; i >= len(line) {
		return l, 0
	}
	return l, i
}

// ParseFloat parses a decimal number of the text format. A number that float64
// cannot hold is an error.
func ParseFloat(s string) (float64, error) {
	if strings.ContainsAny(s, "pPxX_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

// ParseLabelSet reads a label set in braces, as in a header line.
func ParseLabelSet(s string) ([]Label, error) {
	p := parser{utf8Names: true, text: s, rest: s, slab: make([]Label, 0, 4)} // smaller than for a whole file
	if s == "" || s[0] != '{' {
		return nil, p.fail("expected a label set in braces")
	}
	name, labels, err := p.labels("")
	if err == nil && p.reserved != nil {
		err = p.reserved
	}
	if err != nil {
		return nil, err
	}
	if name != "" || p.rest != "" {
		return nil, p.fail("expected only a label set in braces")
	}
	return labels, nil
}

// AppendLabels appends a label set in braces. It keeps order and empty values.
func AppendLabels(b []byte, labels []Label) []byte {
	b = append(b, '{')
	for i, l := range labels {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLabel(b, l)
	}
	return append(b, '}')
}

func appendLabel(b []byte, l Label) []byte {
	if model.LegacyValidation.IsValidLabelName(l.Name) {
		b = append(b, l.Name...)
	} else {
		b = appendQuoted(b, l.Name)
	}
	b = append(b, '=')
	return appendQuoted(b, l.Value)
}

// appendQuoted appends s in quotes with the three escapes of the text format.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for {
		i := strings.IndexAny(s, "\\\"\n")
		if i < 0 {
			break
		}
		b = append(b, s[:i]...)
		if s[i] == '\n' {
			b = append(b, '\\', 'n')
		} else {
			b = append(b, '\\', s[i])
		}
		s = s[i+1:]
	}
	b = append(b, s...)
	return append(b, '"')
}

// AppendValue appends a number in its shortest form, as expfmt writes it.
func AppendValue(b []byte, v float64) []byte {
	switch {
	case v == 1:
		return append(b, '1')
	case v == 0 && !math.Signbit(v):
		return append(b, '0')
	case math.IsNaN(v):
		return append(b, "NaN"...)
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	case math.IsInf(v, -1):
		return append(b, "-Inf"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// trimHelp cuts off what a HELP line cannot hold: spaces before the text, and
// carriage returns at its end, which readers treat as part of the line end.
func trimHelp(s string) string {
	return strings.TrimRight(strings.TrimLeft(s, " \t"), "\r")
}

// plainText replaces bytes that readers of the text format reject in a HELP text.
func plainText(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// ParseHelp parses the name and the text of a HELP line.
func ParseHelp(s string) (name, text string, ok bool) {
	p := parser{utf8Names: true, text: s, rest: s}
	name, err := p.metricName()
	if err != nil {
		return "", "", false
	}
	p.rest = strings.TrimPrefix(p.rest, " ")
	if text, err = p.unescapeHelp(); err != nil {
		return "", "", false
	}
	return name, trimHelp(plainText(text)), true
}
