package exporter

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/ingest"
)

func TestWording(t *testing.T) {
	now := time.Now()
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1,000", count(1234567): "1,234,567",
		ago(now, time.Time{}): "", ago(now, now): "just now", ago(now, now.Add(-90*time.Second)): "90 s ago", ago(now, now.Add(-10*time.Minute)): "10 min ago",
		ago(now, now.Add(-3*time.Hour)): "3 h ago", ago(now, now.Add(-80*time.Hour)): "3 days ago", ago(now, now.Add(3*time.Hour)): "in 3 h",
		number(0.25): "0.25", number(1.7e9): "1700000000", number(1e-9): "1e-09", number(1e21): "1e+21", number(0): "0",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The path of a group means that group to the push API, also after a browser
// has made a URL of it.
func TestPushPathLeadsToTheGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		utf8 := rapid.Bool().Draw(t, "utf8")
		value := rapid.OneOf(rapid.StringN(1, 20, -1), rapid.SampledFrom([]string{"/", ".", "..", "a/b", "%2f", "..%2f", "@base64", "a b", "+", "?x#y", ";", "\\", ".hidden", "a..b", "-", "ü"}))
		name := rapid.StringMatching(`[a-zA-Z][a-zA-Z0-9_]{0,8}`)
		if utf8 {
			name = rapid.OneOf(name, rapid.StringN(1, 10, -1), rapid.SampledFrom([]string{"a.b", "a/b", "x@base64", "a:b", "U__x", "ü_", "..", "1"}))
		}
		labels := []exposition.Label{{Name: "job", Value: value.Draw(t, "job")}}
		for range rapid.IntRange(0, 4).Draw(t, "labels") {
			labels = append(labels, exposition.Label{Name: name.Draw(t, "name"), Value: value.Draw(t, "value")})
		}
		g, err := grouping.New(labels...)
		if err != nil {
			t.Skip("no group")
		}
		path := pushPath(g)
		if path == "" {
			for _, l := range g.Labels() {
				if strings.HasPrefix(l.Name, "U__") || strings.ContainsFunc(l.Name, func(r rune) bool { return r >= 0x100000 }) {
					return // what the escaping of names cannot say
				}
			}
			t.Fatalf("%s has no path", g)
		}
		base, _ := url.Parse("http://localhost:9091/a/")
		u, err := base.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		rest, ok := strings.CutPrefix(u.EscapedPath(), "/a/metrics/")
		if !ok || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("%s becomes %s", path, u)
		}
		got, strip, err := ingest.ParsePath(rest, utf8)
		if err != nil || len(strip) > 0 || got != g {
			t.Fatalf("%s: %s leads to %s, %v", g, path, got, err)
		}
	})
	long, err := grouping.New(exposition.Label{Name: "job", Value: strings.Repeat("x", maxPushPath)})
	if err != nil {
		t.Fatal(err)
	}
	if path := pushPath(long); path != "" {
		t.Errorf("a group of %d bytes has a path of %d", maxPushPath, len(path))
	}
}
