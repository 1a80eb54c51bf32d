package exporter_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
)

func BenchmarkPage(b *testing.B) {
	for _, groups := range []int{100, 10_000, 100_000} {
		fs := files{}
		for i := range groups {
			group(b, fs, fmt.Sprintf("# TYPE batch_seconds gauge\nbatch_seconds{instance=\"db1.example.org\",job=\"Job-%d\"} %d\n# TYPE promspool_job_next_due_timestamp_seconds gauge\npromspool_job_next_due_timestamp_seconds{instance=\"db1.example.org\",job=\"Job-%d\"} 1.7e+09\n# TYPE promspool_job_start_timestamp_seconds gauge\npromspool_job_start_timestamp_seconds{instance=\"db1.example.org\",job=\"Job-%d\"} 1.7e+09\n# TYPE push_time_seconds gauge\npush_time_seconds{instance=\"db1.example.org\",job=\"Job-%d\"} %d\n", i, i, i, i, i, 1_700_000_000+i*7919%groups),
				exposition.Label{Name: "job", Value: fmt.Sprintf("Job-%d", i)}, exposition.Label{Name: "instance", Value: "db1.example.org"})
		}
		v := viewOf(nil, fs)
		e := exporter.New(exporter.Config{View: func() *merge.View { return v }, CanWrite: func(*http.Request) bool { return true }})
		for _, c := range []struct{ name, query string }{
			{"first", ""}, {"sorted", "?sort=-time&offset=50"}, {"searched", "?search=job-7+db1&sort=-size"}, {"matched", "?search=%7Bjob%3D~%22.*77%22%7D"}, {"jobs", "?view=jobs"},
		} {
			b.Run(fmt.Sprintf("groups=%d/%s", groups, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					w := &void{h: http.Header{}}
					e.Page(w, httptest.NewRequest("GET", "/"+c.query, nil))
					if w.n < 3000 {
						b.Fatalf("the page has %d bytes", w.n)
					}
				}
			})
		}
	}
}
