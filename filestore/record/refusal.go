package record

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
)

// The last rejected push to a group is an attribute of its file until a push
// succeeds:
//
//	# promspool:refused 1763628000.5 syntax 127.0.0.1 line 2: metric "m": invalid value: use a decimal point
const refusedAttribute = "refused"

// mostRefusal is the maximum length of the message in bytes.
const mostRefusal = 512

// A Refusal is a rejected push. Its message names metrics and lines and quotes
// nothing else of the body.
type Refusal struct {
	Time    time.Time
	Reason  string // one word: an exposition.Reason, or another one for faults outside of the body
	Client  string // an address, a user of the unix socket, or a command; no spaces
	Message string
}

// RefusalOf returns the Refusal for an error. The given reason is used if the error
// has none.
func RefusalOf(err error, reason, client string) Refusal {
	r := Refusal{Reason: reason, Client: client, Message: err.Error()}
	var bad *exposition.SyntaxError
	var conflict *Conflict
	switch {
	case errors.As(err, &bad):
		r.Reason, r.Message = string(bad.Reason), bad.Brief()
	case errors.As(err, &conflict):
		r.Reason, r.Message = string(conflict.Reason), conflict.Error()
	}
	return r
}

// word returns a text as one word of an attribute.
func word(s string) string {
	if s = strings.Join(strings.Fields(s), "_"); s == "" {
		return "-"
	}
	return s
}

// value returns the text of the attribute.
func (r *Refusal) value(now float64) string {
	message := strings.ToValidUTF8(r.Message, "\uFFFD")
	if len(message) > mostRefusal {
		message = strings.ToValidUTF8(message[:mostRefusal], "") + "…"
	}
	message = strings.ReplaceAll(message, "\x00", "\uFFFD")
	return formatTime(now) + " " + word(r.Reason) + " " + word(r.Client) + " " + message
}

// Refused returns the last rejected push to the group, and whether there was one
// since the last successful push.
func (f *File) Refused() (r Refusal, ok bool) {
	text, ok := f.attrs.get(refusedAttribute)
	if !ok {
		return r, false
	}
	at, text, _ := strings.Cut(text, " ")
	seconds, err := strconv.ParseFloat(at, 64)
	if err != nil || seconds < f.push || unixTime(seconds).IsZero() {
		return r, false
	}
	r.Time = unixTime(seconds)
	r.Reason, text, _ = strings.Cut(text, " ")
	r.Client, r.Message, _ = strings.Cut(text, " ")
	return r, true
}

// Refuse returns the content of a group with the Refusal as its only change. The
// mtime of the file is kept.
func (g *Change) Refuse(old *Content, r Refusal) *Content {
	c := old.Rewritten()
	c.File.attrs = c.File.attrs.with(refusedAttribute, r.value(g.Now))
	return c
}
