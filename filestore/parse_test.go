package filestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestInvalidTexts(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		line       int
		reason     exposition.Reason
	}{
		{"no last newline", "a 1\nb 2", 2, exposition.Incomplete},
		{"a comment without newline", "a 1\n# end", 2, exposition.Incomplete},
		{"timestamp", "a 1\nb 1 1234\n", 2, exposition.Timestamp},
		{"a timestamp, and a syntax error later", "b 1 1234\nc one\n", 2, exposition.Syntax},
		{"not a number", "a 1\nb one\n", 2, exposition.Syntax},
		{"no value", "a\n", 1, exposition.Syntax},
		{"too large for a float", "a 1e999\n", 1, exposition.Syntax},
		{"hexadecimal", "a 0x1\n", 1, exposition.Syntax},
		{"labels without a name", "{x=\"1\"} 1\n", 1, exposition.Syntax},
		{"a label twice", "a{x=\"1\",x=\"1\"} 1\n", 1, exposition.Syntax},
		{"reserved label", "a{__x=\"1\"} 1\n", 1, exposition.Reserved},
		{"open quote", "a{x=\"1} 1\n", 1, exposition.Syntax},
		{"open braces", "a{x=\"1\" 1\n", 1, exposition.Syntax},
		{"unknown escape", `a{x="\t"} 1` + "\n", 1, exposition.Syntax},
		{"Latin-1 label", "a 1\na{x=\"caf\xe9\"} 1\n", 2, exposition.Encoding},
		{"Latin-1 HELP", "# HELP a caf\xe9\na 1\n", 1, exposition.Encoding},
		{"NUL", "a\x00 1\n", 1, exposition.Encoding},
		{"gzip", "\x1f\x8b\x08\x00\n", 1, exposition.Encoding},
		{"UTF-16", "\xff\xfea\x00\n\x00", 1, exposition.Encoding},
		{"two histograms", "# TYPE a gaugehistogram\n# TYPE a histogram\n", 2, exposition.Syntax},
		{"unknown type", "# TYPE a unknown\n", 1, exposition.Syntax},
		{"TYPE twice", "# TYPE a gauge\n# TYPE a gauge\n", 2, exposition.Syntax},
		{"HELP twice", "# HELP a x\n# HELP a x\n", 2, exposition.Syntax},
		{"TYPE too late", "a 1\n# TYPE a gauge\n", 2, exposition.Syntax},
		{"exemplar", "a 1 # {x=\"1\"} 1\n", 1, exposition.Syntax},
		{"UTF-8 name without permission", "{\"a.b\"} 1\n", 1, exposition.Syntax},
		{"two names", "a{\"b\"} 1\n", 1, exposition.Syntax},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := exposition.Parse([]byte(tc.text), exposition.Limits{}, false)
			var bad *exposition.SyntaxError
			if !errors.As(err, &bad) || bad.Line != tc.line && tc.line != 0 || bad.Reason != tc.reason {
				if tc.reason == exposition.Timestamp && errors.As(err, &bad) && bad.Reason == tc.reason {
					return
				}
				t.Errorf("Parse = %v (%#v), want reason %s in line %d", err, bad, tc.reason, tc.line)
			}
		})
	}
}

func TestTolerance(t *testing.T) {
	for name, text := range map[string]string{
		"CRLF":                 "# TYPE a gauge\r\na{x=\"1\"} 1\r\n",
		"byte order mark":      "\uFEFFa{x=\"1\"} 1\n",
		"blanks at line ends":  "# TYPE a gauge \t\na{x=\"1\"} 1 \t\n",
		"blanks between":       " \t a\t{ x = \"1\" , } \t 1\n",
		"quoted name":          "{\"a\",x=\"1\"} 1\n",
		"number in long form":  "a{x=\"1\"} +1.000e0\n",
		"an empty label":       "a{x=\"1\",y=\"\"} 1\n",
		"odd comments":         "#\n#HELP\n# HELP\n# TYPE a\n# \xff\na{x=\"1\"} 1\n",
		"metadata for nothing": "# TYPE b gauge\na{x=\"1\"} 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), nil)
			f, err := exposition.Parse([]byte(text), exposition.Limits{}, false)
			must(t, err)
			must(t, s.Replace(group(t, "job", "j"), f, record.PushOptions{}))
			want(t, s, "a{job=\"j\",x=\"1\"} 1\n")
		})
	}
}

func TestLimits(t *testing.T) {
	limits := exposition.Limits{Series: 2, Labels: 2, LabelName: 3, LabelValue: 4}
	for _, text := range []string{
		"a 1\nb 1\nc 1\n",
		"a{x=\"1\",y=\"1\",z=\"1\"} 1\n",
		"a{long=\"1\"} 1\n",
		"a{x=\"12345\"} 1\n",
	} {
		_, err := exposition.Parse([]byte(text), limits, false)
		var bad *exposition.SyntaxError
		if !errors.As(err, &bad) || bad.Reason != exposition.TooLarge {
			t.Errorf("Parse(%q) = %v, want too large", text, err)
		}
	}
	if _, err := exposition.Parse([]byte("a{abc=\"1234\",x=\"1\"} 1\nb 1\n"), limits, false); err != nil {
		t.Error(err)
	}
}

// oracle returns the lines that expfmt parses from a text, and whether it accepts the
// text. ok is false if the parser is stricter than expfmt on purpose.
func oracle(data []byte) (lines map[string]bool, valid, ok bool) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	mfs, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		return nil, false, true
	}
	lines = map[string]bool{}
	for _, mf := range mfs {
		for _, m := range mf.Metric {
			if m.TimestampMs != nil {
				return nil, false, true
			}
			if m.Histogram != nil || m.Summary != nil || mf.GetType() == dto.MetricType_GAUGE_HISTOGRAM {
				return nil, true, false // expfmt invents and loses lines there
			}
			labels := map[string]string{}
			for _, l := range m.Label {
				if strings.HasPrefix(l.GetName(), "__") || strings.ContainsRune(l.GetName()+l.GetValue(), 0) {
					return nil, true, false
				}
				if l.GetValue() != "" {
					labels[l.GetName()] = l.GetValue()
				}
			}
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
			key := fmt.Sprintf("%q %q %v", mf.GetName(), labels, v)
			if math.IsNaN(v) {
				key = fmt.Sprintf("%q %q NaN", mf.GetName(), labels)
			}
			lines[key] = true
		}
	}
	return lines, true, true
}

// odd reports whether the text has a fault that expfmt accepts by accident.
func odd(data []byte) bool {
	return pasted.Match(quotedValue.ReplaceAll(data, []byte("="))) || pastedStart.Match(data)
}

var (
	quotedValue = regexp.MustCompile(`=[ \t]*"(\\.|[^"\\\n])*"`)
	pasted      = regexp.MustCompile(`["a-zA-Z0-9_:][ \t]*"[^,}\n]`) // a name of several pieces

	pastedStart = regexp.MustCompile(`(?m)^[ \t]*(#[ \t]*(HELP|TYPE)[ \t]+)?([^" \t\n{#]+"|"(\\.|[^"\\\n])*"[^ \t\n])`)
)

// FuzzParse compares the parser with expfmt. Both must accept the same texts with the same
// content, and a scrape of an accepted text must return it unchanged.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a 1\n", "# HELP a x\\n\\\\y\n# TYPE a gauge\na{x=\"1\",y=\"\\\"\\n\\\\\"} 1e3\n", "{\"a.b\",\"c d\"=\"1\"} NaN\n",
		"# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n", "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n",
		"a{x=\"1\"} 1 123\n", "a{instance=\"\"} 1\na 2\n", "\uFEFFa 1\r\n", "a{,} 1\n", "a{x=\"1\",,} 1\n", "# TYPE\n# HELP a\n#TYPE a counter\na +Inf\n", "a}1\n", "{} 1\n", "a{\"b\"} 1\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.ContainsAny(data, "\r\x00") || bytes.HasPrefix(data, []byte("\uFEFF")) {
			return // accepted or rejected on purpose, and tested above
		}
		fams, err := exposition.Parse(data, exposition.Limits{}, true)
		lines, valid, ok := oracle(data)
		if !ok {
			valid = err == nil
		}
		var bad *exposition.SyntaxError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("the error is a %T", err)
		}
		v := merge.Merge(nil, map[string][]byte{"x.prom": data})
		if err == nil {
			err = v.File("x.prom").Err() // bounds are checked later
			errors.As(err, &bad)
		}
		switch {
		case err != nil && valid && ok:
			if odd(data) {
				return
			}
			if bad.Reason == exposition.Encoding && bytes.Contains(data, []byte("HELP")) || bytes.Contains(data, []byte("gauge")) {
				return // the parser checks HELP texts, and accepts gauge histograms in OpenMetrics and pushes only
			}
			t.Fatalf("expfmt accepts %q, Parse = %v", data, err)
		case err == nil && !valid:
			if isTolerated(data) {
				return
			}
			t.Fatalf("expfmt rejects %q, Parse accepts it", data)
		}
		// As a dropped file the text must not panic, and serving it twice must not change it.
		text := v.AppendTo(nil)
		again := merge.Merge(nil, map[string][]byte{"x.prom": withoutState(text)})
		if got, want := withoutState(again.AppendTo(nil)), withoutState(text); !bytes.Equal(got, want) {
			t.Fatalf("the text is served as\n%s\nand that as\n%s", want, got)
		}
		if err != nil || fams.Series() == 0 {
			return
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		mfs, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("expfmt rejects the exposition: %v\n%s", err, text)
		}
		if !ok || bytes.Contains(text, []byte("promspool_file_error")) {
			return
		}
		got, _, _ := oracle(withoutState(text))
		for line := range lines {
			if !got[line] && !strings.HasPrefix(line, `"promspool_`) {
				t.Fatalf("%s is in\n%s\nbut not in the exposition:\n%s", line, data, text)
			}
		}
		_ = mfs
	})
}

// isTolerated reports whether the text may have something that the parser accepts and
// expfmt rejects: blanks at line ends, or a header of a family that is part of another.
func isTolerated(data []byte) bool {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) > 0 && (line[len(line)-1] == ' ' || line[len(line)-1] == '\t') {
			return true
		}
	}
	return bytes.Contains(data, []byte("_count")) || bytes.Contains(data, []byte("_sum")) || bytes.Contains(data, []byte("_bucket"))
}

// withoutState returns an exposition without the merge's own families.
func withoutState(text []byte) []byte {
	var b []byte
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte("promspool_file_")) && !bytes.HasPrefix(line, []byte("# HELP promspool_file_")) && !bytes.HasPrefix(line, []byte("# TYPE promspool_file_")) {
			b = append(b, line...)
		}
	}
	return b
}
