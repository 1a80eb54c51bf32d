package ingest_test

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/ingest"
)

func TestLimitsOfBodies(t *testing.T) {
	a := start(t, nil, func(c *ingest.Config) {
		c.MaxBytes = 1000
		c.Limits = exposition.Limits{Series: 20, Labels: 2, LabelName: 8, LabelValue: 100}
	})
	pad := func(n int) string { return "a 1\n" + strings.Repeat("#", n-5) + "\n" }
	put := func(code int, body string, header ...string) {
		t.Helper()
		got := a.want(code, "PUT", "/metrics/job/j", body, header...)
		if len(body) > 1000 && !strings.Contains(got.body, "--push.max-bytes") {
			t.Errorf("the refusal says %q", got.body)
		}
	}
	put(200, pad(1000))
	put(413, pad(1001))
	a.do("PUT", "/metrics/job/j", struct{ io.Reader }{strings.NewReader(pad(1000))}) // chunked
	if got := a.do("PUT", "/metrics/job/j", struct{ io.Reader }{strings.NewReader(pad(1001))}); got.code != 413 {
		t.Errorf("a chunked body over the limit = %d, want 413", got.code)
	}
	for _, encoding := range []string{"gzip", "snappy", "zstd"} {
		a.wantBytes(200, "PUT", "/metrics/job/j", compressed(t, encoding, []byte(pad(1000))), "Content-Encoding", encoding)
		a.wantBytes(413, "PUT", "/metrics/job/j", compressed(t, encoding, []byte(pad(1001))), "Content-Encoding", encoding)
	}
	put(413, strings.Repeat("a 1\n", 21))
	put(413, `a{x="1",y="1",z="1"} 1`+"\n")
	put(413, `a{xxxxxxxxx="1"} 1`+"\n")
	put(413, `a{x="`+strings.Repeat("v", 101)+`"} 1`+"\n")
	many := gaugeFamily("a", 1)
	for range 20 {
		many.Metric = append(many.Metric, many.Metric[0])
	}
	a.wantBytes(413, "PUT", "/metrics/job/j", delimited(t, many), "Content-Type", protobufType)
	a.wantSamples(`a{job="j"} 1`)
}

// A body that is small on the wire must not become large in memory.
func TestBombsStaySmall(t *testing.T) {
	const limit = 1 << 20
	a := start(t, nil, func(c *ingest.Config) { c.MaxBytes = limit })
	zeros := make([]byte, 256<<20)
	// A frame that announces a window of 2 GiB.
	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00}
	// Half a million metrics in a megabyte.
	metrics := append(protowire.AppendVarint(nil, limit-4), bytes.Repeat([]byte{0x22, 0x00}, limit/2-2)...)
	tests := []struct {
		name   string
		body   []byte
		header []string
		code   int
	}{
		{"gzip", compressed(t, "gzip", zeros), []string{"Content-Encoding", "gzip"}, 413},
		{"zstd", compressed(t, "zstd", zeros), []string{"Content-Encoding", "zstd"}, 413},
		{"snappy", compressed(t, "snappy", zeros[:16<<20]), []string{"Content-Encoding", "snappy"}, 413},
		{"zstd window", window, []string{"Content-Encoding", "zstd"}, 400},
		{"protobuf metrics", metrics, []string{"Content-Type", protobufType}, 413},
		{"protobuf messages", make([]byte, limit), []string{"Content-Type", protobufType}, 413},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := a.do("PUT", "/metrics/job/j", bytes.NewReader(test.body), test.header...)
			runtime.ReadMemStats(&after)
			if got.code != test.code {
				t.Errorf("PUT = %d %q, want %d", got.code, got.body, test.code)
			}
			// The sum of all allocations, not the memory in use.
			if n := after.TotalAlloc - before.TotalAlloc; n > 64*limit {
				t.Errorf("a body of %d bytes made %d MiB", len(test.body), n>>20)
			}
		})
	}
	a.wantSamples()
}
