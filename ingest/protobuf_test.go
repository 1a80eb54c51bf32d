package ingest_test

import (
	"bytes"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest"
)

const protobufType = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

func gaugeFamily(name string, v float64, labels ...string) *dto.MetricFamily {
	m := &dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(v)}}
	for i := 0; i < len(labels); i += 2 {
		m.Label = append(m.Label, &dto.LabelPair{Name: &labels[i], Value: &labels[i+1]})
	}
	return &dto.MetricFamily{Name: &name, Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{m}}
}

func delimited(t testing.TB, families ...*dto.MetricFamily) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, f := range families {
		if _, err := protodelim.MarshalTo(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestProtobufBodies(t *testing.T) {
	one := delimited(t, gaugeFamily("a", 1, "x", "1"))
	both := append(bytes.Clone(one), delimited(t, gaugeFamily("b", 2))...)
	unknown := append([]byte{one[0] + 3}, append(bytes.Clone(one[1:]), 0x98, 0x06, 0x01)...)
	stamped := gaugeFamily("a", 1)
	stamped.Metric[0].TimestampMs = proto.Int64(0)
	tests := []struct {
		name string
		body []byte
		code int
		want []string
	}{
		{"nothing", nil, 200, nil},
		{"two families", both, 200, []string{`a{job="j",x="1"} 1`, `b{job="j"} 2`}},
		{"last of one name", append(bytes.Clone(one), delimited(t, gaugeFamily("a", 2))...), 200, []string{`a{job="j"} 2`}},
		{"unknown field", unknown, 200, []string{`a{job="j",x="1"} 1`}},
		{"family without a name", delimited(t, gaugeFamily("", 1)), 400, nil},
		{"empty message", []byte{0}, 400, nil},
		{"value of another type", delimited(t, &dto.MetricFamily{Name: proto.String("a"), Type: dto.MetricType_COUNTER.Enum(), Metric: gaugeFamily("a", 1).Metric}), 400, nil},
		{"garbage after a message", append(bytes.Clone(one), 0xff), 400, nil},
		{"truncated group", []byte{2, 0x0b, 0x0b}, 400, nil},
		{"bad wire type", []byte{2, 0x0f, 0x00}, 400, nil},
		{"length of 2^62", []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0x0a}, 400, nil},
		{"length of 2^48", []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0x0a, 0x01}, 400, nil},
		{"length without end", bytes.Repeat([]byte{0xff}, 12), 400, nil},
		{"inner length too long", []byte{6, 0x22, 0xff, 0xff, 0xff, 0xff, 0x0f}, 400, nil},
		{"timestamp of zero", delimited(t, stamped), 400, nil},
	}
	a := start(t, nil, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a.wantBytes(test.code, "PUT", "/metrics/job/j", test.body, "Content-Type", protobufType)
			a.wantSamples(test.want...)
			a.want(202, "DELETE", "/metrics/job/j", "")
		})
	}
	for n := 1; n < len(both); n++ {
		if n != len(one) {
			a.wantBytes(400, "PUT", "/metrics/job/j", both[:n], "Content-Type", protobufType)
		}
	}
	if got := a.scrape(); got != "" {
		t.Errorf("truncated bodies left %q", got)
	}
}

// A push in OpenMetrics keeps its start times; in classic text they are gauges.
func TestOpenMetricsBodies(t *testing.T) {
	const body = "# TYPE rows counter\n# UNIT rows rows\nrows_total 1.0 # {t=\"u\"} 1.0 5\nrows_created 1000\n# EOF\n"
	a := start(t, nil, nil)
	for contentType, want := range map[string][]string{
		"application/openmetrics-text; version=1.0.0; charset=utf-8": {`rows_total{job="j"} 1`}, "Application/OpenMetrics-Text": {`rows_total{job="j"} 1`},
	} {
		a.wantBytes(200, "PUT", "/metrics/job/j", []byte(body), "Content-Type", contentType)
		a.wantSamples(want...)
	}
	a.wantBytes(200, "PUT", "/metrics/job/j", []byte("# TYPE rows_total counter\nrows_total 1\n# TYPE rows_created gauge\nrows_created 1000\n"), "Content-Type", "text/plain")
	a.wantSamples(`rows_created{job="j"} 1000`, `rows_total{job="j"} 1`)
	a.wantBytes(400, "PUT", "/metrics/job/j", []byte("rows_total 1.0 # {t=\"u\"} 1.0 5\n"), "Content-Type", "text/plain")
}

func TestStartTimes(t *testing.T) {
	a := start(t, nil, nil)
	for _, test := range []struct {
		url  string
		code int
	}{
		{"?start=1000", 200}, {"?start=1000.25", 200}, {"?start=2026-11-29T00:00:00Z", 200}, {"?start=", 200}, {"?start=x", 400}, {"?start=-1", 400}, {"?start=1e300", 400}, {"?start=NaN", 400}, {"?start=0001-01-01T00:00:00Z", 400},
	} {
		a.wantBytes(test.code, "PUT", "/metrics/job/j"+test.url, []byte("# TYPE a_total counter\na_total 1\n"))
	}
	for _, startTime := range []bool{false, true} {
		f, err := ingest.Decode(strings.NewReader("# TYPE a_total counter\na_total 1\n# TYPE promspool_job_runs_total counter\npromspool_job_runs_total 1\n"), nil, ingest.Options{StartTime: startTime})
		if err != nil {
			t.Fatal(err)
		}
		parts, _, _, err := exposition.Canonical(f, exposition.Labelling{}, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(parts[0].Extra, " st@"); got != startTime || parts[1].Extra != "" {
			t.Errorf("with --push.start-time %v the parts are %+v", startTime, parts)
		}
	}
}

// javaFamilies are what client_java 1.x pushes by default, made anew from the source of its
// protobuf writer: a counter with a created time in milliseconds, and a histogram with
// its classic buckets and native ones of schema 5, exemplars on the classic buckets and
// no created time. Info metrics and state sets are gauges there.
func javaFamilies() []*dto.MetricFamily {
	at := timestamppb.New(time.UnixMilli(1795907660218))
	exemplar := func(v float64) *dto.Exemplar {
		return &dto.Exemplar{Value: &v, Timestamp: at, Label: []*dto.LabelPair{{Name: proto.String("span_id"), Value: proto.String("1")}, {Name: proto.String("trace_id"), Value: proto.String("2")}}}
	}
	h := &dto.Histogram{
		Schema: proto.Int32(5), ZeroCount: proto.Uint64(0), ZeroThreshold: proto.Float64(math.Pow(2, -128)), SampleCount: proto.Uint64(3), SampleSum: proto.Float64(0.6),
		PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(-106), Length: proto.Uint32(1)}, {Offset: proto.Int32(31), Length: proto.Uint32(2)}}, PositiveDelta: []int64{1, 0, 0},
	}
	for _, bound := range []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, math.Inf(1)} {
		b := &dto.Bucket{UpperBound: proto.Float64(bound), CumulativeCount: proto.Uint64(0)}
		switch {
		case bound == 0.1:
			b.CumulativeCount, b.Exemplar = proto.Uint64(1), exemplar(0.1)
		case bound > 0.1:
			b.CumulativeCount = proto.Uint64(3)
		}
		h.Bucket = append(h.Bucket, b)
	}
	return []*dto.MetricFamily{
		{Name: proto.String("h_seconds"), Help: proto.String("H."), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: h}}},
		{Name: proto.String("rows_total"), Help: proto.String("R."), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(42), Exemplar: exemplar(42), CreatedTimestamp: at}}}},
	}
}

// All that client_java pushes is in the exposition by protobuf.
func TestJavaClient(t *testing.T) {
	store, err := filestore.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	g, err := grouping.New(exposition.Label{Name: "job", Value: "j"})
	if err != nil {
		t.Fatal(err)
	}
	want := javaFamilies()
	families, err := ingest.Decode(bytes.NewReader(delimited(t, want...)), http.Header{"Content-Type": {protobufType}}, ingest.Options{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Replace(g, families, record.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, mf := range want {
		mf.Metric[0].Label = []*dto.LabelPair{{Name: proto.String("job"), Value: proto.String("j")}}
		got := new(dto.MetricFamily)
		if err := protodelim.UnmarshalFrom(bytes.NewReader(store.View().AppendEncoded(nil, mf.GetName())), got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, mf) {
			t.Errorf("%s is served as\n%v\nwant\n%v", mf.GetName(), got, mf)
		}
	}
}
