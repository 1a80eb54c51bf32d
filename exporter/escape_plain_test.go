package exporter

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// White box: what a search overlooks would be served as it is, and only now
// and then, depending on where it stands.

func TestQuotedNamesAreFound(t *testing.T) {
	const line = "metric_seconds{instance=\"a\",job=\"=\"} 1\n"
	for _, quoted := range []string{"{\"a.b\"} 1\n", "{\"a.b\",x=\"1\"} 1\n", "a{\"x.y\"=\"1\"} 1\n", "a{x=\"1\",\"x.y\"=\"\"} 1\n"} {
		for before := range 40 {
			for after := range 3 {
				text := append(bytes.Repeat([]byte("x"), before), " 1\n"...)
				text = append(text, quoted...)
				text = append(text, bytes.Repeat([]byte(line), after)...)
				if !maybeQuoted(text) || plainNames(text) {
					t.Fatalf("%q counts as plain", text)
				}
			}
		}
	}
	for _, plain := range []string{"", line, "# HELP a {\"b\"=\"c\"}\n# TYPE a gauge\n" + line + line, "a{x=\"{\\\"y\\\"=\"} 1\n"} {
		if !plainNames([]byte(plain)) {
			t.Errorf("%q does not count as plain", plain)
		}
	}
}

func TestSearchOverlooksNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200000 {
		text := make([]byte, r.IntN(30))
		for i := range text {
			text[i] = "ab{=\"#<|}!"[r.IntN(10)]
		}
		if want := bytes.Contains(text, []byte(`{"`)) || bytes.Contains(text, []byte(`"=`)); want && !maybeQuoted(text) {
			t.Fatalf("maybeQuoted(%q) = false", text)
		}
	}
}
