package exposition

import (
	"bytes"
	"io"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

// FuzzOpenMetrics compares the parser with that of prometheus/common for OpenMetrics
// 1.0, which is stricter and far slower: what both accept is stored as the same metrics.
func FuzzOpenMetrics(f *testing.F) {
	for _, tt := range gaugeTexts() {
		f.Add([]byte(tt.text))
	}
	for family := range strings.SplitSeq(openMetrics, "# TYPE ") {
		f.Add([]byte("# TYPE " + strings.TrimSuffix(family, "# EOF\n")))
	}
	f.Add([]byte("# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\ns_created 1.5e9\n"))
	f.Add([]byte("# TYPE q gaugehistogram\nq_bucket{le=\"+Inf\"} 3\nq_gcount 3\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 400 || bytes.Contains(text, []byte("promspool")) {
			return
		}
		text = append(text, "# EOF\n"...)
		ours, err := ParseOpenMetrics(text, FileLimits, true)
		if err != nil {
			return
		}
		parts, _, _, err := Canonical(ours, Labelling{}, false)
		if err != nil {
			return
		}
		got := fileOf(parts)
		if again := fileOf(readBack(t, got)); !bytes.Equal(again, got) {
			t.Fatalf("%q is stored as\n%sand read back as\n%s", text, got, again)
		}
		dec := expfmt.NewDecoder(bytes.NewReader(text), expfmt.FmtOpenMetrics_1_0_0)
		var mfs []*dto.MetricFamily
		for {
			mf := new(dto.MetricFamily)
			err := dec.Decode(mf)
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			if mf.GetType() == dto.MetricType_GAUGE_HISTOGRAM {
				for _, m := range mf.Metric {
					if m.Histogram.GetCreatedTimestamp() != nil {
						return // a family of its own for us
					}
				}
			}
			mfs = append(mfs, mf)
		}
		theirs, err := FromProto(mfs, FileLimits, true)
		if err != nil {
			return
		}
		others, _, _, err := Canonical(theirs, Labelling{}, false)
		if err != nil {
			return
		}
		// The lists of buckets and quantiles in om2 lines differ, and are not read.
		if len(parts) != len(others) {
			t.Fatalf("%q is stored as\n%sand by common as\n%s", text, got, fileOf(others))
		}
		for i, p := range parts {
			if a, b := wireOf(t, p), wireOf(t, others[i]); !sameButSums(p.Text, others[i].Text) || !proto.Equal(a, b) {
				t.Fatalf("%q is stored as\n%sand by common as\n%swhich are\n%v\n%v", text, got, fileOf(others), a, b)
			}
		}
	})
}

// sameButSums reports whether two texts are equal, except that ours may lack a sum of 0:
// the sum is optional in OpenMetrics, and protobuf always has one.
func sameButSums(ours, theirs string) bool {
	for line := range strings.Lines(theirs) {
		rest, ok := strings.CutPrefix(ours, line)
		if !ok && !(strings.Contains(line, "_sum") && strings.HasSuffix(line, " 0\n")) {
			return false
		}
		ours = rest
	}
	return ours == ""
}
