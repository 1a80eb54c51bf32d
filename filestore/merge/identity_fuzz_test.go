package merge

import (
	"bytes"
	"testing"

	"github.com/promspool/promspool/filestore/record"
)

// FuzzIdentities merges any two files with the agent's own families. The identities
// of their canonical form are those read back from the text. The merge equals the
// naive one, and after a change of one file the index equals a new one.
func FuzzIdentities(f *testing.F) {
	f.Add([]byte("# TYPE go_gc_seconds summary\ngo_gc_seconds_sum{a=\"b,quantile=\"} 1\ngo_gc_seconds_count{a=\"b,quantile=\"} 1\n"), []byte("go_goroutines{a=\"b\"} 1\n"))
	f.Add([]byte("# TYPE h histogram\nh_bucket{a=\"b,le=\",le=\"1\"} 1\nh_sum{a=\"b,le=\"} 1\nh_count{a=\"b,le=\"} 1\n"), []byte("# TYPE h histogram\nh_sum{a=\"b\"} 1\n"))
	f.Add([]byte("{\"a.b\",x=\"instance=\\\"\\\"\"} 1\n"), []byte("{\"a.b\",instance=\"\",x=\"\"} 2\n"))
	f.Add([]byte("h_count 1\nh 2\n"), []byte("# TYPE h histogram\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n"))
	f.Add([]byte("# TYPE s_sum gauge\ns_sum{x=\"1\"} 1\npromspool_x 1\n"), []byte("# TYPE s summary\ns_sum 1\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a)+len(b) > 4096 {
			return // the naive merge is slow
		}
		files := map[string][]byte{"a.prom": a, "job=j.prom": append([]byte("# promspool:group {job=\"j\"}\n"), b...)}
		m := New(testOwn)
		for _, name := range []string{"a.prom", "job=j.prom"} {
			c := record.Parse(name, files[name])
			checkIdentities(t, c.Parts)
			m.Apply([]Update{{New: c}})
		}
		checkMergeIsAsDefined(t, m.View(), files)
		checkIndex(t, m, MergerOf(testOwn, files))
		old := m.File("a.prom")
		m.Apply([]Update{{Old: old, OldParts: m.View().Parts(old), New: record.Parse("a.prom", b)}})
		files["a.prom"] = b
		checkMergeIsAsDefined(t, m.View(), files)
		checkIndex(t, m, MergerOf(testOwn, files))
		for file := range m.View().Files() {
			for _, fam := range m.View().Families(file) {
				for _, metric := range fam.Metrics {
					for _, l := range metric.Labels {
						if l.Name == "" || bytes.ContainsRune([]byte(l.Name), 0) {
							t.Fatalf("a label without a name in %v", metric)
						}
					}
				}
			}
		}
	})
}
