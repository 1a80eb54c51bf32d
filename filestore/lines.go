package filestore

import (
	"iter"
	"strings"
)

// A textLine is one sample line of canonical text, taken apart. Its fields are
// parts of the line, as they stand there: names that need it and all values of
// labels in quotes.
type textLine struct {
	name   string
	labels string // without the braces and without a quoted metric name
	value  string
}

// cutLine takes the first line of canonical text apart and returns the text
// after it. It knows quotes and escapes, and it never fails: what a line that is
// not canonical yields is only not useful.
func cutLine(text string) (l textLine, rest string) {
	line, rest, _ := strings.Cut(text, "\n")
	// A value has no blank, so the last one of the line stands before it.
	head := line
	if i := strings.LastIndexByte(line, ' '); i >= 0 {
		head, l.value = line[:i], line[i+1:]
	}
	if strings.HasPrefix(head, `{"`) { // {"name",labels}
		head = strings.TrimSuffix(head[1:], "}")
		n := quotedLen(head)
		l.name, l.labels = head[:n], strings.TrimPrefix(head[n:], ",")
	} else if i := strings.IndexByte(head, '{'); i >= 0 {
		l.name, l.labels = head[:i], strings.TrimSuffix(head[i+1:], "}")
	} else {
		l.name = head
	}
	return l, rest
}

// eachLabel yields the names and values of labels without braces, both as they
// stand there. It ends where the labels are not canonical.
func eachLabel(labels string) iter.Seq2[string, string] {
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

// unquote returns the name or value that a token stands for.
func unquote(token string) string {
	if len(token) < 2 || token[0] != '"' {
		return token
	}
	token = token[1 : len(token)-1]
	if strings.IndexByte(token, '\\') < 0 {
		return token
	}
	return tokenUnescaper.Replace(token)
}

// seriesOf returns the series of the first canonical line, without its value.
func seriesOf(lines string) string {
	line, _, _ := strings.Cut(lines, "\n")
	return line[:max(strings.LastIndexByte(line, ' '), 0)]
}

// valueOf returns the value in the first canonical line.
func valueOf(lines string) string {
	line, _, _ := strings.Cut(lines, "\n")
	return line[strings.LastIndexByte(line, ' ')+1:]
}

// scanLabels returns the length of a canonical label set, not empty, at the
// beginning of a line, or 0 if there is none.
func scanLabels(line string) int {
	last := ""
	for i := 1; ; i++ {
		var l Label
		if l, i = scanLabel(line, i); i == 0 || l.Name <= last {
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

// scanLabel reads a label without escapes and returns where what follows it is,
// which is within the line, or 0 if there is no such label.
func scanLabel(line string, i int) (l Label, next int) {
	from := i
	for i < len(line) && nameByte(line[i], i-from, false) {
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
