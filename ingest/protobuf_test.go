package ingest_test

import (
	"bytes"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/promspool/promspool/filestore/exposition"
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
