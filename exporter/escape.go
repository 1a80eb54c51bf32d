package exporter

import (
	"bytes"
	"encoding/binary"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
)

// Names outside of the classic set stand in quotes in the text format. For a
// scraper that does not ask for them they are escaped, and two names must not
// become one by that: a family that is there twice, or a label that is there
// twice in one series, costs Prometheus the whole scrape.

// escapeNames returns the text, families one after the other as everywhere
// here, with every name escaped that needs quotes. Classic names stay. A name
// that would meet another one is escaped in the way that keeps all names
// apart. The escaped name of a family depends on the other families;
// the escaped name of a label only on the others in its family, so that
// no two series of it become equal.
func escapeNames(text []byte, scheme model.EscapingScheme, only filter) []byte {
	taken := make(map[string]bool)
	for f := range families(text) {
		if !f.quoted {
			f.take(taken, f.name)
		}
	}
	out := make([]byte, 0, len(text)+len(text)/8)
	for f := range families(text) {
		name := f.name
		if f.quoted {
			name = free(name, scheme, model.EscapeName, func(s string) bool {
				return !f.takes(func(s string) bool { return taken[s] }, s)
			})
			f.take(taken, name)
		}
		if only.has(f.name) {
			out = f.appendEscaped(out, name, scheme)
		}
	}
	return out
}

// free escapes a name so that the result is free.
func free(name string, scheme model.EscapingScheme, escape func(string, model.EscapingScheme) string, isFree func(string) bool) string {
	if s := escape(name, scheme); isFree(s) {
		return s
	}
	s := escape(name, model.ValueEncodingEscaping)
	for !isFree(s) { // only with names that look like escaped ones
		s += "_"
	}
	return s
}

// escapeLabel escapes the name of a label. Other than in names of metrics a
// colon has no place in it, which model.EscapeName does not know.
func escapeLabel(name string, scheme model.EscapingScheme) string {
	if scheme != model.ValueEncodingEscaping || !strings.Contains(name, ":") {
		return strings.ReplaceAll(model.EscapeName(name, scheme), ":", "_")
	}
	parts := strings.Split(name, ":")
	for i, p := range parts {
		parts[i] = strings.TrimPrefix(model.EscapeName("."+p, scheme), "U___2e_")
	}
	return "U__" + strings.Join(parts, "_3a_")
}

// A family is a metric family in the text.
type family struct {
	name   string
	quoted bool   // the name stands in quotes
	typ    string // as in its TYPE line
	text   []byte // with its header
}

// families yields the families of the text, each of which has a header.
func families(text []byte) iter.Seq[family] {
	return func(yield func(family) bool) {
		var f family
		var token []byte // the name as it stands in the header
		start, at := 0, 0
		for line := range bytes.Lines(text) {
			if t, arg, ok := headerLine(line); ok {
				if !bytes.Equal(t, token) {
					f.text = text[start:at]
					if token != nil && !yield(f) {
						return
					}
					token, start = t, at
					f = family{name: unquote(t), quoted: t[0] == '"'}
				}
				if bytes.HasPrefix(line, []byte("# TYPE ")) {
					f.typ = string(bytes.TrimSpace(arg))
				}
			}
			at += len(line)
		}
		f.text = text[start:]
		if token != nil {
			yield(f)
		}
	}
}

// headerLine takes a HELP or TYPE line apart.
func headerLine(line []byte) (token, arg []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte("# HELP "))
	if !ok {
		rest, ok = bytes.CutPrefix(line, []byte("# TYPE "))
	}
	if !ok || len(rest) == 0 {
		return nil, nil, false
	}
	n := bytes.IndexAny(rest, " \n")
	if rest[0] == '"' {
		n = quotedLen(rest)
	}
	if n <= 0 {
		return nil, nil, false
	}
	return rest[:n], rest[n:], true
}

// takes reports whether fn does for one of the sample names of the family, or
// its own, if its name were the given one.
func (f *family) takes(fn func(string) bool, name string) bool {
	var suffixes []string
	switch f.typ {
	case "histogram":
		suffixes = []string{"_bucket", "_sum", "_count"}
	case "summary":
		suffixes = []string{"_sum", "_count"}
	}
	return fn(name) || slices.ContainsFunc(suffixes, func(s string) bool { return fn(name + s) })
}

func (f *family) take(taken map[string]bool, name string) {
	f.takes(func(s string) bool {
		taken[s] = true
		return false
	}, name)
}

// appendEscaped appends the family under a classic name, with its labels
// escaped.
func (f *family) appendEscaped(b []byte, name string, scheme model.EscapingScheme) []byte {
	if !f.quoted && plainNames(f.text) {
		return append(b, f.text...)
	}
	labels := f.escapeLabels(scheme)
	for line := range bytes.Lines(f.text) {
		if _, arg, ok := headerLine(line); ok {
			b = append(b, line[:len("# HELP ")]...)
			b = append(b, name...)
			b = append(b, arg...)
			continue
		}
		sample, set, rest := splitSample(line)
		b = append(b, name...)
		b = append(b, strings.TrimPrefix(unquote(sample), f.name)...) // _bucket, _sum, _count
		sep := byte('{')
		for token, value := range eachLabel(set) {
			b = append(b, sep)
			if token[0] == '"' {
				b = append(b, labels[string(token)]...)
			} else {
				b = append(b, token...)
			}
			b = append(b, '=')
			b = append(b, value...)
			sep = ','
		}
		if sep == ',' {
			b = append(b, '}')
		}
		b = append(b, rest...)
	}
	return b
}

// escapeLabels returns the escaped form of each quoted label name in the family.
func (f *family) escapeLabels(scheme model.EscapingScheme) map[string]string {
	taken, escaped := make(map[string]bool), make(map[string]string)
	for line := range bytes.Lines(f.text) {
		if line[0] == '#' {
			continue
		}
		_, set, _ := splitSample(line)
		for token := range eachLabel(set) {
			if token[0] == '"' {
				escaped[string(token)] = ""
			} else {
				taken[string(token)] = true
			}
		}
	}
	for _, token := range slices.Sorted(maps.Keys(escaped)) {
		escaped[token] = free(unquote([]byte(token)), scheme, escapeLabel, func(s string) bool {
			return !taken[s] && !strings.HasPrefix(s, "__") // which has a meaning
		})
		taken[escaped[token]] = true
	}
	return escaped
}

// splitSample cuts a sample line into the name as it stands there, the labels
// without braces, and the value with the blank before it and the newline.
func splitSample(line []byte) (name, labels, rest []byte) {
	if line[0] == '{' {
		line = line[1:]
		n := quotedLen(line)
		name, line = line[:n], bytes.TrimPrefix(line[n:], []byte(","))
	} else {
		n := max(0, bytes.IndexAny(line, "{ "))
		name = line[:n]
		if line = line[n:]; line[0] != '{' {
			return name, nil, line
		}
		line = line[1:]
	}
	// The number is after the last brace, and has none itself.
	n := max(0, bytes.LastIndexByte(line, '}'))
	return name, line[:n], line[n+1:]
}

// eachLabel yields names and values of a label set without braces, both as they
// stand there: values always in quotes, names where they need them.
func eachLabel(set []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for len(set) > 0 {
			n := bytes.IndexByte(set, '=')
			if set[0] == '"' {
				n = quotedLen(set)
			}
			if n <= 0 || n+1 >= len(set) {
				return
			}
			name, value := set[:n], set[n+1:]
			n = quotedLen(value)
			if !yield(name, value[:n]) {
				return
			}
			set = bytes.TrimPrefix(value[n:], []byte(","))
		}
	}
}

// quotedLen returns the length of the quoted string that b begins with.
func quotedLen(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

var unescaper = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n")

// unquote returns the name that a token stands for.
func unquote(token []byte) string {
	if len(token) < 2 || token[0] != '"' {
		return string(token)
	}
	return unescaper.Replace(string(token[1 : len(token)-1]))
}

// plainNames reports whether no name in the text needs quotes. Nearly always
// the search is all there is to it.
func plainNames(text []byte) bool {
	if !maybeQuoted(text) {
		return true
	}
	for line := range bytes.Lines(text) {
		if line[0] != '#' && quotedNames(line) {
			return false
		}
	}
	return true
}

// maybeQuoted reports whether the text may have a name in quotes: whether {" is
// in it, as before the name of a metric, or "= as behind the name of a label.
// Both may also stand in HELP texts, and "= in front of a value.
//
// This runs over all text that a classic scraper has not seen before; eight
// bytes at a time are several times faster than bytes.Contains.
func maybeQuoted(text []byte) bool {
	const step = 7 // the last byte of each eight is the first of the next
	for len(text) >= 8 {
		x := binary.LittleEndian.Uint64(text)
		quote := bytesEqual(x, '"')
		if (bytesEqual(x, '{')<<8&quote)|(quote<<8&bytesEqual(x, '=')) != 0 {
			return true
		}
		text = text[step:]
	}
	return bytes.Contains(text, []byte(`{"`)) || bytes.Contains(text, []byte(`"=`))
}

// bytesEqual returns a word with the top bit set of each byte of x that is c.
// Above such a byte others may be set by mistake.
func bytesEqual(x uint64, c byte) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	x ^= ones * uint64(c)
	return (x - ones) &^ x & tops
}

// quotedNames reports whether a name in the sample line stands in quotes.
func quotedNames(line []byte) bool {
	if line[0] == '{' {
		return true
	}
	_, set, _ := splitSample(line)
	for name := range eachLabel(set) {
		if name[0] == '"' {
			return true
		}
	}
	return false
}
