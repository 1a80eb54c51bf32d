package exporter_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
)

// indent makes JSON comparable by eye; the order of members stays.
func indent(t *testing.T, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", " "); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return strings.TrimSpace(out.String())
}

func TestAPIMetricsIsPushgateways(t *testing.T) {
	fs := files{"dropped.prom": "d 1\n", "bad.prom": "x"}
	group(t, fs, `# HELP c "Help"	<b>.
# TYPE c counter
c{job="b",x="ü\n"} 1e+06
# TYPE h histogram
h_bucket{job="b",le="0.5"} 1
h_bucket{job="b",le="+Inf"} 2000000
h_sum{job="b"} 7.25
h_count{job="b"} 2000000
# TYPE labels gauge
labels{job="b"} 1
# TYPE push_failure_time_seconds gauge
push_failure_time_seconds{job="b"} 0
# TYPE push_time_seconds gauge
push_time_seconds{job="b"} 1.7e+09
# TYPE s summary
s{job="b",quantile="0.5"} NaN
s_sum{job="b"} -0.5
s_count{job="b"} 3
u{instance="",job="b"} +Inf
`, exposition.Label{Name: "job", Value: "b"})
	group(t, fs, `# TYPE last_push_successful gauge
last_push_successful{instance="i",job="a"} 1
# TYPE push_failure_time_seconds gauge
push_failure_time_seconds{instance="i",job="a"} 1.7000000005e+09
# TYPE push_time_seconds gauge
push_time_seconds{instance="i",job="a"} 0
`, exposition.Label{Name: "job", Value: "a"}, exposition.Label{Name: "instance", Value: "i"})
	const want = `{"status":"success","data":[
{"labels":{"instance":"i","job":"a"},"last_push_successful":false,
 "push_failure_time_seconds":{"time_stamp":"2023-11-14T22:13:20.5Z","type":"GAUGE","metrics":[{"labels":{"instance":"i","job":"a"},"value":"1.7000000005e+09"}]},
 "push_time_seconds":{"time_stamp":"2023-11-14T22:13:20.5Z","type":"GAUGE","metrics":[{"labels":{"instance":"i","job":"a"},"value":"0"}]}},
{"labels":{"job":"b"},"last_push_successful":true,
 "c":{"time_stamp":"2023-11-14T22:13:20Z","type":"COUNTER","help":"\"Help\"\u0009\u003cb\u003e.","metrics":[{"labels":{"job":"b","x":"ü\n"},"value":"1e+06"}]},
 "h":{"time_stamp":"2023-11-14T22:13:20Z","type":"HISTOGRAM","metrics":[{"labels":{"job":"b"},"buckets":{"0.5":"1","+Inf":"2000000"},"count":"2000000","sum":"7.25"}]},
 "push_failure_time_seconds":{"time_stamp":"2023-11-14T22:13:20Z","type":"GAUGE","metrics":[{"labels":{"job":"b"},"value":"0"}]},
 "push_time_seconds":{"time_stamp":"2023-11-14T22:13:20Z","type":"GAUGE","metrics":[{"labels":{"job":"b"},"value":"1.7e+09"}]},
 "s":{"time_stamp":"2023-11-14T22:13:20Z","type":"SUMMARY","metrics":[{"labels":{"job":"b"},"quantiles":{"0.5":"NaN"},"count":"3","sum":"-0.5"}]},
 "u":{"time_stamp":"2023-11-14T22:13:20Z","type":"UNTYPED","metrics":[{"labels":{"instance":"","job":"b"},"value":"+Inf"}]}}
]}`
	e := serve(t, fs, nil)
	w := get(e.APIMetrics, "/api/v1/metrics")
	if d := cmp.Diff(indent(t, []byte(want)), indent(t, w.Body.Bytes())); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	h := w.Header()
	if w.Code != 200 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-cache, no-store, must-revalidate" {
		t.Errorf("%d %v", w.Code, h)
	}
	if w := get(serve(t, nil, nil).APIMetrics, "/"); indent(t, w.Body.Bytes()) != indent(t, []byte(`{"status":"success","data":[]}`)) {
		t.Errorf("an empty spool gives %s", w.Body)
	}
}

// Strings and numbers are those of encoding/json and fmt, which Pushgateway uses.
func TestJSONStringsAndNumbers(t *testing.T) {
	for _, s := range []string{"", "plain", "\x00\x01\x1f\x7f", "\"\\/<>&'", "ü€😊\u2028\u2029", "a\nb\tc\r"} {
		fs := files{}
		labels := []exposition.Label{{Name: "job", Value: "j"}}
		if s != "" && !strings.Contains(s, "\x00") {
			labels = append(labels, exposition.Label{Name: "l", Value: s})
		}
		group(t, fs, "a 1\n", labels...)
		var doc struct {
			Data []struct{ Labels map[string]string }
		}
		if err := json.Unmarshal(get(serve(t, fs, nil).APIMetrics, "/").Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if want := labels[len(labels)-1]; doc.Data[0].Labels[want.Name] != want.Value {
			t.Errorf("label value %q comes as %q", want.Value, doc.Data[0].Labels[want.Name])
		}
	}
	for _, f := range []float64{0, 1, -1, 0.1, 1e6, 123456789, 1e20, 1e21, 1.5e-7, math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN()} {
		fs := files{}
		group(t, fs, "a{job=\"j\"} "+strconv.FormatFloat(f, 'g', -1, 64)+"\n", exposition.Label{Name: "job", Value: "j"})
		if got, want := get(serve(t, fs, nil).APIMetrics, "/").Body.String(), fmt.Sprintf(`"value":%q`, fmt.Sprint(f)); !strings.Contains(got, want) {
			t.Errorf("%v: got %s, want it to have %s", f, got, want)
		}
	}
}

func TestAPIStatus(t *testing.T) {
	v := viewOf(nil, nil)
	e := exporter.New(exporter.Config{
		View: func() *merge.View { return v },
		Info: exporter.Info{
			Build: map[string]string{"version": "1", "branch": "main"},
			Flags: map[string]string{"log.level": "info"},
			Start: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		},
	})
	const want = `{"status":"success","data":{"flags":{"log.level":"info"},"start_time":"2026-01-02T03:04:05.000000006Z","build_information":{"branch":"main","version":"1"}}}`
	if got := get(e.APIStatus, "/"); indent(t, got.Body.Bytes()) != indent(t, []byte(want)) || got.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got %s", got.Body)
	}
}

func TestAPIFiles(t *testing.T) {
	fs := files{
		"bad\xff.prom": "ok 1\na b c\n",
		"z.prom":       "# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 1\n",
		"fine.prom":    "b 1\n",
	}
	g := group(t, fs, "# TYPE a gauge\na{job=\"b\"} 1\n# TYPE push_time_seconds gauge\npush_time_seconds{job=\"b\"} 1.7e+09\n", exposition.Label{Name: "job", Value: "b"})
	want := fmt.Sprintf(`{"status":"success","data":[
{"name":%q,"kind":"group","labels":{"job":"b"},"size_bytes":%d,"series":2,"last_push":"2023-11-14T22:13:20Z"},
{"name":"bad\\xff.prom","kind":"file","size_bytes":%d,"series":0,"error":{"reason":"syntax","line":2,"message":"MESSAGE"}},
{"name":"fine.prom","kind":"file","size_bytes":4,"series":1},
{"name":"z.prom","kind":"file","size_bytes":%d,"series":2,"conflicts":[{"family":"a","kept":%q,"reason":"type-conflict","series":2}]}
],"matched":4}`, g, len(fs[g]), len(fs["bad\xff.prom"]), len(fs["z.prom"]), g)
	v := viewOf(nil, fs)
	want = strings.Replace(want, "MESSAGE", v.File("bad\xff.prom").Problem().Msg, 1)
	e := exporter.New(exporter.Config{View: func() *merge.View { return v }})
	if d := cmp.Diff(indent(t, []byte(want)), indent(t, get(e.APIFiles, "/").Body.Bytes())); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestAPIFilesTellsTimes(t *testing.T) {
	start := time.Now().Truncate(time.Second) // some file systems have whole seconds
	s, err := filestore.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g, err := grouping.New(exposition.Label{Name: "job", Value: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Fail(g); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Data []struct {
			Modified    time.Time  `json:"mtime"`
			Age         float64    `json:"age_seconds"`
			LastPush    *time.Time `json:"last_push"`
			LastFailure time.Time  `json:"last_failure"`
		}
	}
	e := exporter.New(exporter.Config{View: s.View})
	if err := json.NewDecoder(io.TeeReader(get(e.APIFiles, "/").Body, io.Discard)).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	x := doc.Data[0]
	test := time.Since(start).Seconds()
	if x.Modified.Before(start) || math.Abs(x.Age) > test || x.LastPush != nil || x.LastFailure.Before(start) {
		t.Errorf("the entry is %+v", x)
	}
	if body := get(e.APIMetrics, "/").Body.String(); !strings.Contains(body, `"last_push_successful":false`) {
		t.Errorf("the group is %s", body)
	}
}
