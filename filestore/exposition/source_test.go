package exposition

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// A fault of a file that everybody may read has its line, with the place of the token.
func TestSourceOfAFault(t *testing.T) {
	long := strings.Repeat("ä", 200)
	for text, want := range map[string]string{
		"a 1\nload 1,5\n":                         "load [1,5]",
		"a 1\r\nload 1,5\r\nb 2\r\n":              "load [1,5]",
		"size{a=\"12M\"} 12M\n":                   "size{a=\"12M\"} [12M]",
		"a{l=\"" + long + "\"} 1,5\n":             "…" + strings.Repeat("ä", 39) + "\"} [1,5]",
		"a 1,5" + strings.Repeat(" ", 10) + "x\n": "a [1,5]          x",
	} {
		_, err := ParseFile([]byte(text))
		var e *SyntaxError
		if !errors.As(err, &e) {
			t.Errorf("%q is accepted: %v", text, err)
			continue
		}
		if e.Source != "" {
			t.Errorf("%q has a source before it is public", text)
		}
		e.SetPublic([]byte(text))
		if got := e.Source[:e.From] + "[" + e.Source[e.From:e.To] + "]" + e.Source[e.To:]; got != want && strings.Count(text, "x") == 0 {
			t.Errorf("%q has the source %q, want %q", text, got, want)
		}
	}
}

// Whatever the content, the source is short, and the place lies within it.
func TestSourceIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := []byte(rapid.OneOf(rapid.String(), rapid.StringMatching(`([a-c ]{0,300}\n){0,3}`)).Draw(t, "data"))
		token := rapid.OneOf(rapid.StringN(0, 5, -1), rapid.StringMatching(`[a-c]{0,3}`)).Draw(t, "token")
		e := &SyntaxError{Line: rapid.IntRange(-1, 6).Draw(t, "line"), token: token}
		e.SetPublic(data)
		if e.From < 0 || e.From > e.To || e.To > len(e.Source) || len(e.Source) > mostSource+2*len("…")+utf8.UTFMax {
			t.Fatalf("the source of %q is %q, %d to %d", data, e.Source, e.From, e.To)
		}
		if e.To > e.From && !strings.HasPrefix(token, e.Source[e.From:e.To]) {
			t.Fatalf("%q stands for %q", e.Source[e.From:e.To], token)
		}
	})
}
