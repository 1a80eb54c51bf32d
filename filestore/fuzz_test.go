package filestore_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
)

// FuzzGroup checks the file names and header lines of groups.
func FuzzGroup(f *testing.F) {
	f.Add("job", "j", "a", "1", "b", "")
	f.Add("job", "J", "job", "j", "", "x")
	f.Add("job", "a/b", "x", "\n\"\\", "y", "é,=%~")
	f.Add("job", "a,b=c", "b", strings.Repeat("ü", 100), "__x", "1")
	f.Add("job", "a", "é", "\xff", "z", "a\x00")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2, n3, v3 string) {
		labels := []exposition.Label{{Name: n1, Value: v1}, {Name: n2, Value: v2}, {Name: n3, Value: v3}}
		g, err := grouping.New(labels...)
		slices.Reverse(labels)
		if again, err2 := grouping.New(labels...); again != g || (err == nil) != (err2 == nil) {
			t.Fatalf("NewGroup = %v, %v; in another order %v, %v", g, err, again, err2)
		}
		if err != nil {
			if !g.IsZero() {
				t.Fatalf("NewGroup = %v, %v", g, err)
			}
			return
		}
		name := g.FileName()
		// A commit adds 20 bytes for its temporary name.
		if !grouping.IsSpoolFile(name) || !strings.HasPrefix(name, "job=") || len(name) > 235 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
			t.Errorf("%v has the file name %q", g, name)
		}
		if back, err := grouping.New(g.Labels()...); err != nil || back != g {
			t.Errorf("the labels of %v give %v, %v", g, back, err)
		}
		// The header line restores the group, but not in another file.
		text := []byte("# promspool:group " + g.String() + "\na 1\n")
		v := merge.Merge(nil, map[string][]byte{name: text, "copy.prom": text})
		if got := v.File(name).Group(); got != g {
			t.Errorf("in %q the header of %v gives %v", name, g, got)
		}
		if got := v.File("copy.prom").Group(); !got.IsZero() {
			t.Errorf("a copy is of the group %v", got)
		}
		// No two groups share a name, even if case is ignored.
		for _, l := range g.Labels() {
			for _, value := range []string{strings.ToUpper(l.Value), strings.ToLower(l.Value), l.Value + "~", l.Value + "," + l.Name, strings.TrimSuffix(l.Value, "x")} {
				labels := g.Labels()
				labels[slices.Index(labels, l)].Value = value
				if o, err := grouping.New(labels...); err == nil && o != g && strings.EqualFold(o.FileName(), name) {
					t.Errorf("%v and %v share the name %q", g, o, name)
				}
			}
		}
	})
}

// FuzzFile adds an arbitrary file to valid ones, which it must not affect.
func FuzzFile(f *testing.F) {
	f.Add("x.prom", []byte("good 2\n"))
	f.Add("a.prom", []byte("# TYPE good counter\ngood{y=\"1\"} 1\nother 1\nother 2\n"))
	f.Add("job=j.prom", []byte("# promspool:group {job=\"j\"}\n# TYPE good histogram\ngood_bucket{le=\"1\"} 1\n"))
	f.Add("\xff\n.prom", []byte("a 1 123\n"))
	f.Add("job=j,x=1.prom", []byte("# promspool:group {job=\"j\",x=\"1\"}\n# promspool:help 1 good \\n\n# HELP good x\n# TYPE good untyped\ngood{x=\"1\"} 1\n"))
	pushed := []byte("# promspool:group {job=\"a\"}\n# HELP good Some text.\n# TYPE good gauge\ngood{job=\"a\"} 1\n")
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if !grouping.IsSpoolFile(name) || name == "job=a.prom" || strings.ContainsAny(name, "/\x00") {
			return
		}
		v := merge.Merge(nil, map[string][]byte{"job=a.prom": pushed, name: data})
		text := v.AppendTo(nil)
		// A group with an earlier name may have the family with another type.
		if name > "job=a.prom" || v.File(name).Group().IsZero() {
			if !bytes.Contains(text, []byte("good{job=\"a\"} 1\n")) {
				t.Fatalf("%q has displaced a pushed group:\n%s", name, text)
			}
		}
		wellFormed(t, text)
		if again := merge.Merge(nil, map[string][]byte{name: data, "job=a.prom": pushed}).AppendTo(nil); !bytes.Equal(again, text) {
			t.Fatalf("merged once:\n%s\nand again:\n%s", text, again)
		}
	})
}

// FuzzHeader adds an arbitrary promspool line to the file of a group.
func FuzzHeader(f *testing.F) {
	for _, line := range []string{
		`group {job="j"}`, `group {job="j",job="k"}`, `group {job="j"} `, ` group {job="j"}`, `group {`, `group`, "settle 2s", "settle -1h", "settle 99999999999h",
		`help 1 a text`, `help NaN a text`, `help 1e400 {"a.b"} x\n\q`, `help 1`, `help 1 a`, "expires 1", ":", "group\x00{}", "help -1 push_time_seconds x",
	} {
		f.Add(line, uint8(0), "# TYPE a gauge\na{job=\"j\"} 1\n")
		f.Add(line, uint8(1), "# TYPE a gauge\na{job=\"j\"} 1\n")
	}
	dir := quickDirectory(f)
	f.Fuzz(func(t *testing.T, line string, where uint8, body string) {
		lines := []string{`# promspool:group {job="j"}`, body}
		lines = slices.Insert(lines, int(where)%3, "# promspool:"+strings.ReplaceAll(line, "\n", " "))
		text := []byte(strings.Join(lines, "\n"))
		v := merge.Merge(nil, map[string][]byte{"job=j.prom": text, "other.prom": []byte("# HELP other x\nother 1\n")})
		served := v.AppendTo(nil)
		wellFormed(t, served)
		file := v.File("job=j.prom")
		if g := file.Group(); !g.IsZero() && g.FileName() != "job=j.prom" {
			t.Fatalf("the file is of the group %v", g)
		}
		if where%3 != 0 && file.Err() == nil && file.Group().IsZero() {
			t.Fatalf("line %q after the group line has changed the group", line)
		}
		if bytes.Contains(served, []byte("# promspool:")) {
			t.Fatalf("a promspool line is in the exposition:\n%s", served)
		}
		if file.Group().IsZero() {
			return
		}
		// A rewrite keeps every attribute.
		path := filepath.Join(dir, "job=j.prom")
		must(t, os.WriteFile(path, text, 0o644))
		s, err := filestore.Open(dir, nil)
		must(t, err)
		defer s.Close()
		must(t, s.Fail(file.Group()))
		rewritten := s.View().File("job=j.prom")
		key, _, _ := strings.Cut(strings.TrimSuffix(line, "\r"), " ")
		if !plainKey.MatchString(key) {
			key = "none"
		}
		if got, want := rewritten.Attributes(key), file.Attributes(key); !slices.Equal(got, want) {
			t.Fatalf("%q keeps %q, want %q", key, got, want)
		}
		data, err := os.ReadFile(path)
		must(t, err)
		again := merge.Merge(nil, map[string][]byte{"job=j.prom": data}).File("job=j.prom")
		if again.Err() != nil || again.Group() != file.Group() || !slices.Equal(again.Attributes(key), file.Attributes(key)) {
			t.Fatalf("written again:\n%s\nread as %v, %q, %v", data, again.Group(), again.Attributes(key), again.Err())
		}
	})
}

var plainKey = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// wellFormed fails the test unless a scrape of the text would succeed.
func wellFormed(t *testing.T, text []byte) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(bytes.NewReader(text)); err != nil {
		t.Fatalf("expfmt rejects the exposition: %v\n%s", err, text)
	}
}

// quickDirectory returns an empty directory, in memory if possible.
func quickDirectory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "promspool-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
