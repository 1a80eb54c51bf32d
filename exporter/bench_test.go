package exporter_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
)

// void takes an answer as a connection would, without keeping it.
type void struct {
	h http.Header
	n int
}

func (v *void) Header() http.Header         { return v.h }
func (v *void) WriteHeader(int)             {}
func (v *void) Write(b []byte) (int, error) { v.n += len(b); return len(b), nil }

// write makes the file of a group of ten series and returns its name. A push
// would do the same, but wait for the disk.
func write(b *testing.B, dir string, group, value int) string {
	b.Helper()
	job := fmt.Sprintf("job-%05d", group)
	g, err := grouping.New(exposition.Label{Name: "job", Value: job}, exposition.Label{Name: "instance", Value: "db1.example.org"})
	if err != nil {
		b.Fatal(err)
	}
	text := []byte("# promspool:group " + g.String() + "\n")
	for i := range 10 {
		text = fmt.Appendf(text, "# HELP batch_%d_seconds What the job measured.\n# TYPE batch_%d_seconds gauge\nbatch_%d_seconds{instance=\"db1.example.org\",job=%q,shard=\"%d\"} %d.25\n", i, i, i, job, i, value)
	}
	if err := os.WriteFile(filepath.Join(dir, g.FileName()), text, 0o644); err != nil {
		b.Fatal(err)
	}
	return g.FileName()
}

func BenchmarkScrape(b *testing.B) {
	for _, groups := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) { benchmarkScrape(b, groups) })
	}
}

func benchmarkScrape(b *testing.B, groups int) {
	dir := b.TempDir()
	for i := range groups {
		write(b, dir, i, i)
	}
	s, err := filestore.Open(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	reg, process := prometheus.NewRegistry(), prometheus.NewRegistry()
	process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	own, err := exporter.OwnFamilies(process)
	if err != nil {
		b.Fatal(err)
	}
	reg.MustRegister(exporter.NewCollector(s.View))
	e := exporter.New(exporter.Config{View: s.View, Own: reg, Process: process, OwnFamilies: own})
	for _, c := range []struct{ name, coding, accept string }{
		{"identity", "", allowUTF8}, {"gzip", "gzip", allowUTF8}, {"identity-classic", "", ""}, {"gzip-classic", "gzip", ""}, {"zstd", "zstd", allowUTF8}, {"protobuf", "gzip", protobuf},
	} {
		for _, changed := range []int{0, max(1, groups/100)} {
			name := c.name + "/idle"
			if changed > 0 {
				name = c.name + "/changed"
			}
			b.Run(name, func(b *testing.B) {
				r := httptest.NewRequest("GET", "/metrics", nil)
				r.Header.Set("Accept-Encoding", c.coding)
				r.Header.Set("Accept", c.accept)
				b.ReportAllocs()
				v := 0
				for b.Loop() {
					if changed > 0 {
						b.StopTimer()
						var names []string
						for range changed {
							v++
							names = append(names, write(b, dir, rand.IntN(groups), v))
						}
						if _, err := s.Reload(names...); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}
					w := &void{h: http.Header{}}
					e.Metrics(w, r)
					b.SetBytes(int64(w.n))
				}
			})
		}
	}
}
