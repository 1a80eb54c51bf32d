package exposition

import (
	"bytes"
	"fmt"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// BenchmarkPush reads pushes of histograms with 100 buckets: native ones as protobuf,
// and classic ones as text.
func BenchmarkPush(b *testing.B) {
	const families = 10
	var text, wire bytes.Buffer
	for f := range families {
		h := &dto.Histogram{SampleCount: ptr(uint64(5050)), SampleSum: ptr(1.5), Schema: ptr(int32(3)), ZeroThreshold: ptr(2.9e-39), ZeroCount: ptr(uint64(0)), PositiveSpan: spans(0, 50, 3, 50), CreatedTimestamp: timestamppb.Now()}
		fmt.Fprintf(&text, "# TYPE h%d histogram\n", f)
		for i := range 100 {
			h.PositiveDelta = append(h.PositiveDelta, 1)
			fmt.Fprintf(&text, "h%d_bucket{le=\"%d\"} %d\n", f, i, i+1)
		}
		fmt.Fprintf(&text, "h%d_bucket{le=\"+Inf\"} 100\nh%d_sum 1.5\nh%d_count 100\n", f, f, f)
		mf := histogramFamily(h)
		mf.Name = ptr(fmt.Sprintf("h%d", f))
		if _, err := protodelim.MarshalTo(&wire, mf); err != nil {
			b.Fatal(err)
		}
	}
	lab := Labelling{Over: []Label{{"job", "j"}}}
	var file []byte
	b.Run("classic", func(b *testing.B) {
		for b.Loop() {
			f, err := Parse(text.Bytes(), Limits{}, false)
			if err != nil {
				b.Fatal(err)
			}
			if _, _, _, err := Canonical(f, lab, false); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("native", func(b *testing.B) {
		for b.Loop() {
			var mfs []*dto.MetricFamily
			for r := bytes.NewReader(wire.Bytes()); r.Len() > 0; {
				mf := new(dto.MetricFamily)
				if err := protodelim.UnmarshalFrom(r, mf); err != nil {
					b.Fatal(err)
				}
				mfs = append(mfs, mf)
			}
			f, err := FromProto(mfs, Limits{}, false)
			if err != nil {
				b.Fatal(err)
			}
			parts, _, _, err := Canonical(f, lab, false)
			if err != nil {
				b.Fatal(err)
			}
			file = fileOf(parts)
		}
	})
	b.Run("reading a native file", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			f, err := ParseFile(file)
			if err != nil {
				b.Fatal(err)
			}
			if _, _, _, err := Canonical(f, Labelling{}, true); err != nil {
				b.Fatal(err)
			}
		}
	})
}
