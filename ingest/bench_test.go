package ingest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
)

// BenchmarkPush is a push of ten series, from the handler to the disk. Refused
// is the same push with a last line that is wrong, so it leaves the store and
// the disk out.
func BenchmarkPush(b *testing.B) {
	var text strings.Builder
	var families []*dto.MetricFamily
	for i := range 10 {
		fmt.Fprintf(&text, "# TYPE metric_number_%d gauge\nmetric_number_%d{zone=\"eu-west-1\",kind=\"daily\"} %d.25\n", i, i, i)
		families = append(families, gaugeFamily(fmt.Sprintf("metric_number_%d", i), float64(i), "zone", "eu-west-1", "kind", "daily"))
	}
	protobuf := string(delimited(b, families...))
	zipped := string(compressed(b, "gzip", []byte(text.String())))
	nameless := string(delimited(b, append(families, gaugeFamily("", 1))...))
	for _, bench := range []struct {
		name, body string
		header     http.Header
		code       int
	}{
		{"text", text.String(), nil, 200},
		{"protobuf", protobuf, http.Header{"Content-Type": {protobufType}}, 200},
		{"gzip", zipped, http.Header{"Content-Encoding": {"gzip"}}, 200},
		{"refused/text", text.String() + "a\n", nil, 400},
		{"refused/protobuf", nameless, http.Header{"Content-Type": {protobufType}}, 400},
	} {
		b.Run(bench.name+"/serial", func(b *testing.B) {
			push := pusher(b, bench.body, bench.header, bench.code)
			for b.Loop() {
				push("/metrics/job/benchmark/instance/1")
			}
		})
		b.Run(bench.name+"/parallel", func(b *testing.B) {
			push := pusher(b, bench.body, bench.header, bench.code)
			var next atomic.Int64
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				path := fmt.Sprintf("/metrics/job/benchmark/instance/%d", next.Add(1))
				for pb.Next() {
					push(path)
				}
			})
		})
	}
}

func pusher(b *testing.B, body string, header http.Header, code int) func(path string) {
	store, err := filestore.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	h, err := ingest.New(ingest.Config{Store: store})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return func(path string) {
		r := httptest.NewRequest(http.MethodPut, path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:1"
		if header != nil {
			r.Header = header
		}
		w := httptest.NewRecorder()
		if !h.Serve(w, r, r.URL.EscapedPath()) || w.Code != code {
			b.Errorf("PUT = %d %s, want %d", w.Code, w.Body, code)
		}
	}
}
