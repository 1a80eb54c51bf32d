package exposition

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// gaugeTexts are gauge histograms in OpenMetrics 1.0, and the same in protobuf.
func gaugeTexts() map[string]struct {
	text string
	mf   *dto.MetricFamily
} {
	at := timestamppb.New(time.Unix(1795907660, 250_000_000))
	whole := func(bound float64, n uint64, e *dto.Exemplar) *dto.Bucket {
		return &dto.Bucket{UpperBound: &bound, CumulativeCount: &n, Exemplar: e}
	}
	float := func(bound, n float64) *dto.Bucket {
		return &dto.Bucket{UpperBound: &bound, CumulativeCountFloat: &n}
	}
	label := func(name, value string) []*dto.LabelPair { return []*dto.LabelPair{{Name: &name, Value: &value}} }
	family := func(metrics ...*dto.Metric) *dto.MetricFamily {
		return &dto.MetricFamily{Name: ptr("q_bytes"), Type: dto.MetricType_GAUGE_HISTOGRAM.Enum(), Metric: metrics}
	}
	inf := math.Inf(1)
	full := family(
		&dto.Metric{Label: label("queue", `a"b\c`), Histogram: &dto.Histogram{SampleCount: ptr(uint64(42)), SampleSum: ptr(3289.3), Bucket: []*dto.Bucket{whole(0.01, 20, nil), whole(1, 25, exemplar(0.5, at, "trace_id", "x y")), whole(inf, 42, exemplar(9, nil, "trace_id", "z"))}}},
		&dto.Metric{Label: label("queue", "b"), Histogram: &dto.Histogram{SampleCount: ptr(uint64(0)), SampleSum: ptr(0.0), Bucket: []*dto.Bucket{whole(0.01, 0, nil), whole(1, 0, nil), whole(inf, 0, nil)}}},
	)
	full.Help, full.Unit = ptr("Sizes of requests."), ptr("bytes")
	type pair = struct {
		text string
		mf   *dto.MetricFamily
	}
	return map[string]pair{
		"labels, exemplars, help and unit": {`# HELP q_bytes Sizes of requests.
# TYPE q_bytes gaugehistogram
# UNIT q_bytes bytes
q_bytes_bucket{queue="a\"b\\c",le="0.01"} 20
q_bytes_bucket{queue="a\"b\\c",le="1.0"} 25 # {trace_id="x y"} 0.5 1795907660.25
q_bytes_bucket{queue="a\"b\\c",le="+Inf"} 42 # {trace_id="z"} 9.0
q_bytes_gcount{queue="a\"b\\c"} 42
q_bytes_gsum{queue="a\"b\\c"} 3289.3
q_bytes_bucket{queue="b",le="0.01"} 0
q_bytes_bucket{queue="b",le="1.0"} 0
q_bytes_bucket{queue="b",le="+Inf"} 0
q_bytes_gcount{queue="b"} 0
q_bytes_gsum{queue="b"} 0.0
`, full},
		"negative thresholds and a negative sum": {
			"# TYPE q_bytes gaugehistogram\nq_bytes_bucket{le=\"-1.0\"} 2\nq_bytes_bucket{le=\"+Inf\"} 3\nq_bytes_gcount 3\nq_bytes_gsum -5.5\n",
			family(&dto.Metric{Histogram: &dto.Histogram{SampleCount: ptr(uint64(3)), SampleSum: ptr(-5.5), Bucket: []*dto.Bucket{whole(-1, 2, nil), whole(inf, 3, nil)}}}),
		},
		"count and sum as the encoder of prometheus/common names them": {
			"# TYPE q_bytes gaugehistogram\nq_bytes_bucket{le=\"1.0\"} 2\nq_bytes_bucket{le=\"+Inf\"} 3\nq_bytes_count 3\nq_bytes_sum 5.5\n",
			family(&dto.Metric{Histogram: &dto.Histogram{SampleCount: ptr(uint64(3)), SampleSum: ptr(5.5), Bucket: []*dto.Bucket{whole(1, 2, nil), whole(inf, 3, nil)}}}),
		},
		"fractions": {
			"# TYPE q_bytes gaugehistogram\nq_bytes_bucket{le=\"1.0\"} 1.5\nq_bytes_bucket{le=\"+Inf\"} 3.25\nq_bytes_gcount 3.25\nq_bytes_gsum 5.5\n",
			family(&dto.Metric{Histogram: &dto.Histogram{SampleCountFloat: ptr(3.25), SampleSum: ptr(5.5), Bucket: []*dto.Bucket{float(1, 1.5), float(inf, 3.25)}}}),
		},
		"count that differs from the +Inf bucket": {
			"# TYPE q_bytes gaugehistogram\nq_bytes_bucket{le=\"1.0\"} 2\nq_bytes_bucket{le=\"+Inf\"} 3\nq_bytes_gcount 4\nq_bytes_gsum 5.5\n",
			family(&dto.Metric{Histogram: &dto.Histogram{SampleCount: ptr(uint64(4)), SampleSum: ptr(5.5), Bucket: []*dto.Bucket{whole(1, 2, nil), whole(inf, 3, nil)}}}),
		},
		"sum that is not a number": {
			"# TYPE q_bytes gaugehistogram\nq_bytes_bucket{le=\"+Inf\"} 3\nq_bytes_gcount 3\nq_bytes_gsum NaN\n",
			family(&dto.Metric{Histogram: &dto.Histogram{SampleCount: ptr(uint64(3)), SampleSum: ptr(math.NaN()), Bucket: []*dto.Bucket{whole(inf, 3, nil)}}}),
		},
	}
}

// A gauge histogram is stored as the same bytes from OpenMetrics and protobuf, and
// scraped by protobuf as it was pushed.
func TestGaugeHistogramOfText(t *testing.T) {
	for name, tt := range gaugeTexts() {
		t.Run(name, func(t *testing.T) {
			want := string(fileOf(partsOf(t, tt.mf)))
			for what, parse := range map[string]func() (*Families, error){
				"a push":       func() (*Families, error) { return ParseOpenMetrics([]byte(tt.text+"# EOF\n"), Limits{}, false) },
				"a file":       func() (*Families, error) { return ParseFile([]byte(tt.text + "# EOF\n")) },
				"classic text": func() (*Families, error) { return Parse([]byte(withoutExemplars(tt.text)), Limits{}, false) },
			} {
				f, err := parse()
				if err != nil {
					t.Errorf("%s: %v", what, err)
					continue
				}
				parts, _, issue, err := Canonical(f, Labelling{}, what == "a file")
				if err != nil || issue != nil {
					t.Errorf("%s: %v, %v", what, err, issue)
					continue
				}
				got := string(fileOf(parts))
				if what == "classic text" && strings.Contains(tt.text, " # {") {
					continue // its exemplars are left out
				}
				if got != want {
					t.Errorf("%s is stored as\n%sand protobuf as\n%s", what, got, want)
				}
			}
			if got := wireOf(t, readBack(t, []byte(want))[0]); !proto.Equal(got, tt.mf) {
				t.Errorf("comes back as\n%v\nand was\n%v", got, tt.mf)
			}
			// The parser of prometheus/common reads the same.
			mf := new(dto.MetricFamily)
			err := expfmt.NewDecoder(strings.NewReader(tt.text+"# EOF\n"), expfmt.FmtOpenMetrics_1_0_0).Decode(mf)
			if strings.Contains(tt.text, "NaN") {
				return // which it rejects, as the specification does
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(fileOf(partsOf(t, mf))); got != want {
				t.Errorf("by common it is stored as\n%sand by us as\n%s", got, want)
			}
		})
	}
}

func withoutExemplars(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		sample, _, _ := strings.Cut(line, " # {")
		b.WriteString(strings.TrimSuffix(sample, "\n") + "\n")
	}
	return b.String()
}

// The +Inf bucket and the count complete each other. A sum is optional.
func TestGaugeHistogramWithoutAPart(t *testing.T) {
	for text, want := range map[string]string{
		"q_bucket{le=\"1\"} 2\nq_gcount 3\nq_gsum 1\n":    "q_bucket{le=\"1\"} 2\nq_bucket{le=\"+Inf\"} 3\nq_sum 1\nq_count 3\n",
		"q_bucket{le=\"1\"} 2\nq_bucket{le=\"+Inf\"} 3\n": "q_bucket{le=\"1\"} 2\nq_bucket{le=\"+Inf\"} 3\nq_count 3\n",
		"q_gcount 3\n": "q_bucket{le=\"+Inf\"} 3\nq_count 3\n",
	} {
		f, err := ParseOpenMetrics([]byte("# TYPE q gaugehistogram\n"+text), Limits{}, false)
		if err != nil {
			t.Fatal(err)
		}
		parts, _, _, err := Canonical(f, Labelling{}, false)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if parts[0].Text != want {
			t.Errorf("%q is stored as\n%s", text, parts[0].Text)
		}
		mf := wireOf(t, readBack(t, fileOf(parts))[0])
		if h := mf.Metric[0].Histogram; mf.GetType() != dto.MetricType_GAUGE_HISTOGRAM || h.GetSampleCount() != 3 {
			t.Errorf("%q is %v", text, mf)
		}
	}
}

// An exemplar of a histogram without count and sum is kept.
func TestExemplarOfAnIncompleteHistogram(t *testing.T) {
	f, err := ParseOpenMetrics([]byte("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3 # {t=\"u\"} 0.5\n"), Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	parts, _, _, err := Canonical(f, Labelling{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if h := wireOf(t, readBack(t, fileOf(parts))[0]).Metric[0].Histogram; h.Bucket[0].GetExemplar().GetValue() != 0.5 {
		t.Errorf("it is %v", h)
	}
}

// Encoders write the times of exemplars with exponents.
func TestTimesOfExemplars(t *testing.T) {
	for word, want := range map[string]string{
		"1.795907660257e+09": "1795907660.257", "1795907660": "1795907660", "+5E0": "5", "1e3": "1000", "-1.5e1": "-15", "2e-1": "0.2", "2.5e-10": "0",
		"0012.5": "12.5", "1.1234567899": "1.123456789", ".5": "0.5", "5.": "5", "0e64": "0",
		"x": "", "1e": "", "1e1e1": "", "1e99": "", "1e65": "", "1e-65": "", "1e-999999999999": "", "NaN": "", "+Inf": "", "-": "", ".": "", "1.5.5": "", "--1": "", "1e12": "",
	} {
		f, err := ParseOpenMetrics([]byte("# TYPE c counter\nc_total 1 # {a=\"b\"} 1 "+word+"\n"), Limits{}, false)
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", word, err)
			}
			continue
		}
		parts, _, _, err := Canonical(f, Labelling{}, false)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(parts[0].Extra, "} 1.0 "+want+"\n") {
			t.Errorf("%s is\n%s, want %s", word, parts[0].Extra, want)
		}
	}
}

// A gauge histogram has no start time, so _created is a family of its own.
func TestGaugeHistogramHasNoStart(t *testing.T) {
	f, err := ParseOpenMetrics([]byte("# TYPE q gaugehistogram\nq_bucket{le=\"+Inf\"} 3\nq_gcount 3\nq_gsum 1\nq_created 5\n"), Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	f.SetStart(time.Unix(9, 0), func(string) bool { return true })
	parts, _, _, err := Canonical(f, Labelling{}, false)
	if err != nil {
		t.Fatal(err)
	}
	want := "# TYPE q histogram\nq_bucket{le=\"+Inf\"} 3\nq_sum 1\nq_count 3\n" + om2Prefix + "q {gcount:3,gsum:1,bucket:[+Inf:3]}\n# TYPE q_created untyped\nq_created 5\n"
	if got := string(fileOf(parts)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestInvalidGaugeHistograms(t *testing.T) {
	for text, want := range map[string]string{
		"q_bucket{le=\"1\"} 2\nq_gsum 1\n":                           `family "q": q_bucket{le="1"} has no bucket with le="+Inf": each metric of a gaugehistogram must have one`,
		"q_bucket{a=\"b\",le=\"+Inf\"} 2\nq_gsum{a=\"c\"} 1\n":       `family "q": q_gsum{a="c"} has no bucket with le="+Inf": each metric of a gaugehistogram must have one`,
		"q_bucket{le=\"+Inf\"} -2\nq_gcount 2\n":                     `line 2: metric "q_bucket": invalid value "-2" of a bucket or count of a gaugehistogram: counts must be zero or more, and finite`,
		"q_bucket{le=\"1\"} 2\nq_bucket{le=\"+Inf\"} +Inf\n":         `line 3: metric "q_bucket": invalid value "+Inf" of a bucket or count of a gaugehistogram: counts must be zero or more, and finite`,
		"q_bucket{le=\"+Inf\"} NaN\n":                                `line 2: metric "q_bucket": invalid value "NaN" of a bucket or count of a gaugehistogram: counts must be zero or more, and finite`,
		"q_gcount +Inf\n":                                            `line 2: metric "q_gcount": invalid value "+Inf" of a bucket or count of a gaugehistogram: counts must be zero or more, and finite`,
		"q_bucket{le=\"+Inf\"} 2\nq_count 2\nq_gcount 2\nq_gsum 1\n": `line 4: duplicate series q_gcount: it is in line 3 already, and may occur once`,
		"q_bucket{le=\"+Inf\"} 2\nq_gcount 2\nq_sum 1\nq_gsum 1\n":   `line 5: duplicate series q_gsum: it is in line 4 already, and may occur once`,
		"q 2\n":                            `line 2: metric "q": the sample is not part of the gaugehistogram "q": its samples end in _bucket, _gsum and _gcount`,
		"q_bucket 2\n":                     `line 2: metric "q_bucket": the sample of a histogram has no label le: give it one that is a number`,
		"q_bucket{le=\"x\"} 2\n":           `line 2: metric "q_bucket": invalid value "x" of label le of a histogram: it must be a number`,
		"q_bucket{le=\"NaN\"} 2\n":         `line 2: metric "q_bucket": invalid value "NaN" of label le of a histogram: it must be a number`,
		"q_gcount{le=\"1\"} 2\n":           `line 2: metric "q_gcount": the label le is only for the parts of a histogram that have it: rename it`,
		"q_gcount 2 # {a=\"b\"} 1 x\n":     `line 2: metric "q_gcount": the sample has an exemplar whose time is not a Unix time (it must be decimal digits, up to nine after the point)`,
		"# TYPE q histogram\nq_gcount 2\n": `line 2: family "q": second TYPE line: the type is gaugehistogram already; write one for each family`,
		"q_bucket{le=\"+Inf\"} 2\n" + om2Prefix + "q {count:0,sum:0,bucket:[+Inf:2]}\n": `line 3: the line # promspool:om2 is not one that a gauge histogram can have`,
	} {
		f, err := ParseOpenMetrics([]byte("# TYPE q gaugehistogram\n"+text), Limits{}, false)
		if err == nil {
			_, _, _, err = Canonical(f, Labelling{}, false)
		}
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q:\n%v\nwant\n%s", text, err, want)
		}
	}
	// A file that is not OpenMetrics is as before: node_exporter rejects it.
	if _, err := ParseFile([]byte("# TYPE q gaugehistogram\nq_gcount 2\n")); err == nil {
		t.Error("a file in classic text has a gauge histogram")
	}
}

// Text and protobuf get the same answer for counts that are no numbers of observations:
// they are invalid only with an exemplar or start time.
func TestInvalidCountsInTextAndProtobuf(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		for _, inBucket := range []bool{true, false} {
			for extra := range 3 {
				bucket, count := 1.0, 1.0
				if inBucket {
					bucket = bad
				} else {
					count = bad
				}
				text := fmt.Sprintf("# TYPE h histogram\nh_bucket{le=\"1\"} %v\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count %v\n", bucket, count)
				mf := histogramFamily(&dto.Histogram{SampleCountFloat: &count, SampleSum: ptr(1.0), Bucket: []*dto.Bucket{{UpperBound: ptr(1.0), CumulativeCountFloat: &bucket}, {UpperBound: ptr(math.Inf(1)), CumulativeCountFloat: ptr(1.0)}}})
				switch extra {
				case 1:
					text += "h_created 5\n"
					mf.Metric[0].Histogram.CreatedTimestamp = timestamppb.New(time.Unix(5, 0))
				case 2:
					text = strings.Replace(text, "} 1\n", "} 1 # {a=\"b\"} 2\n", 1)
					mf.Metric[0].Histogram.Bucket[1].Exemplar = exemplar(2, nil, "a", "b")
				}
				want := fmt.Sprintf(`invalid value "%s" of a bucket or count of a histogram with an exemplar or start time: counts must be zero or more, and finite`, floatText(bad))
				for what, parse := range map[string]func() (*Families, error){
					"text":     func() (*Families, error) { return ParseOpenMetrics([]byte(text+"# EOF\n"), Limits{}, false) },
					"protobuf": func() (*Families, error) { return FromProto([]*dto.MetricFamily{mf}, Limits{}, false) },
				} {
					f, err := parse()
					if err == nil {
						_, _, _, err = Canonical(f, Labelling{}, false)
					}
					if extra == 0 && err != nil || extra > 0 && (err == nil || !strings.HasSuffix(err.Error(), want)) {
						t.Errorf("%s of\n%s: %v", what, text, err)
					}
				}
			}
		}
	}
}

// The count of a summary with a start time must be a number of observations.
func TestInvalidCountOfASummary(t *testing.T) {
	for _, count := range []string{"-1", "NaN", "+Inf"} {
		text := "# TYPE s summary\ns_count " + count + "\ns_sum 1\n"
		for created, want := range map[string]string{"": "", "s_created 5\n": fmt.Sprintf(`line 2: family "s": invalid value %q of the count of a summary with a start time: counts must be zero or more, and finite`, count)} {
			f, err := ParseOpenMetrics([]byte(text+created+"# EOF\n"), Limits{}, false)
			if err == nil {
				_, _, _, err = Canonical(f, Labelling{}, false)
			}
			if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
				t.Errorf("%q: %v, want %q", text+created, err, want)
			}
		}
	}
}

// Counts that an om2 line cannot hold are rejected in protobuf as well.
func TestInvalidCountsInProtobuf(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, h := range map[string]*dto.Histogram{
		"count NaN":       {SampleCountFloat: &nan, SampleSum: ptr(1.0)},
		"count +Inf":      {SampleCountFloat: &inf, SampleSum: ptr(1.0)},
		"count negative":  {SampleCountFloat: ptr(-1.0), SampleSum: ptr(1.0)},
		"bucket NaN":      {SampleCountFloat: ptr(1.5), Bucket: []*dto.Bucket{{UpperBound: ptr(1.0), CumulativeCountFloat: &nan}}},
		"bucket negative": {SampleCountFloat: ptr(1.5), Bucket: []*dto.Bucket{{UpperBound: ptr(1.0), CumulativeCountFloat: ptr(-1.0)}}},
	} {
		for _, gauge := range []bool{true, false} {
			mf := histogramFamily(proto.Clone(h).(*dto.Histogram))
			if mf.Metric[0].Histogram.CreatedTimestamp = timestamppb.New(time.Unix(5, 0)); gauge {
				mf.Type = dto.MetricType_GAUGE_HISTOGRAM.Enum()
			}
			f, err := FromProto([]*dto.MetricFamily{mf}, Limits{}, false)
			if err == nil {
				_, _, _, err = Canonical(f, Labelling{}, false)
			}
			if err == nil {
				t.Errorf("%s of %v is accepted", name, mf.GetType())
			}
		}
	}
}
