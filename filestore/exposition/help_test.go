package exposition_test

import (
	"errors"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/promspool/promspool/filestore/exposition"
)

// TestHelpIsBounded checks that a longer HELP text is an error of a push, in text and in
// protobuf.
func TestHelpIsBounded(t *testing.T) {
	for extra, want := range []exposition.Reason{"", exposition.TooLarge} {
		help := strings.Repeat("h", exposition.MaxHelp+extra)
		_, fromText := exposition.Parse([]byte("# HELP a "+help+"\na 1\n"), exposition.Limits{}, false)
		_, fromProto := exposition.FromProto([]*dto.MetricFamily{{
			Name: proto.String("a"), Help: &help, Type: dto.MetricType_GAUGE.Enum(),
			Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(1)}}},
		}}, exposition.Limits{}, false)
		for what, err := range map[string]error{"text": fromText, "protobuf": fromProto} {
			var e *exposition.SyntaxError
			var got exposition.Reason
			if errors.As(err, &e) {
				got = e.Reason
			}
			if got != want {
				t.Errorf("%s with %d bytes of HELP: %v, want reason %q", what, len(help), err, want)
			}
		}
	}
}

// TestUnitIsBounded checks that a longer unit is an error of a push in all formats, and
// that a file loses only the unit and names its line.
func TestUnitIsBounded(t *testing.T) {
	for extra, want := range []exposition.Reason{"", exposition.TooLarge} {
		unit := strings.Repeat("u", exposition.MaxUnit+extra)
		text := "# TYPE a gauge\n# UNIT a " + unit + "\na 1\n"
		_, fromText := exposition.Parse([]byte(text), exposition.Limits{}, false)
		_, fromOpenMetrics := exposition.ParseOpenMetrics([]byte(text+"# EOF\n"), exposition.Limits{}, false)
		_, fromProto := exposition.FromProto([]*dto.MetricFamily{{
			Name: proto.String("a"), Unit: &unit, Type: dto.MetricType_GAUGE.Enum(),
			Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(1)}}},
		}}, exposition.Limits{}, false)
		for what, err := range map[string]error{"text": fromText, "OpenMetrics": fromOpenMetrics, "protobuf": fromProto} {
			var e *exposition.SyntaxError
			var got exposition.Reason
			if errors.As(err, &e) {
				got = e.Reason
			}
			if got != want || err != nil && len(err.Error()) > 300 {
				t.Errorf("%s with a unit of %d bytes: %v, want reason %q", what, len(unit), err, want)
			}
		}
		f, err := exposition.ParseFile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		parts, series, issue, err := exposition.Canonical(f, exposition.Labelling{}, true)
		if err != nil || series != 1 || len(parts) != 1 {
			t.Fatalf("a file has %d series, %v", series, err)
		}
		if kept := strings.Contains(parts[0].Extra, unit); kept != (want == "") || !kept && (issue == nil || issue.Line != 2 || !strings.Contains(issue.Msg, "257 bytes, and the limit is 256")) {
			t.Errorf("a file with a unit of %d bytes: kept is %v, the issue %v", len(unit), kept, issue)
		}
	}
}

// TestLongHelpOfAFileIsCut checks that the cut is between two characters, and that the
// samples stay.
func TestLongHelpOfAFileIsCut(t *testing.T) {
	for prefix, want := range map[string]int{"": exposition.MaxHelp, "x": exposition.MaxHelp - 1} {
		help := prefix + strings.Repeat("é", exposition.MaxHelp)
		families, err := exposition.ParseFile([]byte("# HELP a " + help + "\na 1\n"))
		if err != nil {
			t.Fatal(err)
		}
		parts, series, _, err := exposition.Canonical(families, exposition.Labelling{}, true)
		if err != nil || series != 1 {
			t.Fatalf("%d series, %v, want 1", series, err)
		}
		if got := parts[0].Desc.Value().Help; len(got) != want || !strings.HasPrefix(help, got) {
			t.Errorf("the text has %d bytes, want the first %d", len(got), want)
		}
	}
}
