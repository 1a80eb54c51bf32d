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
	return appendEscaped(b, text, func(r rune) bool { return r == '\n' || unicode.IsPrint(r) })
}

// plainText hands on the output of a command without characters that a terminal
// acts upon: control characters, and marks that turn the direction of text. As
// \uXXXX they mean the same in JSON. All that a command prints goes through it.
// Line feeds and tabs, between lines and columns, stay.
type plainText struct{ io.Writer }

// Write hands on text, which ends with a whole character.
func (w plainText) Write(text []byte) (int, error) {
	if _, err := w.Writer.Write(appendEscaped(nil, text, harmless)); err != nil {
		return 0, err
	}
	return len(text), nil
}

// harmless reports whether a terminal only shows the character.
func harmless(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return true
	case unicode.IsControl(r): // U+0000 to U+001F, U+007F to U+009F
		return false
	case r == '\u061c', '\u200e' <= r && r <= '\u200f', '\u2028' <= r && r <= '\u202e', '\u2066' <= r && r <= '\u206f':
		return false // directions, separators of lines
	}
	return true
}

// appendEscaped appends text to b, with \uXXXX for each character that is not
// kept, and for each byte that is not UTF-8.
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
