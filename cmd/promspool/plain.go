package main

import (
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// plainLines hands on the lines of a log without anything that a terminal would
// act upon. Those that write it escape what ends a line or a string, and in JSON
// no more than that: marks that turn the direction of text, and the control
// characters of Latin-1, would come through. All of it stands within strings,
// where \u is known.
type plainLines struct{ io.Writer }

// Write hands on one or more whole lines.
func (w plainLines) Write(line []byte) (int, error) {
	if _, err := w.Writer.Write(appendPlain(nil, line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

func appendPlain(b, text []byte) []byte {
	const digits = "0123456789abcdef"
	escape := func(u uint16) {
		b = append(b, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
	}
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '\n' || unicode.IsPrint(r) && (r != utf8.RuneError || n > 1):
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
