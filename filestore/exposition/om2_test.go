package exposition

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// These tests are internal because om2 lines have effects only through files.

func ptr[T any](v T) *T { return &v }

func spans(pairs ...int) (list []*dto.BucketSpan) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, &dto.BucketSpan{Offset: ptr(int32(pairs[i])), Length: ptr(uint32(pairs[i+1]))})
	}
	return list
}

func exemplar(v float64, at *timestamppb.Timestamp, labels ...string) *dto.Exemplar {
	e := &dto.Exemplar{Value: &v, Timestamp: at}
	for i := 0; i < len(labels); i += 2 {
		e.Label = append(e.Label, &dto.LabelPair{Name: &labels[i], Value: &labels[i+1]})
	}
	return e
}

func histogramFamily(h *dto.Histogram) *dto.MetricFamily {
	return &dto.MetricFamily{Name: ptr("h"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: h}}}
}

// richFamilies are families that the text format alone cannot keep.
func richFamilies() map[string]*dto.MetricFamily {
	at := timestamppb.New(time.Unix(1795907660, 218784903))
	inf := math.Inf(1)
	nan := math.NaN()
	native := func() *dto.Histogram {
		return &dto.Histogram{
			SampleCount: ptr(uint64(9)), SampleSum: ptr(1.5), Schema: ptr(int32(3)), ZeroThreshold: ptr(2.9e-39), ZeroCount: ptr(uint64(1)),
			PositiveSpan: spans(-53, 1, 31, 2), PositiveDelta: []int64{3, -2, 1}, NegativeSpan: spans(0, 1), NegativeDelta: []int64{2}, CreatedTimestamp: at,
		}
	}
	list := map[string]*dto.MetricFamily{}
	add := func(name string, mf *dto.MetricFamily) { list[name] = mf }
	add("native", histogramFamily(native()))
	mixed := native()
	mixed.Bucket = []*dto.Bucket{{UpperBound: ptr(0.5), CumulativeCount: ptr(uint64(4)), Exemplar: exemplar(0.1, at, "trace_id", "a\"b\\c\nd # {")}, {UpperBound: &inf, CumulativeCount: ptr(uint64(9))}}
	add("mixed", histogramFamily(mixed))
	many := native()
	many.Exemplars = []*dto.Exemplar{exemplar(1, at, "trace_id", "a"), exemplar(2, at, "trace_id", "b"), exemplar(-3, at)}
	add("exemplars", histogramFamily(many))
	empty := &dto.Histogram{SampleCount: ptr(uint64(0)), SampleSum: ptr(0.0), Schema: ptr(int32(0)), ZeroThreshold: ptr(0.0), ZeroCount: ptr(uint64(0)), PositiveSpan: spans(0, 0)}
	add("empty", histogramFamily(empty))
	float := &dto.Histogram{SampleCountFloat: ptr(4.5), SampleSum: ptr(-1.0), Schema: ptr(int32(-4)), ZeroThreshold: ptr(0.1), ZeroCountFloat: ptr(0.5), PositiveSpan: spans(1, 2), PositiveCount: []float64{1.5, 2.5}}
	add("float", histogramFamily(float))
	wholeFloat := proto.Clone(float).(*dto.Histogram)
	wholeFloat.SampleCountFloat, wholeFloat.ZeroCountFloat, wholeFloat.PositiveCount = ptr(16.0), ptr(0.0), []float64{1, 2}
	add("float with whole numbers", histogramFamily(wholeFloat))
	gauge := histogramFamily(native())
	gauge.Type, gauge.Metric[0].Histogram.CreatedTimestamp = dto.MetricType_GAUGE_HISTOGRAM.Enum(), nil
	add("gauge histogram", gauge)
	noSum := native()
	noSum.SampleSum = &nan
	add("sum that is not a number", histogramFamily(noSum))
	large := &dto.Histogram{SampleCount: ptr(uint64(1<<53 + 1)), SampleSum: ptr(1.0), Schema: ptr(int32(8)), ZeroThreshold: ptr(0.0), ZeroCount: ptr(uint64(1<<53 + 1))}
	add("count beyond floats", histogramFamily(large))
	add("classic with start", histogramFamily(&dto.Histogram{SampleCount: ptr(uint64(2)), SampleSum: ptr(1.0), CreatedTimestamp: at, Bucket: []*dto.Bucket{{UpperBound: &inf, CumulativeCount: ptr(uint64(2))}}}))
	counter := func(v float64, at *timestamppb.Timestamp, e *dto.Exemplar) *dto.MetricFamily {
		return &dto.MetricFamily{Name: ptr("c_total"), Help: ptr("A \\ text."), Unit: ptr("rows"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{
			{Label: []*dto.LabelPair{{Name: ptr("a b"), Value: ptr("x,\"}=y")}}, Counter: &dto.Counter{Value: &v, CreatedTimestamp: at, Exemplar: e}},
			{Label: []*dto.LabelPair{{Name: ptr("z"), Value: ptr("1")}}, Counter: &dto.Counter{Value: &v}},
		}}
	}
	add("counter", counter(42, at, exemplar(42, at, "trace_id", "abc")))
	add("counter, exemplar without a time", counter(0.25, nil, exemplar(1, nil, "trace_id", "abc")))
	add("counter before 1970", counter(1, timestamppb.New(time.Unix(-1, 250_000_000)), nil))
	add("counter that is not a number", counter(nan, at, nil))
	add("negative counter", counter(-1, at, nil))
	add("summary", &dto.MetricFamily{Name: ptr("s"), Type: dto.MetricType_SUMMARY.Enum(), Metric: []*dto.Metric{{Summary: &dto.Summary{SampleCount: ptr(uint64(3)), SampleSum: &nan, CreatedTimestamp: at, Quantile: []*dto.Quantile{{Quantile: ptr(0.5), Value: &nan}}}}}})
	add("gauge with a unit", &dto.MetricFamily{Name: ptr("ü.b"), Unit: ptr("bytes"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: ptr(1.0)}}}})
	utf8 := counter(7, at, nil)
	utf8.Name = ptr("größe.total")
	add("name in quotes", utf8)
	return list
}

// partsOf reads protobuf families as a push is read.
func partsOf(t testing.TB, mfs ...*dto.MetricFamily) []Part {
	t.Helper()
	clones := make([]*dto.MetricFamily, len(mfs))
	for i, mf := range mfs {
		clones[i] = proto.Clone(mf).(*dto.MetricFamily)
	}
	f, err := FromProto(clones, Limits{}, true)
	if err != nil {
		t.Fatal(err)
	}
	parts, _, _, err := Canonical(f, Labelling{}, false)
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// fileOf returns the text of a file with the parts.
func fileOf(parts []Part) (text []byte) {
	for _, p := range parts {
		d := p.Desc.Value()
		text = AppendHeader(text, d.Name, d.Help, d.Typ)
		text = append(append(text, p.Text...), p.Extra...)
	}
	return text
}

// readBack parses a file and fails if a line in it is ignored.
func readBack(t testing.TB, text []byte) []Part {
	t.Helper()
	f, err := ParseFile(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	parts, _, issue, err := Canonical(f, Labelling{}, true)
	if err != nil || issue != nil {
		t.Fatalf("%v, %v in\n%s", err, issue, text)
	}
	return parts
}

// wireOf returns a part as protobuf.
func wireOf(t testing.TB, p Part) *dto.MetricFamily {
	t.Helper()
	var w Wire
	d := p.Desc.Value()
	w.Add(d, p.Text, p.Extra)
	b := AppendFamilyKind(AppendFamilyHead(nil, d.Name, d.Help), d.Typ, w.Unit, w.Count, w.Gauges)
	mf := new(dto.MetricFamily)
	if err := proto.Unmarshal(append(b, w.Metrics...), mf); err != nil {
		t.Fatal(err)
	}
	return mf
}

func TestRoundTrip(t *testing.T) {
	for name, mf := range richFamilies() {
		t.Run(name, func(t *testing.T) {
			text := fileOf(partsOf(t, mf))
			again := readBack(t, text)
			if got := fileOf(again); !bytes.Equal(got, text) {
				t.Errorf("read back it is\n%sand was\n%s", got, text)
			}
			if len(again) != 1 {
				t.Fatalf("%d families in\n%s", len(again), text)
			}
			if got := wireOf(t, again[0]); !proto.Equal(got, mf) {
				t.Errorf("comes back as\n%v\nand was\n%v\nthrough\n%s", got, mf, text)
			}
			// Readers of the text format see comments.
			if _, err := Parse(text, Limits{}, true); err != nil {
				t.Error(err)
			}
		})
	}
}

const nativeText = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_sum 4.5\nh_count 3\n"

// hostileLines are om2 lines that are ignored.
func hostileLines() map[string]string {
	const head = "h {count:3,sum:4.5,schema:0,zero_threshold:0,zero_count:0,"
	return map[string]string{
		"nothing": "", "name only": "h", "no value": "h ", "plain value": "h 3", "open braces": "h {count:3", "open list": "h {count:3,sum:4.5,bucket:[", "no sum": "h {count:3}", "not closed": `h{a="b" {count:3,sum:4.5}`,
		"unknown field": "h {count:3,sum:4.5,x:1}", "field twice": "h {count:3,count:3,sum:4.5}", "rest": "h {count:3,sum:4.5} x", "timestamp": "h {count:3,sum:4.5} 5", "NUL": "h {count:3,sum:4.5}\x00",
		"another count": "h {count:4,sum:4.5}", "another sum": "h {count:3,sum:4}", "negative count": "h {count:-3,sum:4.5}", "count is NaN": "h {count:NaN,sum:4.5}", "huge count": "h {count:99999999999999999999999,sum:4.5}",
		"hex": "h {count:0x3,sum:4.5}", "quantiles": "h {count:3,sum:4.5,quantile:[]}", "label twice": `h{a="1",a="2"} {count:3,sum:4.5}`,
		"huge span": head + "positive_spans:[0:4294967295],positive_buckets:[3]}", "span overflow": head + "positive_spans:[2147483647:2],positive_buckets:[1,2]}", "span too long": head + "positive_spans:[0:4294967296],positive_buckets:[3]}",
		"span backwards": head + "positive_spans:[0:1,-1:1],positive_buckets:[1,2]}", "spans without buckets": head + "positive_spans:[0:1]}", "buckets without spans": head + "positive_buckets:[3]}", "empty lists": head + "positive_spans:[],positive_buckets:[]}",
		"negative bucket": head + "positive_spans:[0:2],positive_buckets:[4,-1]}", "bucket overflow": head + "positive_spans:[0:3],positive_buckets:[9223372036854775807,9223372036854775807,9223372036854775807]}", "bucket is NaN": head + "positive_spans:[0:1],positive_buckets:[NaN]}",
		"buckets do not add up": head + "positive_spans:[0:1],positive_buckets:[2]}", "schema 9": strings.Replace(head, "schema:0", "schema:9", 1) + "positive_spans:[0:1],positive_buckets:[3]}", "schema of custom buckets": strings.Replace(head, "schema:0", "schema:-53", 1) + "positive_spans:[0:1],positive_buckets:[3]}",
		"threshold is NaN": strings.Replace(head, "threshold:0", "threshold:NaN", 1) + "positive_spans:[0:1],positive_buckets:[3]}", "negative zero_count": strings.Replace(head, "zero_count:0", "zero_count:-1", 1) + "positive_spans:[0:1],positive_buckets:[4]}",
		"a million buckets": head + "positive_spans:[0:1000000],positive_buckets:[" + strings.Repeat("0,", 999_999) + "3]}",
		"start no number":   "h {count:3,sum:4.5} st@x", "start empty": "h {count:3,sum:4.5} st@", "start out of range": "h {count:3,sum:4.5} st@999999999999", "start in exponents": "h {count:3,sum:4.5} st@1e9",
		"exemplar without labels": "h {count:3,sum:4.5} # 1 1", "exemplar label twice": `h {count:3,sum:4.5} # {a="1",a="2"} 1 1`, "exemplar without value": `h {count:3,sum:4.5} # {a="1"}`, "exemplar time": `h {count:3,sum:4.5} # {a="1"} 1 NaN`, "exemplars": "h {count:3,sum:4.5}" + strings.Repeat(` # {} 1 1`, FileLimits.Exemplars+1),
	}
}

// An invalid line is ignored and reported with its number, and the rest is served.
func TestHostileLines(t *testing.T) {
	const before, after = "# TYPE a counter\na 1\n# promspool:om2 a 1.0 st@5\n", "# TYPE z counter\nz 1\n# promspool:om2 z 1.0 st@5\n"
	for name, line := range hostileLines() {
		t.Run(name, func(t *testing.T) {
			f, err := ParseFile([]byte(before + nativeText + om2Prefix + line + "\n" + after))
			if err != nil {
				t.Fatal(err)
			}
			parts, _, issue, err := Canonical(f, Labelling{}, true)
			if err != nil {
				t.Fatal(err)
			}
			if issue == nil || issue.Line != 8 && name != "NUL" || len(issue.Msg) > 300 {
				t.Errorf("named as %v, want something short about line 8", issue)
			}
			if len(parts) != 3 || parts[0].Extra == "" || parts[1].Extra != "" || parts[2].Extra == "" || parts[1].Text+"# TYPE h histogram\n" == "" {
				t.Errorf("it has cost more than its own line: %+v", parts)
			}
			if _, err := Parse([]byte(nativeText+om2Prefix+line+"\n"), FileLimits, true); name != "NUL" {
				if err == nil {
					f, _ := Parse([]byte(nativeText+om2Prefix+line+"\n"), FileLimits, true)
					_, _, _, err = Canonical(f, Labelling{}, false)
				}
				if err == nil {
					t.Error("the push is accepted")
				}
			}
		})
	}
}

// Lines can remain when the series of their family was deleted.
func TestOrphans(t *testing.T) {
	for _, text := range []string{
		om2Prefix + "h {count:3,sum:4.5} st@5\n" + nativeText, nativeText + om2Prefix + `h{a="b"} {count:3,sum:4.5} st@5` + "\n", nativeText + om2Prefix + "other 1 st@5\n", nativeText + "# UNIT other s\n# UNIT\n# UNIT h\n",
	} {
		parts := readBack(t, []byte(text))
		if len(parts) != 1 || parts[0].Extra != "" {
			t.Errorf("%q has an Extra: %+v", text, parts)
		}
	}
}

// The labels of a group are added to the line as to the series.
func TestLabellingOfLines(t *testing.T) {
	f, err := Parse([]byte("# TYPE a counter\na{x=\"1\",job=\"z\"} 1\na{x=\"2\"} 1\n# UNIT a s\n"+om2Prefix+"a{job=\"z\",x=\"1\"} 1.0 st@5.5 # {t=\"u\"} 1.0 6\n"), Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	parts, _, _, err := Canonical(f, Labelling{Over: []Label{{"job", "j"}}, EmptyInstance: true}, false)
	if err != nil {
		t.Fatal(err)
	}
	want := "# UNIT a s\n" + om2Prefix + `a{instance="",job="j",x="1"} 1.0 st@5.5 # {t="u"} 1.0 6` + "\n"
	if got := parts[0].Extra; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A push beyond a limit is rejected with the name of the flag.
func TestLimitsBesideTheText(t *testing.T) {
	many := histogramFamily(&dto.Histogram{SampleCount: ptr(uint64(3)), SampleSum: ptr(1.0), Schema: ptr(int32(0)), ZeroThreshold: ptr(0.0), PositiveSpan: spans(0, 3), PositiveDelta: []int64{1, 0, 0}, Exemplars: []*dto.Exemplar{exemplar(1, nil), exemplar(2, nil), exemplar(3, nil)}})
	text := fileOf(partsOf(t, many))
	for flag, limits := range map[string]Limits{"--push.max-buckets=2": {Buckets: 2}, "--push.max-exemplars=2": {Exemplars: 2}, "": {Buckets: 3, Exemplars: 3}} {
		_, err := FromProto([]*dto.MetricFamily{proto.Clone(many).(*dto.MetricFamily)}, limits, false)
		_, err2 := Parse(text, limits, false)
		for _, err := range []error{err, err2} {
			if flag == "" && err != nil || flag != "" && (err == nil || !strings.Contains(err.Error(), flag)) {
				t.Errorf("%v gives %v, want %q", limits, err, flag)
			}
		}
	}
	if _, err := FromProto([]*dto.MetricFamily{many}, Limits{Buckets: 1 << 30, Exemplars: 1 << 30}, false); err != nil {
		t.Error(err)
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, mf := range richFamilies() {
		var b bytes.Buffer
		if _, err := protodelim.MarshalTo(&b, mf); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		mf := new(dto.MetricFamily)
		if protodelim.UnmarshalFrom(bytes.NewReader(data), mf) != nil {
			return
		}
		fams, err := FromProto([]*dto.MetricFamily{mf}, FileLimits, true)
		if err != nil {
			return
		}
		parts, _, _, err := Canonical(fams, Labelling{}, false)
		if err != nil {
			return
		}
		text := fileOf(parts)
		again := readBack(t, text)
		if got := fileOf(again); !bytes.Equal(got, text) {
			t.Fatalf("read back it is\n%sand was\n%s", got, text)
		}
		for _, p := range again {
			// Lists of classic buckets in the line are not read, so it may have another one.
			wire := wireOf(t, p)
			more := partsOf(t, wire)
			if len(more) != 1 || more[0].Text != p.Text {
				t.Fatalf("through protobuf it is\n%sand was\n%s", fileOf(more), p.Text)
			}
			if got := wireOf(t, more[0]); !proto.Equal(got, wire) {
				t.Fatalf("through protobuf it is\n%v\nand was\n%v", got, wire)
			}
		}
	})
}

// FuzzPoint compares the parser of om2 lines with that of prometheus/common, which
// takes far longer.
func FuzzPoint(f *testing.F) {
	for _, mf := range richFamilies() {
		for line := range strings.Lines(partsOf(f, mf)[0].Extra) {
			if text, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), om2Prefix); ok {
				f.Add(text)
			}
		}
	}
	for _, line := range hostileLines() {
		if len(line) < 200 {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		if len(line) > 200 || strings.ContainsAny(line, "\n\r") {
			return
		}
		p, err := parsePoint(line, FileLimits)
		if err != nil {
			return
		}
		if p.value == 0 {
			p.value = 0 // the encoder does not write a negative zero
		}
		if p.h != nil && p.h.GetSampleSum() == 0 {
			p.h.SampleSum = ptr(0.0)
		}
		// Written and parsed again it is the same.
		typ := Counter
		switch {
		case p.summary:
			typ = Summary
		case p.composite:
			typ = Histogram
		}
		if !p.fits(typ) {
			return
		}
		for _, l := range p.labels {
			if l.Value == "" { // left out
				return
			}
		}
		labels := ""
		if len(p.labels) > 0 {
			labels = string(AppendLabels(nil, p.labels))
		}
		text, err := appendPoint(nil, p.name, labels, p.toMetric(typ))
		if err != nil {
			return // with buckets it would be written
		}
		again, err := parsePoint(strings.TrimSuffix(string(text), "\n"), FileLimits)
		if err != nil {
			t.Fatalf("%q is written as %q: %v", line, text, err)
		}
		if a, b := fmt.Sprint(again.h, again.value, again.start, again.exemplars), fmt.Sprint(p.h, p.value, p.start, p.exemplars); a != b {
			t.Fatalf("%q is read as %s, written as %q and read as %s", line, b, text, a)
		}
		// The other parser returns the same native part if it accepts the line.
		if !p.composite || p.gauge || p.summary || p.h.Schema == nil {
			return
		}
		mf := new(dto.MetricFamily)
		var in strings.Builder
		in.WriteString("# TYPE " + string(AppendName(nil, p.name)) + " histogram\n" + line + "\n# EOF\n")
		if expfmt.NewDecoder(strings.NewReader(in.String()), expfmt.FmtOpenMetrics_2_0_0).Decode(mf) != nil || len(mf.Metric) != 1 {
			return
		}
		o := mf.Metric[0].Histogram
		markNative(o)
		if fmt.Sprint(o.PositiveSpan, o.PositiveDelta, o.PositiveCount, o.NegativeSpan, o.NegativeDelta, o.NegativeCount) != fmt.Sprint(p.h.PositiveSpan, p.h.PositiveDelta, p.h.PositiveCount, p.h.NegativeSpan, p.h.NegativeDelta, p.h.NegativeCount) ||
			countOf(o) != p.count() || o.GetSchema() != p.h.GetSchema() || o.GetZeroThreshold() != p.h.GetZeroThreshold() {
			t.Fatalf("%q is\n%v, and by common\n%v", line, p.h, o)
		}
	})
}

const openMetrics = `# HELP rows Rows.
# TYPE rows counter
# UNIT rows rows
rows_total{a="1"} 42.0 # {trace_id="x y"} 1.0 1001.5
rows_created{a="1"} 1000.25
# TYPE d_seconds histogram
# UNIT d_seconds seconds
d_seconds_bucket{le="1.0"} 1 # {trace_id="a"} 0.5
d_seconds_bucket{le="+Inf"} 2 # {trace_id="b"} 3
d_seconds_count 2
d_seconds_sum 3.5
d_seconds_created 1000
# TYPE build info
build_info{version="1"} 1
# TYPE state stateset
state{state="on"} 1
# TYPE what unknown
what 3
# TYPE lone counter
lone_total 1
# EOF
`

// A push with the content type of OpenMetrics and a file that ends in # EOF keep all
// their data.
func TestOpenMetrics(t *testing.T) {
	pushed, err := ParseOpenMetrics([]byte(openMetrics), Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := ParseFile([]byte(openMetrics))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*Families{pushed, dropped} {
		parts, _, issue, err := Canonical(f, Labelling{}, false)
		if err != nil || issue != nil {
			t.Fatal(err, issue)
		}
		mfs := map[string]*dto.MetricFamily{}
		for _, p := range readBack(t, fileOf(parts)) {
			mfs[p.Desc.Value().Name] = wireOf(t, p)
		}
		rows, d := mfs["rows_total"], mfs["d_seconds"]
		if len(mfs) != 6 || rows.GetUnit() != "rows" || rows.GetHelp() != "Rows." || rows.GetType() != dto.MetricType_COUNTER || rows.Metric[0].Counter.GetCreatedTimestamp().AsTime().UnixMilli() != 1000_250 || rows.Metric[0].Counter.GetExemplar().GetLabel()[0].GetValue() != "x y" {
			t.Errorf("rows_total is %v of %d", rows, len(mfs))
		}
		h := d.GetMetric()[0].Histogram
		if d.GetUnit() != "seconds" || h.GetCreatedTimestamp().GetSeconds() != 1000 || h.Bucket[0].GetExemplar().GetValue() != 0.5 || h.Bucket[1].GetExemplar().GetValue() != 3 {
			t.Errorf("d_seconds is %v", d)
		}
		if mfs["build_info"].GetType() != dto.MetricType_GAUGE || mfs["state"].GetType() != dto.MetricType_GAUGE || mfs["what"].GetType() != dto.MetricType_UNTYPED || mfs["lone_total"].GetType() != dto.MetricType_COUNTER {
			t.Errorf("the families are %v", mfs)
		}
	}
}

// In classic text _created is a plain gauge, and the TYPE line has its full name.
func TestClassicTextIsNotOpenMetrics(t *testing.T) {
	f, err := Parse([]byte("# TYPE rows counter\nrows_total 1\n# TYPE rows_created gauge\nrows_created 5\n"), Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	parts, _, _, err := Canonical(f, Labelling{}, false)
	if err != nil {
		t.Fatal(err)
	}
	want := "# TYPE rows_created gauge\nrows_created 5\n# TYPE rows_total untyped\nrows_total 1\n"
	if got := string(fileOf(parts)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, text := range []string{"# TYPE c counter\nc 1 # {t=\"u\"} 1 5\n", "# TYPE i info\ni 1\n", "a 1 # {t=\"u\"} 1 5\n", "a 1 # x\n", "a 1 # {a=\"b\"}\n", "a 1 # {a=\"b\"} x\n", "a 1 # {a=\"b\"} 1 1 1\n", "a 1 # {a=\"b\",a=\"b\"} 1\n", "a 1#\n", "a 1 5 # {} 1\n"} {
		if _, err := Parse([]byte(text), Limits{}, false); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// A start time is added to counters and the like that have none.
func TestSetStart(t *testing.T) {
	const text = "# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 2\n" + om2Prefix + "a{x=\"2\"} 2.0 st@7\n# TYPE g gauge\ng 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1.5\nh_count 2\n# TYPE s summary\ns_sum 1\ns_count 2\nu 1\n"
	got := string(WithStart([]byte(text), time.Unix(1000, 500_000_000)))
	for _, line := range []string{
		"a{x=\"1\"} 1.0 st@1000.5", "a{x=\"2\"} 2.0 st@7", "h {count:2,sum:1.5,bucket:[+Inf:2]} st@1000.5", "s {count:2,sum:1,quantile:[]} st@1000.5",
	} {
		if !strings.Contains(got, "\n"+om2Prefix+line+"\n") {
			t.Errorf("no line %s in\n%s", line, got)
		}
	}
	if strings.Count(got, "st@") != 4 {
		t.Errorf("too many start times in\n%s", got)
	}
	if again := fileOf(readBack(t, []byte(got))); string(again) != got {
		t.Errorf("read back it is\n%s", again)
	}
	if mf := wireOf(t, readBack(t, []byte(got))[2]); len(mf.Metric[0].Histogram.Bucket) != 2 {
		t.Errorf("the histogram is %v", mf)
	}
	for _, text := range []string{"broken", "a 1\na 2\n"} {
		if got := string(WithStart([]byte(text), time.Unix(1, 0))); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}
