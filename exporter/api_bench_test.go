package exporter_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore/merge"
)

// BenchmarkAPI lists 10,000 groups of two gauges and a histogram. It is why groups
// are appended as text: encoding/json took three quarters longer, see DESIGN.md.
func BenchmarkAPI(b *testing.B) {
	files := map[string][]byte{}
	for i := range 10_000 {
		text := fmt.Sprintf("# promspool:group {job=\"j%05d\"}\n# HELP a_seconds How long it took.\n# TYPE a_seconds gauge\na_seconds{job=\"j%05[1]d\"} %[1]d.5\n# TYPE b gauge\nb{job=\"j%05[1]d\",disk=\"sda\"} 1\nb{job=\"j%05[1]d\",disk=\"sdb\"} 2\n# TYPE h histogram\n", i)
		for _, le := range []string{"0.1", "1", "10", "+Inf"} {
			text += fmt.Sprintf("h_bucket{job=\"j%05d\",le=%q} 3\n", i, le)
		}
		text += fmt.Sprintf("h_sum{job=\"j%05d\"} 4.5\nh_count{job=\"j%05[1]d\"} 3\n# TYPE push_time_seconds gauge\npush_time_seconds{job=\"j%05[1]d\"} 1.7e+09\n", i)
		files[fmt.Sprintf("job=j%05d.prom", i)] = []byte(text)
	}
	v := merge.Merge(nil, files)
	e := exporter.New(exporter.Config{View: func() *merge.View { return v }})
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request){"metrics": e.APIMetrics, "files": e.APIFiles} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				w := &void{h: http.Header{}}
				serve(w, httptest.NewRequest(http.MethodGet, "/", nil))
				b.SetBytes(int64(w.n))
			}
		})
	}
}
