package filestore

import "testing"

func TestHasHelp(t *testing.T) {
	v := Merge(map[string]Own{"own_total": {Type: Counter, Labels: nil}}, map[string][]byte{
		"a.prom": []byte("# HELP a One \\\\ two\\nthree.\n# TYPE a gauge\na 1\nb 2\n# HELP \"c.d\" In quotes.\n{\"c.d\"} 3\n" +
			"# HELP own_total Theirs.\n# TYPE own_total counter\nown_total{file=\"a\"} 1\n"),
	})
	for _, c := range []struct {
		family, help string
		want         bool
	}{
		{"a", "One \\ two\nthree.", true},
		{"a", "One", false},
		{"a", "", false},
		{"b", "", true},
		{"b", "x", false},
		{"c.d", "In quotes.", true},
		{"c.d", "In quotes", false},
		{"own_total", "Theirs.", true},
		{"nothing", "", false},
	} {
		if got := v.hasHelp(&family{name: c.family}, c.help); got != c.want {
			t.Errorf("hasHelp(%q, %q) = %v", c.family, c.help, got)
		}
	}
}
