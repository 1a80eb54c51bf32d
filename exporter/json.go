package exporter

import (
	"cmp"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
)

// A jsonList writes the answer of the JSON API whose data are a list, as the
// elements come.
type jsonList struct {
	r     *http.Request
	a     *reply // nil if only the headers are asked for, or there is no memory
	buf   []byte // what is not yet written
	items int
	err   error
}

const (
	jsonFlush = 64 << 10
	// jsonMemory is what a list holds whose elements are small.
	jsonMemory = 4 * jsonFlush
	// jsonTimeout is how long a list that has begun waits for memory.
	jsonTimeout = time.Minute
)

// list begins the answer. The caller must call release.
func (e *Exporter) list(w http.ResponseWriter, r *http.Request) *jsonList {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "application/json")
		return &jsonList{err: http.ErrBodyNotAllowed}
	}
	j := &jsonList{r: r, a: e.replies.begin(w, r, e.replies.renders, jsonMemory)}
	if j.a == nil {
		j.err = errNoMemory
		return j
	}
	w.Header().Set("Content-Type", "application/json")
	j.buf = []byte(`{"status":"success","data":[`)
	return j
}

var errNoMemory = errors.New("no memory for the answer")

// next makes room for one element more, which takes up to so many bytes beside
// what every element takes and which the caller appends to buf. It reports false
// if nothing more is to be sent.
func (j *jsonList) next(size int64) bool {
	if len(j.buf) > jsonFlush {
		j.flush()
	}
	if j.err != nil {
		return false
	}
	if j.items > 0 {
		j.buf = append(j.buf, ',')
	}
	j.items++
	if size = min(jsonMemory+size, j.a.from.most); size > j.a.held {
		j.flush()
		j.buf = nil
		j.a.shrink(0) // what waits holds nothing that others wait for
		if j.err == nil && !j.a.acquire(j.r.Context(), size, jsonTimeout) {
			j.err = errNoMemory
		}
	}
	return j.err == nil
}

// appended gives back what it took to make the element that is in buf now.
func (j *jsonList) appended() { j.a.shrink(max(jsonMemory, int64(cap(j.buf)))) }

func (j *jsonList) flush() {
	if j.err == nil {
		j.err = j.a.writeAll(j.buf)
	}
	if j.buf = j.buf[:0]; cap(j.buf) > jsonMemory {
		j.buf = nil
		j.a.shrink(jsonMemory)
	}
}

// end ends the list, and the answer with the members that are given as they are
// to stand there, each after a comma.
func (j *jsonList) end(more string) {
	if j.a == nil {
		return
	}
	j.buf = append(j.buf, ']')
	j.buf = append(j.buf, more...)
	j.buf = append(j.buf, "}\n"...)
	j.flush()
	if errors.Is(j.err, errNoMemory) {
		panic(http.ErrAbortHandler) // half a list must not look like a whole one
	}
}

// hold notes that the list needs the view until its end.
func (j *jsonList) hold(v *merge.View) {
	if j.a != nil {
		j.a.hold(v)
	}
}

// release gives back what the list holds.
func (j *jsonList) release() {
	if j.a != nil {
		j.a.end()
	}
}

// appendLabels appends labels as an object, in name order.
func appendLabels(b []byte, labels []exposition.Label) []byte {
	labels = slices.SortedFunc(slices.Values(labels), func(a, b exposition.Label) int { return cmp.Compare(a.Name, b.Name) })
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
