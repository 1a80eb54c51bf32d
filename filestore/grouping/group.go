// Package grouping has the grouping key of pushed metrics and the matchers that
// select by it.
//
// A [Key] is a set of labels with a job. It is comparable, and it knows the name of
// the file that holds its group.
package grouping

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/promspool/promspool/filestore/exposition"
)

// Suffix ends the name of every file that belongs to a spool. It is
// node_exporter's rule.
const Suffix = ".prom"

// IsSpoolFile reports whether a file of that name is read from a spool: it
// ends in [Suffix] and does not begin with a dot. Dot files are temporary files of
// editors, other writers and promspool.
func IsSpoolFile(name string) bool {
	return strings.HasSuffix(name, Suffix) && !strings.HasPrefix(name, ".")
}

// A Key is a grouping key. Keys are comparable; two are equal if their labels are.
// The zero Key is that of a file that was not pushed. A Key is immutable and safe
// for concurrent use.
type Key struct {
	Set string // the canonical label set: job first, the others by name
}

// New returns the key with the given labels, in any order. A label with an empty
// value is ignored, as everywhere in Prometheus. A job is required. Names must be
// distinct, must not be empty or begin with two underscores, and values must be
// UTF-8.
func New(labels ...exposition.Label) (Key, error) {
	labels = slices.DeleteFunc(slices.Clone(labels), func(l exposition.Label) bool { return l.Value == "" })
	slices.SortFunc(labels, func(a, b exposition.Label) int {
		switch {
		case a.Name == b.Name:
			return 0
		case a.Name == "job":
			return -1
		case b.Name == "job":
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	if len(labels) == 0 || labels[0].Name != "job" {
		return Key{}, errors.New("job name is required")
	}
	for i, l := range labels {
		switch {
		case l.Name == "" || !utf8.ValidString(l.Name):
			return Key{}, fmt.Errorf("improper label name %q", l.Name)
		case strings.HasPrefix(l.Name, "__"):
			return Key{}, fmt.Errorf("label name %q begins with two underscores, which is reserved", l.Name)
		case i > 0 && labels[i-1].Name == l.Name:
			return Key{}, fmt.Errorf("label %q is given twice", l.Name)
		case !utf8.ValidString(l.Value):
			return Key{}, fmt.Errorf("the value of label %q is not UTF-8", l.Name)
		case strings.IndexByte(l.Value, 0) >= 0 || strings.IndexByte(l.Name, 0) >= 0:
			return Key{}, fmt.Errorf("the value of label %q contains a NUL byte, which not every reader of the text format accepts", l.Name)
		}
	}
	return Key{Set: string(exposition.AppendLabels(nil, labels))}, nil
}

// IsZero reports whether g is the zero Key.
func (g Key) IsZero() bool { return g.Set == "" }

// String returns the label set as in the first line of the group's file, with the
// job first.
func (g Key) String() string { return g.Set }

// Labels returns the labels, job first, the others in name order. The caller
// owns the slice.
func (g Key) Labels() []exposition.Label {
	if g.Set == "" {
		return nil
	}
	labels := make([]exposition.Label, 0, 4)
	for name, value := range exposition.EachLabel(g.Set[1 : len(g.Set)-1]) {
		labels = append(labels, exposition.Label{Name: exposition.Unquote(name), Value: exposition.Unquote(value)})
	}
	return labels
}

// Label returns the value of the label of that name, or "".
func (g Key) Label(name string) string {
	for _, l := range g.Labels() {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// MaxPlainName is the maximum length of a file name without a hash. The temporary
// name of a commit is up to 20 bytes longer, and 255 is the limit of common file
// systems.
const MaxPlainName = 180

// FileName returns the name of the file that holds g, such as
// "job=backup,instance=db1.prom". Distinct groups have distinct names, also on file
// systems that ignore case. The file name is never parsed. The first line of the
// file has the group.
func (g Key) FileName() string { return g.fileName(g.Labels()) }

func (g Key) fileName(labels []exposition.Label) string {
	b := make([]byte, 0, 64)
	for i, l := range labels {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendEscapedName(b, l.Name)
		b = append(b, '=')
		b = appendEscapedName(b, l.Value)
	}
	// A tilde never results from escaping, so a name with a hash cannot equal a
	// plain one.
	switch {
	case len(b) > MaxPlainName:
		sum := sha256.Sum256([]byte(g.Set))
		b = append(b[:MaxPlainName-40], '~')
		b = hex.AppendEncode(b, sum[:16])
	case slices.ContainsFunc(b, func(c byte) bool { return 'A' <= c && c <= 'Z' }):
		sum := sha256.Sum256([]byte(g.Set))
		b = append(b, '~')
		b = hex.AppendEncode(b, sum[:8])
	}
	return string(append(b, Suffix...))
}

// appendEscapedName appends s with every byte but letters, digits, dot, dash
// and underscore percent-escaped, in lower case.
func appendEscapedName(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// ParseCanonical parses the label set of a header line. It returns the group and the
// name of its file if the set is in canonical form.
func ParseCanonical(set string) (g Key, file string, err error) {
	labels, err := exposition.ParseLabelSet(set)
	if err != nil {
		return Key{}, "", err
	}
	if g, err = New(labels...); err != nil {
		return Key{}, "", err
	}
	if g.Set != set {
		return Key{}, "", errors.New("the label set is not in canonical form")
	}
	return g, g.fileName(labels), nil // canonical, so they are in order
}

// Scan reads a canonical label set of a group, without escapes, if the group's
// file has that name.
func Scan(set, file string) (g Key, ok bool) {
	if !strings.HasPrefix(set, "{") {
		return g, false
	}
	labels := make([]exposition.Label, 0, 4)
	for i := 1; ; i++ {
		var l exposition.Label
		if l, i = exposition.ScanLabel(set, i); i == 0 {
			return g, false
		}
		switch n := len(labels); {
		case n == 0 && l.Name != "job", n > 0 && l.Name == "job", n > 1 && l.Name <= labels[n-1].Name:
			return g, false
		}
		labels = append(labels, l)
		if set[i] == '}' && i+1 == len(set) {
			g = Key{Set: strings.Clone(set)}
			return g, g.fileName(labels) == file
		}
		if set[i] != ',' {
			return g, false
		}
	}
}
