package exporter

import (
	"bytes"
	"encoding/binary"
)

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
