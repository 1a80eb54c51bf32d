package exporter_test

import (
	"strings"
	"testing"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore/merge"
)

// beyondText has what OpenMetrics says better than the text format, and what it does
// not allow.
const beyondText = `# TYPE a gauge
a 1
# TYPE a_total counter
a_total 2
# TYPE c_bytes_total counter
c_bytes_total{x="1"} 42
# UNIT c_bytes_total bytes
# promspool:om2 c_bytes_total{x="1"} 42.0 st@1795907660.5 # {trace_id="abc"} 42.0 1795907660.257
# TYPE float histogram
float_bucket{le="+Inf"} 2.5
float_sum 1
float_count 2.5
# TYPE g_sum histogram
g_sum_bucket{a="g_sum_sum 1",le="+Inf"} 2
g_sum_sum{a="g_sum_sum 1"} 5
g_sum_count{a="g_sum_sum 1"} 2
# promspool:om2 g_sum{a="g_sum_sum 1"} {gcount:2,gsum:5,bucket:[+Inf:2]}
# TYPE h histogram
h_bucket{le="1"} 2
h_bucket{le="+Inf"} 3
h_sum 4.5
h_count 3
# promspool:om2 h {count:3,sum:4.5,schema:0,zero_threshold:0,zero_count:0,positive_spans:[0:1],positive_buckets:[3],bucket:[1:2,+Inf:3]} st@1795907660.5 # {trace_id="x"} 0.5 1795907660.257
# TYPE nan counter
nan NaN
# TYPE plain counter
plain 7
# UNIT plain rows
# promspool:om2 plain 7.0 # {trace_id="abc"} 42.0
# TYPE s summary
s{quantile="0.5"} 2
s_sum 3
s_count 1
# TYPE s_s gauge
s_s 5
# UNIT s_s s
# TYPE taken histogram
taken_bucket{le="+Inf"} 2
taken_sum 5
taken_count 2
# promspool:om2 taken {gcount:2,gsum:5,bucket:[+Inf:2]}
# TYPE taken_gcount gauge
taken_gcount 1
# TYPE "ü.b" histogram
{"ü.b_bucket",le="+Inf"} 2
{"ü.b_sum"} 5
{"ü.b_count"} 2
# promspool:om2 {"ü.b"} {gcount:2,gsum:5,bucket:[+Inf:2]}
`

func openMetrics(t testing.TB, version, query string) (contentType, text string) {
	t.Helper()
	v := viewOf(nil, files{"a.prom": beyondText})
	e := exporter.New(exporter.Config{View: func() *merge.View { return v }, OpenMetrics: true})
	w := get(e.Metrics, "/"+query, "Accept", "application/openmetrics-text;version="+version+";escaping=allow-utf-8,text/plain;version=0.0.4;q=0.5")
	return w.Header().Get("Content-Type"), w.Body.String()
}

func TestOpenMetrics(t *testing.T) {
	for version, want := range map[string]string{
		"1.0.0": `# TYPE a gauge
a 1.0
a_total 2
# TYPE c_bytes counter
# UNIT c_bytes bytes
c_bytes_total{x="1"} 42.0 # {trace_id="abc"} 42.0 1.795907660257e+09
float_bucket{le="+Inf"} 2.5
float_sum 1
float_count 2.5
# TYPE g_sum gaugehistogram
g_sum_bucket{a="g_sum_sum 1",le="+Inf"} 2
g_sum_gsum{a="g_sum_sum 1"} 5.0
g_sum_gcount{a="g_sum_sum 1"} 2
# TYPE h histogram
h_bucket{le="1.0"} 2 # {trace_id="x"} 0.5 1.795907660257e+09
h_bucket{le="+Inf"} 3
h_sum 4.5
h_count 3
# TYPE nan unknown
nan NaN
# TYPE plain unknown
plain 7.0
# TYPE s summary
s{quantile="0.5"} 2.0
s_sum 3.0
s_count 1
# TYPE s_s gauge
# UNIT s_s s
s_s 5.0
# TYPE taken gaugehistogram
taken_bucket{le="+Inf"} 2
taken_sum 5.0
taken_count 2
# TYPE taken_gcount gauge
taken_gcount 1.0
# TYPE "ü.b" gaugehistogram
{"ü.b_bucket",le="+Inf"} 2
{"ü.b_gsum"} 5.0
{"ü.b_gcount"} 2
`,
		"2.0.0": `# TYPE a gauge
a 1.0
# TYPE a_total counter
a_total 2.0
# TYPE c_bytes_total counter
# UNIT c_bytes_total bytes
c_bytes_total{x="1"} 42.0 st@1795907660.5 # {trace_id="abc"} 42.0 1795907660.257
# TYPE float histogram
float {count:2.5,sum:1,bucket:[+Inf:2.5]}
# TYPE g_sum gaugehistogram
g_sum{a="g_sum_sum 1"} {gcount:2,gsum:5,bucket:[+Inf:2]}
# TYPE h histogram
h {count:3,sum:4.5,schema:0,zero_threshold:0,zero_count:0,positive_spans:[0:1],positive_buckets:[3],bucket:[1:2,+Inf:3]} st@1795907660.5 # {trace_id="x"} 0.5 1795907660.257
nan NaN
# TYPE plain counter
# UNIT plain rows
plain 7.0
# TYPE s summary
s {count:1,sum:3,quantile:[0.5:2]}
# TYPE s_s gauge
# UNIT s_s s
s_s 5.0
# TYPE taken gaugehistogram
taken {gcount:2,gsum:5,bucket:[+Inf:2]}
# TYPE taken_gcount gauge
taken_gcount 1.0
# TYPE "ü.b" gaugehistogram
{"ü.b"} {gcount:2,gsum:5,bucket:[+Inf:2]}
`,
	} {
		contentType, text := openMetrics(t, version, "")
		if !strings.HasPrefix(contentType, "application/openmetrics-text; version="+version) {
			t.Errorf("version %s is served as %q", version, contentType)
		}
		if want += "# EOF\n"; text != want {
			t.Errorf("version %s is\n%s\nwant\n%s", version, text, want)
		}
		if _, text := openMetrics(t, version, "?name[]=a"); text != "# TYPE a gauge\na 1.0\n# EOF\n" {
			t.Errorf("version %s with name[] is\n%s", version, text)
		}
	}
}

// A scraper gets OpenMetrics only where that is enabled: series have other labels there.
func TestOpenMetricsIsOffByDefault(t *testing.T) {
	e := serve(t, files{"a.prom": "a 1\n"}, nil)
	for accept, want := range map[string]string{
		"application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2": "text/plain",
		"application/openmetrics-text;version=2.0.0": "text/plain",
	} {
		w := get(e.Metrics, "/", "Accept", accept)
		if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, want) || !strings.HasPrefix(w.Body.String(), "# TYPE a untyped\na 1\n") {
			t.Errorf("Accept %q gives %q and\n%s", accept, got, w.Body)
		}
	}
	for accept, want := range map[string]string{"": "text/plain", "*/*": "text/plain", "application/openmetrics-text;version=9": "text/plain", "application/openmetrics-text": "application/openmetrics-text; version=0.0.1", protobuf + ",application/openmetrics-text;version=1.0.0;q=0.5": "application/vnd.google.protobuf"} {
		v := viewOf(nil, files{"a.prom": "a 1\n"})
		e := exporter.New(exporter.Config{View: func() *merge.View { return v }, OpenMetrics: true})
		if got := get(e.Metrics, "/", "Accept", accept).Header().Get("Content-Type"); !strings.HasPrefix(got, want) {
			t.Errorf("where it is enabled Accept %q gives %q, want %q", accept, got, want)
		}
	}
}
