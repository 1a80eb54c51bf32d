package exporter

import (
	"bytes"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/promspool/promspool/filestore/exposition"
)

// openMetricsFormats are what is served with Config.OpenMetrics, the best first.
var openMetricsFormats = []expfmt.Format{expfmt.FmtOpenMetrics_2_0_0, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1}

// appendOpenMetrics appends families as OpenMetrics, with the line that ends it. A
// family that this format does not allow, such as a counter below zero in version 2.0
// or a float histogram in 1.0, has no type there: its samples are those of the text
// format. Version 1.0 has no start times.
func appendOpenMetrics(out []byte, mfs []*dto.MetricFamily, format expfmt.Format) []byte {
	encode := expfmt.MetricFamilyToOpenMetrics
	v2 := format.Version() == expfmt.OpenMetricsVersion_2_0_0
	names := map[string]bool{} // of the families as they are stored
	if v2 {
		encode = expfmt.MetricFamilyToOpenMetrics20
	} else {
		for _, mf := range mfs {
			names[mf.GetName()] = true
		}
	}
	b := bytes.NewBuffer(out)
	for _, mf := range mfs {
		typed := v2 || toOpenMetrics1(mf, names)
		start := b.Len()
		if typed {
			_, err := encode(b, mf)
			typed = err == nil
		}
		switch {
		case !typed:
			b.Truncate(start)
			b.Write(untyped(mf))
		case !v2 && mf.GetType() == dto.MetricType_GAUGE_HISTOGRAM && !names[mf.GetName()+"_gcount"] && !names[mf.GetName()+"_gsum"]:
			text := gaugeNames(mf.GetName(), bytes.Clone(b.Bytes()[start:]))
			b.Truncate(start)
			b.Write(text)
		}
	}
	_, _ = expfmt.FinalizeOpenMetrics(b) // a buffer takes everything
	return b.Bytes()
}

// toOpenMetrics1 leaves out of a family what OpenMetrics 1.0 does not allow. It
// reports false if the name that the family would get is that of another.
func toOpenMetrics1(mf *dto.MetricFamily, names map[string]bool) bool {
	name := mf.GetName()
	if mf.GetType() == dto.MetricType_COUNTER {
		short, total := strings.CutSuffix(name, "_total")
		if total && (short == "" || names[short]) {
			return false
		}
		if name = short; !total { // has no type then
			for _, m := range mf.Metric {
				m.Counter.Exemplar = nil
			}
		}
	}
	if mf.Unit != nil && !strings.HasSuffix(name, "_"+mf.GetUnit()) {
		mf.Unit = nil
	}
	return true
}

// gaugeNames renames the count and sum of a gauge histogram in OpenMetrics 1.0 to what
// the standard says. The encoder of prometheus/common writes those of a histogram.
func gaugeNames(name string, text []byte) []byte {
	head := exposition.AppendName(nil, name)
	if head[0] == '"' { // {"name_count",labels}
		head = append([]byte("{"), head[:len(head)-1]...)
	}
	out := make([]byte, 0, len(text)+64)
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, head)
		for _, suffix := range [...]string{"count", "sum"} {
			after, is := bytes.CutPrefix(rest, []byte("_"+suffix))
			if ok && is && bytes.IndexByte([]byte(`"{ `), after[0]) >= 0 {
				line = slices.Concat(head, []byte("_g"+suffix), after)
			}
		}
		out = append(out, line...)
	}
	return out
}

// untyped returns the samples of a family without its type.
func untyped(mf *dto.MetricFamily) (samples []byte) {
	var b bytes.Buffer
	if _, err := expfmt.MetricFamilyToText(&b, mf); err != nil {
		return nil // has no samples
	}
	for line := range bytes.Lines(b.Bytes()) {
		if line[0] != '#' {
			samples = append(samples, line...)
		}
	}
	return samples
}
