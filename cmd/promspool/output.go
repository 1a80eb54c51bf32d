package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// plainLines copies log lines and escapes characters that a terminal interprets. The
// loggers escape the end of a line or string; JSON escapes no others, so
// bidirectional marks and the control characters of Latin-1 would pass. All of
// these occur within strings, where \u is valid.
type plainLines struct{ io.Writer }

// Write copies one or more whole lines.
func (w plainLines) Write(line []byte) (int, error) {
	if _, err := w.Writer.Write(appendPlain(nil, line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

func appendPlain(b, text []byte) []byte {
	return appendEscaped(b, text, func(r rune) bool { return r == '\n' || unicode.IsPrint(r) })
}

// plainText copies the output of a command and escapes characters that a terminal
// interprets: control characters and bidirectional marks. \uXXXX means the same in
// JSON. Every command prints through it. Line feeds and tabs are kept.
type plainText struct{ io.Writer }

// Write copies text that ends with a complete character.
func (w plainText) Write(text []byte) (int, error) {
	if _, err := w.Writer.Write(appendEscaped(nil, text, harmless)); err != nil {
		return 0, err
	}
	return len(text), nil
}

// harmless reports whether a terminal displays the character without interpreting it.
func harmless(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return true
	case unicode.IsControl(r): // U+0000 to U+001F, U+007F to U+009F
		return false
	case r == '\u061c', '\u200e' <= r && r <= '\u200f', '\u2028' <= r && r <= '\u202e', '\u2066' <= r && r <= '\u206f':
		return false // bidirectional marks, line separators
	}
	return true
}

// appendEscaped appends text to b and writes \uXXXX for each character that keep
// rejects and for each byte that is not UTF-8.
func appendEscaped(b, text []byte, keep func(rune) bool) []byte {
	const digits = "0123456789abcdef"
	escape := func(u uint16) {
		b = append(b, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
	}
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case keep(r) && (r != utf8.RuneError || n > 1):
			b = append(b, text[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			escape(uint16(high))
			escape(uint16(low))
		default:
			escape(uint16(r))
		}
		text = text[n:]
	}
	return b
}

// oneLine quotes a path with unprintable characters or line breaks.
func oneLine(path string) string {
	if quoted := strconv.Quote(path); quoted[1:len(quoted)-1] != path {
		return quoted
	}
	return path
}

// printDocument prints doc as indented JSON.
func printDocument(w io.Writer, doc any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// isTerminal reports whether a writer is a terminal.
func isTerminal(w io.Writer) bool {
	if text, ok := w.(plainText); ok {
		w = text.Writer
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	if err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // the other character device that programs get
	return err != nil || !os.SameFile(fi, null)
}

// brief formats d with its largest unit, and the second one if it matters.
func brief(d time.Duration) string {
	if d < 0 {
		return "in " + brief(-d)
	}
	units := []struct {
		name string
		long time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.long {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.long, u.name)
		if i+1 < len(units) && d/u.long < 10 {
			if next := units[i+1]; d%u.long >= next.long {
				text += fmt.Sprintf("%d%s", d%u.long/next.long, next.name)
			}
		}
		return text
	}
	return "0s"
}
