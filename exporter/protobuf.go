package exporter

import (
	"bytes"
	"maps"
	"slices"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// toProtobuf converts the text to delimited protobuf. The text says all there
// is to say, so the two formats never differ in content. What it costs grows
// with the text, in memory by a multiple.
func toProtobuf(text []byte, format expfmt.Format) ([]byte, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	mfs, err := p.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, format)
	for _, name := range slices.Sorted(maps.Keys(mfs)) {
		if err := enc.Encode(mfs[name]); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
