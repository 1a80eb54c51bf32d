package exporter

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/promspool/promspool/filestore"
)

// A jsonList writes the answer of the JSON API whose data are a list, as the
// elements come.
type jsonList struct {
	w     http.ResponseWriter // nil if only the headers are asked for
	buf   []byte              // what is not yet written
	items int
	err   error
}

const jsonFlush = 64 << 10

func newJSONList(w http.ResponseWriter, r *http.Request) *jsonList {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		return &jsonList{err: http.ErrBodyNotAllowed}
	}
	return &jsonList{w: w, buf: []byte(`{"status":"success","data":[`)}
}

// next makes room for one element more, which the caller appends to buf. It
// reports false if nobody reads on.
func (j *jsonList) next() bool {
	if len(j.buf) > jsonFlush {
		j.flush()
	}
	if j.items > 0 {
		j.buf = append(j.buf, ',')
	}
	j.items++
	return j.err == nil
}

func (j *jsonList) flush() {
	if j.err == nil {
		_, j.err = j.w.Write(j.buf)
	}
	j.buf = j.buf[:0]
}

// end ends the list, and the answer with the members that are given as they are
// to stand there, each after a comma.
func (j *jsonList) end(more string) {
	j.buf = append(j.buf, ']')
	j.buf = append(j.buf, more...)
	j.buf = append(j.buf, "}\n"...)
	j.flush()
}

// appendLabels appends labels as an object, in name order.
func appendLabels(b []byte, labels []filestore.Label) []byte {
	labels = slices.SortedFunc(slices.Values(labels), func(a, b filestore.Label) int { return cmp.Compare(a.Name, b.Name) })
	b = append(b, '{')
	for i, l := range labels {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, l.Name)
		b = append(b, ':')
		b = appendString(b, l.Value)
	}
	return append(b, '}')
}

// appendFloat appends a number as Pushgateway does: a string in Go's notation.
func appendFloat(b []byte, f float64) []byte {
	b = append(b, '"')
	b = strconv.AppendFloat(b, f, 'g', -1, 64)
	return append(b, '"')
}

// appendCount appends a number of observations, which Pushgateway holds as an
// integer if it is one.
func appendCount(b []byte, f float64) []byte {
	if !(f >= 0 && f < 1<<63) || f != math.Trunc(f) {
		return appendFloat(b, f)
	}
	b = append(b, '"')
	b = strconv.AppendUint(b, uint64(f), 10)
	return append(b, '"')
}

// appendString appends a JSON string. What is not UTF-8 is replaced, and what
// HTML could take for a tag is escaped.
func appendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == '\u2028' || r == '\u2029' { // line ends to JavaScript
				b = append(b, `\u202`...)
				b = append(b, digits[r&0xf])
			} else {
				b = utf8.AppendRune(b, r)
			}
			i += n
			continue
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c < ' ' || c == 0x7f || c == '<' || c == '>' || c == '&':
			b = append(b, `\u00`...)
			b = append(b, digits[c>>4], digits[c&0xf])
		default:
			b = append(b, c)
		}
		i++
	}
	return append(b, '"')
}
