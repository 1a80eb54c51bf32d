package exposition

import (
	"bytes"
	"hash/maphash"
	"strings"
)

// The identity of a metric is the name of its family and its labels, without empty
// ones. It excludes le and quantile, because the lines of a histogram or summary
// form one metric.

// identitySeed is random for each process, so a client cannot choose labels whose
// hashes collide.
var identitySeed = maphash.MakeSeed()

// IdentityHash returns the hash of an identity, given by the family's name and
// the labels in braces, or "" for none.
func IdentityHash(name, base string) uint64 {
	var h maphash.Hash
	h.SetSeed(identitySeed)
	_, _ = h.WriteString(name)
	_, _ = h.WriteString(base)
	return h.Sum64()
}

// EachMetric calls yield for each metric in the canonical text of a part, with
// the labels of its identity in braces, which are valid until yield returns, and
// its lines.
func EachMetric(d Desc, text string, yield func(base []byte, lines string) bool) {
	var last, base []byte
	start := 0
	for at := 0; at < len(text); {
		line, rest := CutLine(text[at:])
		base = appendIdentity(base[:0], d.Typ, line.labels)
		if at > start && !bytes.Equal(base, last) {
			if !yield(last, text[start:at]) {
				return
			}
			start = at
		}
		last = append(last[:0], base...)
		at = len(text) - len(rest)
	}
	if start < len(text) {
		yield(last, text[start:])
	}
}

// appendIdentity appends the labels of a canonical line that are part of the
// identity, in braces, or nothing if there are none.
func appendIdentity(b []byte, t Type, labels string) []byte {
	const instance = `instance=""` // the only empty label in canonical text
	bound := t.bound()
	if bound == "" && !strings.Contains(labels, instance) {
		if labels == "" {
			return b
		}
		return append(append(append(b, '{'), labels...), '}')
	}
	sep := byte('{')
	for name, value := range EachLabel(labels) {
		if name == bound || value == `""` && name == "instance" {
			continue
		}
		b = append(b, sep)
		b = append(b, name...)
		b = append(b, '=')
		b = append(b, value...)
		sep = ','
	}
	if sep == ',' {
		b = append(b, '}')
	}
	return b
}
