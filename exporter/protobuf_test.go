package exporter_test

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

// byName returns families by name.
func byName(mfs []*dto.MetricFamily) map[string]*dto.MetricFamily {
	m := map[string]*dto.MetricFamily{}
	for _, mf := range mfs {
		m[mf.GetName()] = mf
	}
	return m
}

// everyType is a file with families of every type, one of which reaches over many
// segments of the merge.
func everyType() files {
	fs := large()
	for i := range 300 {
		var b strings.Builder
		fmt.Fprintf(&b, "# HELP h A \\\\ text.\n# TYPE h histogram\nh_bucket{i=\"%d\",le=\"0.5\"} 1\nh_bucket{i=\"%d\",le=\"+Inf\"} 2\nh_sum{i=\"%d\"} 1.5\nh_count{i=\"%d\"} 2\n", i, i, i, i)
		fmt.Fprintf(&b, "# TYPE s summary\ns{i=\"%d\",quantile=\"0.5\"} NaN\ns_sum{i=\"%d\"} -1\ns_count{i=\"%d\"} 2\n", i, i, i)
		fmt.Fprintf(&b, "# TYPE c counter\nc{i=\"%d\",q=\"a\\\"b\\\\c\\nd,}\"} 1e+300\n# TYPE u untyped\nu{i=\"%d\"} +Inf\n", i, i)
		if i%7 == 0 {
			fmt.Fprintf(&b, "only_%d{x=\"1\"} -0\n", i)
		}
		fs[fmt.Sprintf("h%d.prom", i)] = b.String()
	}
	fs["h0.prom"] += "go_goroutines{x=\"1\"} 3\n"
	return fs
}

// The two formats never differ where text can say it.
func TestProtobufIsTheText(t *testing.T) {
	for name, fs := range map[string]files{"nothing": {}, "little": {"a.prom": "a 1\n"}, "much": everyType()} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, fs, nil)
			text := parse(t, get(e.Metrics, "/").Body.Bytes())
			plain := get(e.Metrics, "/", "Accept", protobuf)
			want := bytes.Clone(plain.Body.Bytes())
			got := byName(decode(t, plain))
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, slices.Sorted(maps.Keys(text))) {
				t.Fatalf("protobuf has the families %v", names)
			}
			for name, mf := range text {
				if !proto.Equal(mf, got[name]) {
					t.Errorf("protobuf has\n%v\nand text\n%v", got[name], mf)
				}
			}
			zipped := get(e.Metrics, "/", "Accept", protobuf, "Accept-Encoding", "gzip")
			if b := one(t, zipped.Body); !bytes.Equal(b, want) {
				t.Errorf("gzip gives %d bytes, want %d", len(b), len(want))
			}
			z, err := zstd.NewReader(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			b, err := z.DecodeAll(get(e.Metrics, "/", "Accept", protobuf, "Accept-Encoding", "zstd").Body.Bytes(), nil)
			if err != nil || !bytes.Equal(b, want) {
				t.Errorf("zstd gives %d bytes, %v; want %d", len(b), err, len(want))
			}
			if head := do(e.Metrics, "HEAD", "/", "Accept", protobuf); head.Body.Len() > 0 || head.Header().Get("Content-Length") != plain.Header().Get("Content-Length") {
				t.Errorf("HEAD gives %d bytes and %v", head.Body.Len(), head.Header())
			}
		})
	}
}

const nativeFile = `# HELP h_seconds Native.
# TYPE h_seconds histogram
h_seconds_bucket{job="j",le="+Inf"} 4
h_seconds_sum{job="j"} 3
h_seconds_count{job="j"} 4
# UNIT h_seconds seconds
# promspool:om2 h_seconds{job="j"} {count:4,sum:3,schema:3,zero_threshold:0.001,zero_count:0,positive_spans:[2:3],positive_buckets:[1,2,1]} st@1000.5 # {trace_id="a"} 1.5 1001 # {trace_id="b"} 1.6 1002
# TYPE c_total counter
c_total{job="j"} 42
# promspool:om2 c_total{job="j"} 42.0 st@1000 # {trace_id="abc"} 1.0 1001.25
# TYPE go_goroutines gauge
go_goroutines{job="j"} 1
`

func TestNativeInTheScrape(t *testing.T) {
	e := serve(t, files{"a.prom": nativeFile}, registry())
	check := func(w *httptest.ResponseRecorder, suffix string) {
		t.Helper()
		got := byName(decode(t, w))
		h, c := got["h_seconds"+suffix].GetMetric(), got["c_total"].GetMetric()
		if len(h) != 1 || h[0].Histogram.GetSchema() != 3 || len(h[0].Histogram.PositiveDelta) != 3 || len(h[0].Histogram.Exemplars) != 2 || len(h[0].Histogram.Bucket) != 0 ||
			h[0].Histogram.GetCreatedTimestamp().AsTime().UnixMilli() != 1000_500 || got["h_seconds"+suffix].GetUnit() != "seconds" {
			t.Errorf("the histogram is %v", got["h_seconds"+suffix])
		}
		if len(c) != 1 || c[0].Counter.GetCreatedTimestamp().GetSeconds() != 1000 || c[0].Counter.GetExemplar().GetLabel()[0].GetValue() != "abc" {
			t.Errorf("the counter is %v", c)
		}
	}
	check(get(e.Metrics, "/", "Accept", protobuf), "")
	check(get(e.Metrics, "/?name[]=h_seconds&name[]=c_total", "Accept", protobuf), "")
	if mfs := byName(decode(t, get(e.Metrics, "/?name[]=go_goroutines", "Accept", protobuf))); len(mfs) != 1 || len(mfs["go_goroutines"].GetMetric()) != 2 {
		t.Errorf("the family of files and agent is %v", mfs)
	}
	if text := get(e.Metrics, "/").Body.String(); strings.Contains(text, "om2") || strings.Contains(text, "UNIT") || !strings.Contains(text, "h_seconds_bucket{job=\"j\",le=\"+Inf\"} 4\n") {
		t.Errorf("the text is\n%s", text)
	}
	// With a name to be escaped the whole answer is made anew, and has all of it as well.
	quoted := strings.NewReplacer("# HELP h_seconds", `# HELP "h.seconds"`, "# TYPE h_seconds", `# TYPE "h.seconds"`, "# UNIT h_seconds", `# UNIT "h.seconds"`,
		"h_seconds_bucket{", `{"h.seconds_bucket",`, "h_seconds_sum{", `{"h.seconds_sum",`, "h_seconds_count{", `{"h.seconds_count",`, "h_seconds{", `{"h.seconds",`).Replace(nativeFile)
	e = serve(t, files{"a.prom": quoted}, registry())
	check(get(e.Metrics, "/", "Accept", protobuf), "")
	for r := bufio.NewReader(get(e.Metrics, "/", "Accept", protobuf+";escaping=allow-utf-8").Body); ; {
		mf := new(dto.MetricFamily)
		if err := protodelim.UnmarshalFrom(r, mf); err != nil {
			t.Fatalf("names that need no escape are not as they are: %v", err)
		}
		if mf.GetName() == "h.seconds" && mf.GetUnit() == "seconds" && mf.Metric[0].Histogram.GetSchema() == 3 {
			return
		}
	}
}

func TestNativeInTheAPI(t *testing.T) {
	text := strings.Replace(nativeFile, "{count:4,sum:3,schema:3,zero_threshold:0.001,zero_count:0,positive_spans:[2:3],positive_buckets:[1,2,1]}",
		"{count:4,sum:3,schema:0,zero_threshold:0.25,zero_count:1,negative_spans:[1:2],negative_buckets:[1,0],positive_spans:[1:1,1:1],positive_buckets:[1,1]}", 1)
	e := serve(t, files{"job=j.prom": "# promspool:group {job=\"j\"}\n" + text}, nil)
	got := get(e.APIMetrics, "/api/v1/metrics").Body.String()
	want := `"buckets":[[1,"-2","-1","1"],[3,"-0.25","0.25","1"],[0,"1","2","1"],[0,"4","8","1"]],"count":"4","sum":"3"`
	if !strings.Contains(got, want) {
		t.Errorf("the API has\n%s\nwant in it\n%s", got, want)
	}
}

// Files that differ in a unit are resolved as those that differ in a HELP text: the
// first dropped file counts, then the first group. Of two lines beside equal samples
// the first counts, and the other file is named.
func TestFilesThatDifferBesideTheText(t *testing.T) {
	of := func(name, series, start string) string {
		return "# HELP c_total Of " + name + ".\n# TYPE c_total counter\n# UNIT c_total " + name + "\n" + series + " 1\n# promspool:om2 " + series + " 1.0 st@" + start + "\n"
	}
	fs := files{"a.prom": of("dropped", "c_total", "5"), "b.prom": of("second", "c_total", "6")}
	check := func(unit string, starts ...int64) {
		t.Helper()
		e := serve(t, fs, nil)
		for _, query := range []string{"/", "/?name[]=c_total"} {
			mf := byName(decode(t, get(e.Metrics, query, "Accept", protobuf)))["c_total"]
			if mf.GetUnit() != unit || mf.GetHelp() != "Of "+unit+"." {
				t.Errorf("%s has the unit %q and the text %q, want those of %q", query, mf.GetUnit(), mf.GetHelp(), unit)
			}
			var got []int64
			for _, m := range mf.Metric {
				got = append(got, m.Counter.CreatedTimestamp.GetSeconds())
			}
			if !slices.Equal(got, starts) {
				t.Errorf("%s has the start times %v, want %v", query, got, starts)
			}
		}
		if page := get(e.Metrics, "/").Body.String(); !strings.Contains(page, `promspool_file_error{file="b.prom",reason="duplicate"} 1`) {
			t.Errorf("the file with another line is not named in\n%s", page)
		}
	}
	check("dropped", 5)
	fs["job=z.prom"] = "# promspool:group {job=\"z\"}\n" + of("pushed", `c_total{job="z"}`, "7")
	check("dropped", 7, 5)
}
