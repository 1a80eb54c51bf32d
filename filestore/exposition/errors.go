package exposition

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Reason is the class of an error. The values are stable: they are label values of
// promspool_file_error, which alerts use.
type Reason string

// The reasons why a file, or a part of one, is not served.
const (
	Syntax       Reason = "syntax"        // not the text format
	Incomplete   Reason = "incomplete"    // the last line has no newline, so its number may be truncated
	Timestamp    Reason = "timestamp"     // a sample carries a timestamp
	Encoding     Reason = "encoding"      // not UTF-8 text
	NotRegular   Reason = "not-regular"   // a directory, pipe, socket or device
	Unreadable   Reason = "unreadable"    // permission denied, or a link that is broken or may not be followed
	TooLarge     Reason = "too-large"     // larger than the limit for files
	TypeConflict Reason = "type-conflict" // another file has the family with another type
	Duplicate    Reason = "duplicate"     // another file has the series with another value or om2 line
	Reserved     Reason = "reserved"      // a name reserved for the agent or for Prometheus
	Expired      Reason = "expired"       // older than its lifetime
	Busy         Reason = "busy"          // written so often, or for so long, that the new content cannot be read
)

// Reasons lists every Reason, for metrics that have one series for each.
var Reasons = []Reason{Syntax, Incomplete, Timestamp, Encoding, NotRegular, Unreadable, TooLarge, TypeConflict, Duplicate, Reserved, Expired, Busy}

// A SyntaxError is a fault of a file or of the body of a push.
//
// Msg never quotes the content, because readers of pages and logs may not be
// allowed to read the file. Detail quotes it. It is shown to the client of a push
// and for files that are readable by every user.
type SyntaxError struct {
	File    string // the file's name; empty for a push
	Line    int    // 1-based; 0 for none
	Reason  Reason
	Msg     string
	Detail  string // Msg with the family and the offending token; empty if it is the same
	Subject string // the metric or family, such as metric "m"; may be empty
	Public  bool   // every user may read the file, so Detail may be shown

	// Source is the line of a file that everybody may read, shortened; see
	// [SyntaxError.SetPublic]. The offending token is Source[From:To].
	Source   string
	From, To int

	token string // the offending token, shortened

	// Decoded says that a push could be read, and that what is wrong is what it
	// says. Such a push counts as one that failed; what cannot be read at all
	// leaves no trace.
	Decoded bool

	// More are further faults of the same push, at most four.
	More []*SyntaxError
	// Unlisted is true if there may be more faults than those.
	Unlisted bool
}

// Error returns the message with the file and the line, followed by those of More.
// It quotes the content of pushes only: see [SyntaxError.Report].
func (e *SyntaxError) Error() string {
	text := e.Msg
	if e.File == "" {
		text = e.Sentence()
	}
	if len(e.More) == 0 {
		return e.at(text)
	}
	var b strings.Builder
	b.WriteString(e.at(text))
	for _, m := range e.More {
		b.WriteString("; ")
		b.WriteString(m.Error())
	}
	if e.Unlisted {
		b.WriteString("; further faults are not listed")
	}
	return b.String()
}

// Report returns the message with the file and the line. Unlike Error it quotes the
// content of files that every user may read.
func (e *SyntaxError) Report() string { return e.at(e.Sentence()) }

// Brief returns the first fault of a push with the line and the metric, without
// quoting the content. It is for readers other than the client.
func (e *SyntaxError) Brief() string {
	text := e.Msg
	if e.Subject != "" {
		text = e.Subject + ": " + text
	}
	if text = e.at(text); len(e.More) > 0 {
		text += fmt.Sprintf(" (the first of at least %d faults)", 1+len(e.More))
	}
	return text
}

// at returns the text after the file and the line.
func (e *SyntaxError) at(text string) string {
	switch {
	case e.File != "" && e.Line > 0:
		return fmt.Sprintf("%q line %d: %s", e.File, e.Line, text)
	case e.File != "":
		return fmt.Sprintf("%q: %s", e.File, text)
	case e.Line > 0:
		return fmt.Sprintf("line %d: %s", e.Line, text)
	}
	return text
}

// Sentence returns the first fault without the file and the line. It quotes the
// content if that may be shown.
func (e *SyntaxError) Sentence() string {
	if e.Detail != "" && (e.File == "" || e.Public) {
		return e.Detail
	}
	return e.Msg
}

// mostSource is the length at which Source is cut, in bytes.
const mostSource = 160

// SetPublic states that everybody may read the file with this content. Messages may
// quote it from then on.
func (e *SyntaxError) SetPublic(data []byte) {
	e.Public = true
	if e.Line <= 0 {
		return
	}
	line := data
	for range e.Line - 1 {
		_, line, _ = bytes.Cut(line, []byte("\n"))
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	text := string(bytes.TrimSuffix(line, []byte("\r")))
	from := lastToken(text, e.token)
	start, end := 0, len(text)
	if from > mostSource/2 && len(text) > mostSource {
		start = from - mostSource/2
	}
	if end-start > mostSource {
		end = start + mostSource
	}
	for start > 0 && !utf8.RuneStart(text[start]) {
		start--
	}
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	e.From, e.To = 0, 0
	prefix := ""
	if start > 0 {
		prefix = "…"
	}
	if from >= 0 {
		e.From = from - start + len(prefix)
		e.To = min(from+len(e.token), end) - start + len(prefix)
	}
	if e.Source = prefix + text[start:end]; end < len(text) {
		e.Source += "…"
	}
}

// lastToken returns the index of the last place where the token is not a part of a
// longer word, -1 if there is none.
func lastToken(text, token string) int {
	if token == "" {
		return -1
	}
	inWord := func(i int) bool {
		return i >= 0 && i < len(text) && (text[i] == '_' || '0' <= text[i] && text[i] <= '9' || 'A' <= text[i]&^0x20 && text[i]&^0x20 <= 'Z')
	}
	for end := len(text); ; {
		i := strings.LastIndex(text[:end], token)
		if i < 0 || !(inWord(i) && inWord(i-1)) && !(inWord(i+len(token)-1) && inWord(i+len(token))) {
			return i
		}
		end = i + len(token) - 1
	}
}

// A token is a piece of the content, to be quoted where it may be shown.
type token string

// A series is a name with labels. It is shown without further quotes.
type series string

// unquoted turns the sentence with a NUL in place of each token into one without tokens.
var unquoted = strings.NewReplacer(" in \x00", "", "label \x00", "a label", " \x00", "")

// fault makes an error of a sentence. Its tokens and series, and the subject if there is
// one, are left out of Msg, see unquoted.
func fault(line int, r Reason, kind, subject, format string, args ...any) *SyntaxError {
	e := &SyntaxError{Line: line, Reason: r}
	with, without := make([]any, len(args)), make([]any, len(args))
	quoted := false
	for i, a := range args {
		with[i], without[i] = a, a
		switch t := a.(type) {
		case token:
			if t == "" {
				with[i], without[i] = "\x00", "\x00"
				continue
			}
			with[i], without[i], quoted = Quote(string(t)), "\x00", true
			if e.token == "" {
				short, _ := cut(string(t), mostToken)
				e.token = strings.Clone(short) // not the whole content
			}
		case series:
			with[i], without[i], quoted = QuoteSeries(string(t)), "\x00", true
		}
	}
	sentence := func(args []any) string { return unquoted.Replace(fmt.Sprintf(format, args...)) }
	e.Msg = sentence(without)
	if quoted {
		e.Detail = sentence(with)
	}
	if subject != "" {
		e.Subject = kind + " " + Quote(subject)
		e.Detail = e.Subject + ": " + sentence(with)
	}
	return e
}

// Maximum lengths of quotations in messages, in bytes.
const (
	mostToken  = 64
	mostSeries = 256
)

// Quote returns foreign text in quotes, escaped and shortened.
func Quote(s string) string {
	short, rest := cut(s, mostToken)
	return strconv.Quote(short) + rest
}

// QuoteSeries is Quote for a series, which contains quotes already.
func QuoteSeries(s string) string {
	short, rest := cut(s, mostSeries)
	if strings.ContainsFunc(short, func(c rune) bool { return !strconv.IsPrint(c) || c == utf8.RuneError }) {
		return strconv.Quote(short) + rest
	}
	return short + rest
}

// cut shortens a text at a character boundary.
func cut(s string, most int) (short, rest string) {
	if len(s) <= most {
		return s, ""
	}
	n := most
	for n > most-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], "…"
}

// mostFaults is the maximum number of faults in the error of a push.
const mostFaults = 5

// faults collects the faults of one push.
type faults struct {
	list     []*SyntaxError
	unlisted bool
	readable bool // every fault is in metrics that could be decoded
}

// add records a fault and reports whether a further one would be useful.
func (f *faults) add(e *SyntaxError) (more bool) {
	if len(f.list) == 0 {
		f.readable = true
	}
	f.readable = f.readable && e.Decoded
	if len(f.list) < mostFaults {
		f.list = append(f.list, e)
		return true
	}
	f.unlisted = true
	return f.readable
}

// err returns all faults as one error, or nil.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	e := *f.list[0]
	e.Decoded, e.Unlisted = f.readable, f.unlisted
	if len(f.list) > 1 {
		e.More = f.list[1:]
	}
	return &e
}
