package ingest_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest"
)

// TestRoundTrip pushes random families of all types in all formats and checks that a
// scrape by protobuf has what was pushed, except for the grouping labels and what the
// format cannot hold. The encoders are those of prometheus/common.
func TestRoundTrip(t *testing.T) {
	const pushes = 400
	for _, format := range []wireFormat{inProtobuf, inText, inOpenMetrics} {
		t.Run(format.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			store, err := filestore.Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			g, err := grouping.New(exposition.Label{Name: "job", Value: "j"})
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(pushes) {
				r := generator{rand.New(rand.NewPCG(seed, uint64(format))), format}
				sent := r.families()
				body, header := format.encode(t, sent)
				if format != inProtobuf && r.maybe() {
					body = withFractions(body, sent)
				}
				families, err := ingest.Decode(bytes.NewReader(body), header, ingest.Options{UTF8Names: true})
				if err != nil {
					t.Fatalf("seed %d: %v in\n%s", seed, err, body)
				}
				start := r.start() // of ?start=
				if start != nil {
					ingest.SetStart(families, start.AsTime())
				}
				if err := store.Replace(g, families, record.PushOptions{}); err != nil {
					t.Fatalf("seed %d: %v in\n%s", seed, err, body)
				}
				if f := store.View().File(g.FileName()); f.Problem() != nil {
					t.Fatalf("seed %d: the file has the problem %v after\n%s", seed, f.Problem(), body)
				}
				text, err := os.ReadFile(filepath.Join(dir, g.FileName()))
				if err != nil {
					t.Fatal(err)
				}
				if again := encodedOf(merge.Merge(nil, map[string][]byte{g.FileName(): text})); !bytes.Equal(encodedOf(store.View()), again) {
					t.Fatalf("seed %d: the file serves something else than the push:\n%s", seed, text)
				}
				got := scrapedFamilies(t, store.View())
				want := map[string]*dto.MetricFamily{}
				for _, mf := range sent {
					mf = format.expected(mf)
					setStart(mf, start)
					want[mf.GetName()] = mf
				}
				for name, mf := range want {
					if g := got[name]; g == nil || !proto.Equal(format.normalized(g), format.normalized(mf)) {
						t.Fatalf("seed %d: family %s is\n%v\nwant\n%v\npushed as\n%s", seed, name, g, mf, body)
					}
				}
				if len(got) != len(want) {
					t.Fatalf("seed %d: %d families, want %d, of\n%s", seed, len(got), len(want), body)
				}
			}
		})
	}
}

// TestCountsOfTextWithStartTimes pushes counts that are no integers of 64 bits, and adds
// to them. The start time survives both.
func TestCountsOfTextWithStartTimes(t *testing.T) {
	counts := map[string]uint64{"2": 2, "1.5": 1, "0.25": 0, "9007199254740993": 1 << 53, "9223372036854775808": 1 << 63, "18446744073709551615": math.MaxUint64, "1e300": math.MaxUint64}
	for first, whole := range counts {
		for second := range counts {
			dir := t.TempDir()
			store, err := filestore.Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			g, err := grouping.New(exposition.Label{Name: "job", Value: "j"})
			if err != nil {
				t.Fatal(err)
			}
			push := func(count string, o record.PushOptions) map[string]*dto.MetricFamily {
				text := fmt.Sprintf("# TYPE s summary\ns_count %[1]s\ns_sum 1\ns_created 5\n# TYPE h histogram\nh_bucket{le=\"1\"} %[1]s # {a=\"b\"} 0.5\nh_count %[1]s\nh_sum 1\nh_created 5\n# EOF\n", count)
				families, err := ingest.Decode(strings.NewReader(text), http.Header{"Content-Type": {"application/openmetrics-text"}}, ingest.Options{})
				if err == nil {
					err = store.Update(g, families, o)
				}
				if err != nil {
					t.Fatalf("%s: %v", count, err)
				}
				file, err := os.ReadFile(filepath.Join(dir, g.FileName()))
				if err != nil {
					t.Fatal(err)
				}
				if p := store.View().File(g.FileName()).Problem(); p != nil {
					t.Errorf("%s: the file has the problem %v:\n%s", count, p, file)
				}
				if again := encodedOf(merge.Merge(nil, map[string][]byte{g.FileName(): file})); !bytes.Equal(encodedOf(store.View()), again) {
					t.Errorf("%s: the file serves something else than the push:\n%s", count, file)
				}
				got := scrapedFamilies(t, store.View())
				if s, h := got["s"].Metric[0].Summary, got["h"].Metric[0].Histogram; s.GetCreatedTimestamp().GetSeconds() != 5 || h.GetCreatedTimestamp().GetSeconds() != 5 || h.Bucket[0].GetExemplar().GetValue() != 0.5 {
					t.Errorf("%s: start times or exemplars are missing in %v, %v", count, s, h)
				}
				return got
			}
			got := push(first, record.PushOptions{})
			v, err := strconv.ParseFloat(first, 64)
			if err != nil {
				t.Fatal(err)
			}
			if s := got["s"].Metric[0].Summary; s.GetSampleCount() != whole {
				t.Errorf("%s: the summary is %v, want the count %d", first, s, whole)
			}
			if h := got["h"].Metric[0].Histogram; h.GetSampleCountFloat()+float64(h.GetSampleCount()) != v {
				t.Errorf("%s: the histogram is %v", first, h)
			}
			push(second, record.PushOptions{Accumulate: true})
			store.Close()
		}
	}
}

// withFractions gives the counts of summaries in text a fraction, which a scrape by
// protobuf cannot have.
func withFractions(body []byte, mfs []*dto.MetricFamily) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(body) {
		if slices.ContainsFunc(mfs, func(mf *dto.MetricFamily) bool {
			return mf.GetType() == dto.MetricType_SUMMARY && bytes.Contains(line, []byte(mf.GetName()+"_count"))
		}) {
			series, value, _ := bytes.Cut(line, []byte("} "))
			if v, err := strconv.ParseFloat(strings.TrimSpace(string(value)), 64); err == nil && v < 1<<51 {
				line = fmt.Appendf(nil, "%s} %v\n", series, v+0.5)
			}
		}
		b.Write(line)
	}
	return b.Bytes()
}

// setStart sets the start time of the metrics that can have one and have none.
func setStart(mf *dto.MetricFamily, start *timestamppb.Timestamp) {
	for _, m := range mf.Metric {
		switch {
		case m.Counter != nil && m.Counter.CreatedTimestamp == nil:
			m.Counter.CreatedTimestamp = start
		case m.Summary != nil && m.Summary.CreatedTimestamp == nil:
			m.Summary.CreatedTimestamp = start
		case m.Histogram != nil && m.Histogram.CreatedTimestamp == nil && mf.GetType() == dto.MetricType_HISTOGRAM:
			m.Histogram.CreatedTimestamp = start
		}
	}
}

// wireFormat is a format of pushes.
type wireFormat int

const (
	inProtobuf wireFormat = iota
	inText
	inOpenMetrics
)

func (f wireFormat) String() string {
	return [...]string{"protobuf", "text", "OpenMetrics"}[f]
}

// encode returns the body and the header of a push.
func (f wireFormat) encode(t *testing.T, mfs []*dto.MetricFamily) ([]byte, http.Header) {
	var b bytes.Buffer
	for _, mf := range mfs {
		var err error
		switch f {
		case inProtobuf:
			_, err = protodelim.MarshalTo(&b, mf)
		case inText:
			_, err = expfmt.MetricFamilyToText(&b, mf)
		default:
			from := b.Len()
			_, err = expfmt.MetricFamilyToOpenMetrics(&b, mf, expfmt.WithCreatedLines())
			if mf.GetType() == dto.MetricType_GAUGE_HISTOGRAM && len(mf.Metric) > 1 { // as the standard names them
				text := strings.NewReplacer(mf.GetName()+"_count", mf.GetName()+"_gcount", mf.GetName()+"_sum", mf.GetName()+"_gsum").Replace(string(b.Bytes()[from:]))
				b.Truncate(from)
				b.WriteString(text)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if f == inOpenMetrics {
		_, _ = expfmt.FinalizeOpenMetrics(&b)
	}
	return b.Bytes(), http.Header{"Content-Type": {[...]string{protobufType, string(expfmt.NewFormat(expfmt.TypeTextPlain)), string(expfmt.FmtOpenMetrics_1_0_0)}[f]}}
}

// generator makes metric families that a format can hold.
type generator struct {
	*rand.Rand
	format wireFormat
}

func (r generator) maybe() bool { return r.IntN(2) == 0 }

func (r generator) families() (list []*dto.MetricFamily) {
	for i := range 1 + r.IntN(4) {
		mf := &dto.MetricFamily{Type: dto.MetricType(r.IntN(len(dto.MetricType_name))).Enum()}
		unit := []string{"", "bytes", "seconds"}[r.IntN(3)]
		name := fmt.Sprintf("%s%d", []string{"f", "größe.", "a:b"}[r.IntN(3)], i)
		if unit != "" && r.format != inText {
			mf.Unit = &unit
			name += "_" + unit
		}
		if mf.GetType() == dto.MetricType_COUNTER {
			name += "_total"
		}
		if mf.Name = &name; r.maybe() {
			mf.Help = proto.String([]string{"A text.", "A \"text\" with \\ and\na second line.", "é"}[r.IntN(3)])
		}
		for n := range 1 + r.IntN(3) {
			m := &dto.Metric{Label: []*dto.LabelPair{{Name: proto.String("n"), Value: proto.String(fmt.Sprint(n))}}}
			for _, l := range []string{"a", "job2", "ä.b"} {
				if r.maybe() {
					m.Label = append(m.Label, &dto.LabelPair{Name: &l, Value: proto.String([]string{"x", `a"b\c`, "x\ny # {", "é,}="}[r.IntN(4)])})
				}
			}
			r.value(mf.GetType(), m)
			mf.Metric = append(mf.Metric, m)
		}
		list = append(list, mf)
	}
	return list
}

func (r generator) number() float64 {
	special := []float64{0, 1, -1, 0.1, 1e300, 5e-324, 1 << 53, math.NaN(), math.Inf(1), math.Inf(-1)}
	if r.maybe() {
		return special[r.IntN(len(special))]
	}
	return r.NormFloat64() * 1000
}

// beyondFloats returns 0 or a count that a float may not hold.
func (r generator) beyondFloats() uint64 {
	return []uint64{0, 0, 0, 1<<53 + 1, 1 << 63, math.MaxUint64 - 1<<53}[r.IntN(6)]
}

// time returns a time that the format can hold.
func (r generator) time() *timestamppb.Timestamp {
	at := &timestamppb.Timestamp{Seconds: 1_500_000_000 + r.Int64N(1<<29), Nanos: r.Int32N(1e9)}
	if r.format == inOpenMetrics {
		at.Nanos -= at.Nanos % 1e6 // a float in the text
	}
	return at
}

func (r generator) start() *timestamppb.Timestamp {
	if r.maybe() {
		return nil
	}
	return r.time()
}

func (r generator) exemplar(from, to float64) *dto.Exemplar {
	if r.maybe() {
		return nil
	}
	v := to
	if !math.IsInf(from, -1) && !math.IsInf(to, 1) {
		v = from + (to-from)*(1-r.Float64())
	} else if math.IsInf(to, 1) {
		v = max(from, -1e9) + 1
	}
	e := &dto.Exemplar{Value: &v}
	if r.maybe() {
		e.Timestamp = r.time()
	}
	if r.maybe() || r.format == inOpenMetrics { // whose encoder leaves out those without labels
		e.Label = []*dto.LabelPair{{Name: proto.String("trace_id"), Value: proto.String([]string{"1f", "a b", `"\`}[r.IntN(3)])}}
	}
	return e
}

func (r generator) value(typ dto.MetricType, m *dto.Metric) {
	v := r.number()
	switch typ {
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: &v, CreatedTimestamp: r.start(), Exemplar: r.exemplar(0, 10)}
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: &v}
	case dto.MetricType_UNTYPED:
		m.Untyped = &dto.Untyped{Value: &v}
	case dto.MetricType_SUMMARY:
		m.Summary = &dto.Summary{SampleCount: proto.Uint64(r.Uint64N(1<<52) + r.beyondFloats()), SampleSum: &v, CreatedTimestamp: r.start()}
		for i := range r.IntN(4) {
			m.Summary.Quantile = append(m.Summary.Quantile, &dto.Quantile{Quantile: proto.Float64(float64(i) / 4), Value: proto.Float64(r.number())})
		}
	default:
		m.Histogram = r.histogram(v)
		if typ == dto.MetricType_HISTOGRAM {
			m.Histogram.CreatedTimestamp = r.start()
		}
	}
}

func (r generator) histogram(sum float64) *dto.Histogram {
	h := &dto.Histogram{SampleSum: &sum}
	float := r.format != inOpenMetrics && r.IntN(3) == 0
	native := r.IntN(3) == 0
	var count uint64
	if native {
		h.Schema, h.ZeroThreshold = proto.Int32(r.Int32N(13)-4), proto.Float64(r.Float64())
		zero := r.Uint64N(4)
		if !float && r.format == inProtobuf && r.IntN(8) == 0 {
			zero += 1 << 60 // beyond the digits of a float
		}
		count = zero
		if h.ZeroCount = &zero; float {
			h.ZeroCount, h.ZeroCountFloat = nil, proto.Float64(float64(zero)+0.5)
		}
		var n uint64
		h.PositiveSpan, h.PositiveDelta, h.PositiveCount, n = r.side(float)
		count += n
		h.NegativeSpan, h.NegativeDelta, h.NegativeCount, n = r.side(float)
		count += n
	}
	if !native || r.maybe() {
		bound, lower, at := float64(r.IntN(20)-10), math.Inf(-1), uint64(0)
		if !float && !native {
			at = r.beyondFloats()
		}
		for range r.IntN(4) {
			if at += r.Uint64N(5); native {
				at = min(at, count)
			}
			h.Bucket = append(h.Bucket, r.bucket(lower, bound, at, float))
			lower = bound
			bound += r.Float64() + 0.5
		}
		if !native {
			count = at + r.Uint64N(3)
		}
		if len(h.Bucket) == 0 || r.maybe() {
			h.Bucket = append(h.Bucket, r.bucket(lower, math.Inf(1), count, float))
		}
	}
	if native {
		for range r.IntN(3) {
			if e := r.exemplar(0, 10); e != nil {
				h.Exemplars = append(h.Exemplars, e)
			}
		}
	}
	if h.SampleCount = &count; float {
		h.SampleCount, h.SampleCountFloat = nil, proto.Float64(float64(count)+0.5)
		if n := len(h.Bucket); n > 0 && math.IsInf(h.Bucket[n-1].GetUpperBound(), 1) {
			h.Bucket[n-1].CumulativeCountFloat = h.SampleCountFloat
		}
	}
	return h
}

func (r generator) bucket(lower, upper float64, n uint64, float bool) *dto.Bucket {
	b := &dto.Bucket{UpperBound: &upper, CumulativeCount: &n, Exemplar: r.exemplar(lower, upper)}
	if float {
		b.CumulativeCount, b.CumulativeCountFloat = nil, proto.Float64(float64(n))
	}
	return b
}

// side returns one side of a native histogram, and how many observations it has.
func (r generator) side(float bool) (spans []*dto.BucketSpan, deltas []int64, counts []float64, total uint64) {
	last := int64(0)
	for i := range r.IntN(3) {
		offset := r.Int32N(9)
		if i == 0 {
			offset -= 4
		}
		length := 1 + r.Uint32N(3)
		spans = append(spans, &dto.BucketSpan{Offset: &offset, Length: &length})
		for range length {
			n := r.Int64N(5)
			if total += uint64(n); float {
				counts = append(counts, float64(n)+0.25)
				continue
			}
			deltas, last = append(deltas, n-last), n
		}
	}
	return spans, deltas, counts, total
}

// expected returns what a scrape by protobuf must have of a pushed family.
func (f wireFormat) expected(mf *dto.MetricFamily) *dto.MetricFamily {
	mf = proto.Clone(mf).(*dto.MetricFamily)
	if f == inText && mf.GetType() == dto.MetricType_GAUGE_HISTOGRAM {
		mf.Type = dto.MetricType_HISTOGRAM.Enum()
	}
	for _, m := range mf.Metric {
		m.Label = append(m.Label, &dto.LabelPair{Name: proto.String("job"), Value: proto.String("j")})
		if s := m.Summary; s != nil && (s.CreatedTimestamp == nil || f != inProtobuf) {
			s.SampleCount = asFloat(s.SampleCount) // the text has a float, and no line has more
		}
		if f == inText {
			if m.Counter != nil {
				m.Counter.Exemplar, m.Counter.CreatedTimestamp = nil, nil
			}
			if m.Summary != nil {
				m.Summary.CreatedTimestamp = nil
			}
		}
		h := m.Histogram
		if h == nil {
			continue
		}
		if f != inProtobuf {
			classic := &dto.Histogram{SampleCount: h.SampleCount, SampleCountFloat: h.SampleCountFloat, SampleSum: h.SampleSum, Bucket: h.Bucket}
			if f == inText {
				for _, b := range h.Bucket {
					b.Exemplar = nil
				}
			} else {
				classic.CreatedTimestamp = h.CreatedTimestamp
			}
			h, m.Histogram = classic, classic
		}
		inf := slices.ContainsFunc(h.Bucket, func(b *dto.Bucket) bool { return math.IsInf(b.GetUpperBound(), 1) })
		if !inf && (len(h.Bucket) > 0 || h.Schema == nil) {
			h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: proto.Float64(math.Inf(1)), CumulativeCount: h.SampleCount, CumulativeCountFloat: h.SampleCountFloat})
		}
	}
	return mf
}

// normalized returns a family with metrics and labels in a fixed order. The encoder of
// OpenMetrics writes the times of exemplars as floats, which are exact to a microsecond.
func (f wireFormat) normalized(mf *dto.MetricFamily) *dto.MetricFamily {
	mf = proto.Clone(mf).(*dto.MetricFamily)
	for _, m := range mf.Metric {
		if h := m.Histogram; h != nil && h.Schema == nil {
			h.SampleCount = asFloat(h.SampleCount)
			for _, b := range h.Bucket {
				b.CumulativeCount = asFloat(b.CumulativeCount)
			}
		}
		if h := m.Histogram; h != nil && h.Schema != nil && len(h.Bucket) > 0 {
			// An exemplar may move from the native part to the bucket that contains it.
			h.Exemplars = append(h.Exemplars, bucketExemplars(h)...)
			h.Exemplars = slices.DeleteFunc(h.Exemplars, func(e *dto.Exemplar) bool { return e == nil })
			slices.SortFunc(h.Exemplars, func(a, b *dto.Exemplar) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			h.Exemplars = slices.CompactFunc(h.Exemplars, func(a, b *dto.Exemplar) bool { return proto.Equal(a, b) })
			for _, b := range h.Bucket {
				b.Exemplar = nil
			}
		}
		slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
		for _, e := range append([]*dto.Exemplar{m.Counter.GetExemplar()}, bucketExemplars(m.Histogram)...) {
			if f == inOpenMetrics && e.GetTimestamp() != nil {
				e.Timestamp = timestamppb.New(e.Timestamp.AsTime().Round(time.Microsecond))
			}
		}
	}
	slices.SortFunc(mf.Metric, func(a, b *dto.Metric) int { return strings.Compare(fmt.Sprint(a.Label), fmt.Sprint(b.Label)) })
	return mf
}

// asFloat returns the integer nearest to the float of a count.
func asFloat(n *uint64) *uint64 {
	if n == nil {
		return nil
	}
	if v := float64(*n); v < 1<<64 {
		return proto.Uint64(uint64(v))
	}
	return proto.Uint64(math.MaxUint64)
}

func bucketExemplars(h *dto.Histogram) (list []*dto.Exemplar) {
	for _, b := range h.GetBucket() {
		list = append(list, b.Exemplar)
	}
	return list
}

// scrapedFamilies returns a view as protobuf, without the times of pushes.
func scrapedFamilies(t *testing.T, v *merge.View) map[string]*dto.MetricFamily {
	mfs := map[string]*dto.MetricFamily{}
	for r := bytes.NewReader(encodedOf(v)); r.Len() > 0; {
		mf := new(dto.MetricFamily)
		if err := protodelim.UnmarshalFrom(r, mf); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(mf.GetName(), "push_") {
			mfs[mf.GetName()] = mf
		}
	}
	return mfs
}
