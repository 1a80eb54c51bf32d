// Package wording formats numbers and external text for messages.
//
// # The idea
//
// Pages, commands and error messages quote external names and values, and format
// counts and sizes. They share these functions, so a file is named the same
// everywhere. The package imports no other package of the module.
//
// # The promise
//
// The text that [Visible] returns is valid UTF-8, and has no character that a
// terminal or a page acts upon: no control characters, no line ends, no marks
// that turn the direction of text.
//
// # Limits
//
// All text is English. Numbers are rounded, as for a reader and not for a program.
package wording

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Visible returns text that is safe to show. Invisible characters and those that
// change the direction of text are escaped as in a Go string.
func Visible(s string) string {
	hidden := func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b []byte
	for i, r := range s {
		if !hidden(r) {
			b = utf8.AppendRune(b, r)
			continue
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		quoted := strconv.Quote(s[i : i+n])
		b = append(b, quoted[1:len(quoted)-1]...)
	}
	return string(b)
}

// Shorten cuts text that is longer than n bytes, and marks the cut.
func Shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := n
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%s)", s[:cut], Bytes(int64(len(s))))
}

// Count returns a number with its noun, which has an s at its end unless the
// number is one.
func Count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// Bytes returns n bytes in a rounded unit.
func Bytes(n int64) string {
	units, x := "kMGT", float64(n)
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	for x /= 1000; x >= 999.5 && len(units) > 1; units = units[1:] {
		x /= 1000
	}
	if x < 9.95 {
		return fmt.Sprintf("%.1f %cB", x, units[0])
	}
	return fmt.Sprintf("%.0f %cB", x, units[0])
}
