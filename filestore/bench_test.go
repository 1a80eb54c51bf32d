package filestore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// The workload of all benchmarks: group i is an instance of one of twenty kinds of job,
// and has ten series in five families of its kind.
const jobKinds = 20

func benchGroup(b testing.TB, i int) grouping.Key {
	return group(b, "job", fmt.Sprint("batch", i%jobKinds), "instance", fmt.Sprintf("g%06d.rack%02d.example", i, i%37))
}

func benchText(i, version int) string {
	p := fmt.Sprintf("batch%d_", i%jobKinds)
	r := rand.New(rand.NewPCG(uint64(i), uint64(version)))
	return fmt.Sprintf("# HELP %[1]slast_success_timestamp_seconds When the job last ended well.\n# TYPE %[1]slast_success_timestamp_seconds gauge\n%[1]slast_success_timestamp_seconds %[2]d\n"+
		"# HELP %[1]sduration_seconds How long each stage took.\n# TYPE %[1]sduration_seconds gauge\n%[1]sduration_seconds{stage=\"extract\"} %[3]g\n%[1]sduration_seconds{stage=\"load\"} %[4]g\n%[1]sduration_seconds{stage=\"transform\"} %[5]g\n"+
		"# HELP %[1]srecords_processed_total Records processed.\n# TYPE %[1]srecords_processed_total counter\n%[1]srecords_processed_total{source=\"orders\"} %[6]d\n%[1]srecords_processed_total{source=\"customers\"} 2\n%[1]srecords_processed_total{source=\"invoices\"} 3\n%[1]srecords_processed_total{source=\"stock\"} 4\n"+
		"# HELP %[1]serrors_total Errors met.\n# TYPE %[1]serrors_total counter\n%[1]serrors_total 0\n"+
		"# HELP %[1]sexit_code Exit status.\n# TYPE %[1]sexit_code gauge\n%[1]sexit_code 0\n",
		p, 1763627000+i+60*version, r.Float64()*300, r.Float64()*300, r.Float64()*300, r.IntN(5_000_000))
}

// filled returns a store with n groups. They are written as files, which is faster than
// pushes.
func filled(b *testing.B, n int) (*filestore.Store, string) {
	b.Helper()
	dir := b.TempDir()
	fill(b, dir, n)
	s, err := filestore.Open(dir, nil)
	must(b, err)
	b.Cleanup(func() { s.Close() })
	if got := s.View().Totals().Groups; got != n {
		b.Fatalf("%d groups, want %d", got, n)
	}
	return s, dir
}

func fill(b *testing.B, dir string, n int) {
	b.Helper()
	one, err := filestore.Open(b.TempDir(), nil)
	must(b, err)
	defer one.Close()
	for i := range n {
		g := benchGroup(b, i)
		if i < jobKinds { // the text of a push
			must(b, one.Replace(g, families(b, benchText(i, 0)), record.PushOptions{}))
			data, err := os.ReadFile(filepath.Join(one.Path(), g.FileName()))
			must(b, err)
			must(b, os.WriteFile(filepath.Join(dir, g.FileName()), data, 0o644))
			continue
		}
		text := "# promspool:group " + g.String() + "\n"
		f := merge.Merge(nil, map[string][]byte{"x.prom": labelled(b, g, benchText(i, 0))})
		must(b, os.WriteFile(filepath.Join(dir, g.FileName()), append([]byte(text), withoutState(f.AppendTo(nil))...), 0o644))
	}
}

// labelled adds the labels of the group to each sample.
func labelled(b *testing.B, g grouping.Key, text string) []byte {
	b.Helper()
	labels := fmt.Sprintf(`instance=%q,job=%q`, g.Label("instance"), g.Label("job"))
	var out []byte
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line[0] != '#' {
			i := strings.IndexByte(line, ' ')
			if k := strings.IndexByte(line, '{'); k >= 0 {
				line = line[:k+1] + labels + "," + line[k+1:]
			} else {
				line = line[:i] + "{" + labels + "}" + line[i:]
			}
		}
		out = append(out, line...)
		out = append(out, '\n')
	}
	return out
}

var storeSizes = []int{10, 1000, 10000}

// BenchmarkPush is a durable push of ten series to a spool of n groups.
func BenchmarkPush(b *testing.B) {
	for _, n := range storeSizes {
		s, _ := filled(b, n)
		b.Run(fmt.Sprintf("groups=%d", n), func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				k := i * 7919 % n
				must(b, s.Replace(benchGroup(b, k), families(b, benchText(k, i)), record.PushOptions{}))
			}
		})
		b.Run(fmt.Sprintf("groups=%d/writers=32", n), func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					k := rand.IntN(n)
					must(b, s.Replace(benchGroup(b, k), families(b, benchText(k, rand.IntN(1000))), record.PushOptions{}))
				}
			})
		})
	}
}

// BenchmarkPushHelp is a push to a spool of n groups with the same family. The push has
// the HELP text of the others, or changes the effective text, or has a text every
// other time while few groups have one.
func BenchmarkPushHelp(b *testing.B) {
	for _, n := range storeSizes {
		for _, c := range []struct {
			name string
			text func(i, version int) string
		}{
			{"same", func(int, int) string { return "# HELP m Text.\n" }},
			{"changes", func(_, version int) string { return fmt.Sprintf("# HELP m Text %d.\n", version) }},
			{"goes", func(i, version int) string {
				if i < n-2 || version%2 == 1 {
					return ""
				}
				return fmt.Sprintf("# HELP m Text %d.\n", i)
			}},
		} {
			b.Run(fmt.Sprintf("groups=%d/%s", n, c.name), func(b *testing.B) {
				dir := quickDirectory(b)
				for i := range n {
					g := group(b, "job", fmt.Sprintf("%06d", i))
					must(b, os.WriteFile(filepath.Join(dir, g.FileName()), []byte("# promspool:group "+g.String()+"\n"+c.text(i, 0)+"# TYPE m gauge\nm"+g.String()+" 1\n"), 0o644))
				}
				s, err := filestore.Open(dir, nil)
				must(b, err)
				defer s.Close()
				i := 0
				if c.name == "goes" {
					i = n - 2
				}
				g, version := group(b, "job", fmt.Sprintf("%06d", i)), 0
				for b.Loop() {
					version++
					must(b, s.Replace(g, families(b, fmt.Sprintf("%s# TYPE m gauge\nm %d\n", c.text(i, version), version)), record.PushOptions{}))
				}
			})
		}
	}
}

// BenchmarkPublish is the cost of a changed file in a spool of n groups, without syncs:
// read, parse, check, merge, new view.
func BenchmarkPublish(b *testing.B) {
	for _, n := range storeSizes {
		s, dir := filled(b, n)
		b.Run(fmt.Sprintf("groups=%d", n), func(b *testing.B) {
			g := benchGroup(b, n/2)
			var texts [2][]byte
			for i := range texts {
				f := merge.Merge(nil, map[string][]byte{"x.prom": labelled(b, g, benchText(n/2, i))})
				texts[i] = append([]byte("# promspool:group "+g.String()+"\n"), withoutState(f.AppendTo(nil))...)
			}
			name := filepath.Join(dir, g.FileName())
			i := 0
			for b.Loop() {
				i++
				must(b, os.WriteFile(name, texts[i%2], 0o644))
				_, err := s.Reload(g.FileName())
				must(b, err)
			}
		})
	}
}

// BenchmarkPushBesideCopy is a durable push to a group. A dropped file has a copy of the
// group, or of the whole exposition.
func BenchmarkPushBesideCopy(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		s, dir := filled(b, n)
		push := func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				must(b, s.Replace(benchGroup(b, n-1), families(b, benchText(n-1, i)), record.PushOptions{}))
			}
		}
		b.Run(fmt.Sprintf("groups=%d/none", n), push)
		data, err := os.ReadFile(filepath.Join(dir, benchGroup(b, n-1).FileName()))
		must(b, err)
		for _, copied := range []struct {
			name string
			data []byte
		}{{"group", data}, {"exposition", s.View().AppendTo(nil)}} {
			if len(copied.data) > 16<<20 {
				continue
			}
			must(b, os.WriteFile(filepath.Join(dir, "backup.prom"), copied.data, 0o644))
			_, err = s.Rescan()
			must(b, err)
			b.Run(fmt.Sprintf("groups=%d/%s", n, copied.name), push)
		}
	}
}

// BenchmarkConflicts opens a spool of n dropped files that conflict.
func BenchmarkConflicts(b *testing.B) {
	for _, kind := range []struct {
		name string
		text func(i int) string
	}{
		{"series", func(i int) string { return fmt.Sprintf("m{a=\"b\"} %d\n", i) }},
		{"types", func(i int) string {
			return fmt.Sprintf("# TYPE m %s\nm{i=\"%d\"} 1\n", []string{"gauge", "counter"}[i%2], i)
		}},
	} {
		for _, n := range []int{1000, 8000} {
			b.Run(fmt.Sprintf("%s/files=%d", kind.name, n), func(b *testing.B) {
				dir := b.TempDir()
				for i := range n {
					text := kind.text(i)
					must(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%06d.prom", i)), []byte(text), 0o644))
				}
				for b.Loop() {
					s, err := filestore.Open(dir, nil)
					must(b, err)
					s.Close()
				}
			})
		}
	}
}

// BenchmarkPushBesideLarge is a small push while a push of the maximum size is repeated.
// It reports the longest time of a small push.
func BenchmarkPushBesideLarge(b *testing.B) {
	s, _ := filled(b, 1000)
	var large [2]strings.Builder
	for i := range 99_999 {
		for k := range large {
			fmt.Fprintf(&large[k], "family_%05d %d\n", i, i+k)
		}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				must(b, s.Replace(group(b, "job", "large"), families(b, large[i%2].String()), record.PushOptions{}))
				if i%2 == 1 {
					must(b, s.Delete(group(b, "job", "large")))
				}
			}
		}
	}()
	longest, i := time.Duration(0), 0
	for b.Loop() {
		i++
		start := time.Now()
		must(b, s.Replace(benchGroup(b, 1), families(b, benchText(1, i)), record.PushOptions{}))
		longest = max(longest, time.Since(start))
	}
	b.ReportMetric(float64(longest.Milliseconds()), "ms-longest")
	close(stop)
	<-stopped
}

// BenchmarkLoad opens a spool of n groups.
func BenchmarkLoad(b *testing.B) {
	for _, n := range storeSizes {
		_, dir := filled(b, n)
		b.Run(fmt.Sprintf("groups=%d", n), func(b *testing.B) {
			for b.Loop() {
				s, err := filestore.Open(dir, nil)
				must(b, err)
				s.Close()
			}
		})
	}
}

// BenchmarkText copies or compresses the whole exposition, after a change of one percent
// of the groups or of none.
func BenchmarkText(b *testing.B) {
	for _, n := range storeSizes {
		s, _ := filled(b, n)
		for _, churn := range []int{0, 1} {
			if churn > 0 && n < 1000 {
				continue
			}
			for _, form := range []string{"identity", "deflate"} {
				b.Run(fmt.Sprintf("groups=%d/%s/changed=%d%%", n, form, churn), func(b *testing.B) {
					buf := make([]byte, 0, s.View().Len()*2)
					i := 0
					for b.Loop() {
						if churn > 0 {
							b.StopTimer()
							for range max(1, n*churn/100) {
								i++
								k := rand.IntN(n)
								must(b, s.Replace(benchGroup(b, k), families(b, benchText(k, i)), record.PushOptions{}))
							}
							b.StartTimer()
						}
						if form == "identity" {
							buf = s.View().AppendTo(buf[:0])
						} else {
							s.View().Deflated()
						}
					}
					b.SetBytes(int64(s.View().Len()))
				})
			}
		}
	}
}

// BenchmarkParse parses one push.
func BenchmarkParse(b *testing.B) {
	text := []byte(benchText(1, 1))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := exposition.Parse(text, exposition.Limits{}, false); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRemove removes 10,000 groups of ten series.
func BenchmarkRemove(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s, dir := filled(b, 10000)
		b.StartTimer()
		removed, err := s.Remove(func(*record.File) bool { return true })
		b.StopTimer()
		must(b, err)
		if len(removed) != 10000 {
			b.Fatalf("removed %d", len(removed))
		}
		must(b, os.RemoveAll(dir))
		b.StartTimer()
	}
}
