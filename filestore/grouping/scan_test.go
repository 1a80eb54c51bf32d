package grouping

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzScanGroup compares Scan with the parser.
func FuzzScanGroup(f *testing.F) {
	for _, set := range []string{
		`{job="j"}`, `{job="j",a="1",b="é x"}`, `{job="j",path="/x y",zone="A"}`, `{a="1",job="j"}`, `{job="j",b="1",a="2"}`, `{job="j",a="1",a="1"}`,
		`{job="j",job="k"}`, `{job=""}`, `{job="j",a=""}`, `{job="j",__a="1"}`, `{job="j"} `, `{job="j",}`, `{job="j"`, `{job="j`, `{job=`, `{`, ``, `{}`,
		`{job="a\\b"}`, `{"job"="j"}`, `{job="j","a.b"="1"}`, `{job="j",a="1"}x`,
	} {
		f.Add(set)
	}
	f.Fuzz(func(t *testing.T, set string) {
		want, file, err := ParseCanonical(set)
		if err != nil {
			file = "job=j.prom"
		}
		if !utf8.ValidString(set) || strings.ContainsAny(set, "\x00\n") {
			return // rejected before
		}
		got, ok := Scan(set, file)
		if _, other := Scan(set, "x"+file); other {
			t.Errorf("%q under another name", set)
		}
		switch {
		case ok && (err != nil || got != want):
			t.Errorf("%q is read as %v, by the parser as %v, %v", set, got, want, err)
		case !ok && err == nil && !strings.ContainsAny(set, `\`) && !strings.Contains(set, `{"`) && !strings.Contains(set, `,"`):
			t.Errorf("%q is left to the parser", set)
		}
	})
}
