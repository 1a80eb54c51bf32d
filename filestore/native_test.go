package filestore_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// nativeCounter and nativeHistogram return families as client libraries push them.
func nativeCounter(name string, v float64, start int64) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Unit: proto.String("rows"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{Counter: &dto.Counter{Value: &v, CreatedTimestamp: &timestamppb.Timestamp{Seconds: start}}}}}
}

func nativeHistogram(name string, schema int32, offset int32, counts ...int64) *dto.MetricFamily {
	h := &dto.Histogram{SampleSum: proto.Float64(float64(len(counts))), Schema: &schema, ZeroThreshold: proto.Float64(0.001), ZeroCount: proto.Uint64(0), CreatedTimestamp: &timestamppb.Timestamp{Seconds: 9}}
	h.PositiveSpan = []*dto.BucketSpan{{Offset: &offset, Length: proto.Uint32(uint32(len(counts)))}}
	n, last := uint64(0), int64(0)
	for _, c := range counts {
		h.PositiveDelta = append(h.PositiveDelta, c-last)
		last = c
		n += uint64(c)
	}
	h.SampleCount = &n
	return &dto.MetricFamily{Name: &name, Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: h}}}
}

func pushed(t testing.TB, mfs ...*dto.MetricFamily) *exposition.Families {
	t.Helper()
	f, err := exposition.FromProto(mfs, exposition.Limits{}, false)
	must(t, err)
	return f
}

// encoded returns the families of a view as protobuf, by name.
func encoded(t testing.TB, v *merge.View) map[string]*dto.MetricFamily {
	t.Helper()
	var all []byte
	for _, p := range v.Encoded().Parts {
		all = append(all, p.Raw()...)
	}
	mfs := map[string]*dto.MetricFamily{}
	for r := bytes.NewReader(all); r.Len() > 0; {
		mf := new(dto.MetricFamily)
		must(t, protodelim.UnmarshalFrom(r, mf))
		if mfs[mf.GetName()] != nil {
			t.Fatalf("family %s exists twice", mf.GetName())
		}
		mfs[mf.GetName()] = mf
	}
	return mfs
}

func nativeOf(v map[string]*dto.MetricFamily, name string) string {
	if v[name] == nil {
		return "missing"
	}
	h := v[name].Metric[0].Histogram
	n := fmt.Sprint(h.GetSampleCount(), h.GetSchema(), " ")
	for _, s := range h.PositiveSpan {
		n += fmt.Sprintf("%d:%d ", s.GetOffset(), s.GetLength())
	}
	return n + fmt.Sprint(h.PositiveDelta, h.GetCreatedTimestamp().GetSeconds())
}

// TestNativeInAllChanges expects that data without a text representation stays with its
// series in all kinds of changes of a group.
func TestNativeInAllChanges(t *testing.T) {
	dir, c := t.TempDir(), newCalendar()
	opts := &filestore.Options{Now: c.now}
	s := open(t, dir, opts)
	g := group(t, "job", "j")
	path := filepath.Join(dir, g.FileName())
	check := func(step, histogram string, start int64) {
		t.Helper()
		for _, s := range []*filestore.Store{s, open(t, dir, opts)} {
			v := encoded(t, s.View())
			if got := nativeOf(v, "h_seconds"); got != histogram {
				t.Errorf("%s: the histogram is %q, want %q", step, got, histogram)
			}
			if got := v["c_total"].GetMetric(); start > 0 && (len(got) != 1 || got[0].Counter.GetCreatedTimestamp().GetSeconds() != start || v["c_total"].GetUnit() != "rows") {
				t.Errorf("%s: the counter is %v, want the start %d", step, got, start)
			}
			if f := s.View().File(g.FileName()); f == nil || f.Problem() != nil {
				t.Errorf("%s: the file has the problem %v", step, f.Problem())
			}
			if text := string(s.View().AppendTo(nil)); strings.Contains(text, "om2") || strings.Contains(text, "UNIT") {
				t.Errorf("%s: the text has internal comments:\n%s", step, text)
			}
		}
	}
	must(t, s.Replace(g, pushed(t, nativeHistogram("h_seconds", 3, 2, 1, 2, 1), nativeCounter("c_total", 42, 1000)), record.PushOptions{TTL: ttl(time.Hour)}))
	check("PUT", "4 3 2:3 [1 1 -1] 9", 1000)
	must(t, s.Replace(g, pushed(t, nativeHistogram("h_seconds", 3, 2, 1, 2, 1), nativeCounter("c_total", 42, 2000)), record.PushOptions{TTL: ttl(time.Hour)}))
	check("the next run", "4 3 2:3 [1 1 -1] 9", 2000)
	must(t, s.Update(g, families(t, "x 1\n"), record.PushOptions{}))
	check("POST of another", "4 3 2:3 [1 1 -1] 9", 2000)
	must(t, s.Fail(g))
	check("a failure", "4 3 2:3 [1 1 -1] 9", 2000)
	must(t, s.Update(g, pushed(t, nativeHistogram("h_seconds", 3, 4, 5, 1), nativeCounter("c_total", 1, 3000)), record.PushOptions{Accumulate: true}))
	check("accumulate", "10 3 2:4 [1 1 4 -5] 9", 2000)
	if err := s.Update(g, pushed(t, nativeHistogram("h_seconds", 2, 4, 5, 1)), record.PushOptions{Accumulate: true}); err == nil {
		t.Error("histograms of two schemas add up")
	}
	if err := s.Update(g, families(t, "# TYPE h_seconds histogram\nh_seconds_bucket{le=\"+Inf\"} 1\nh_seconds_sum 1\nh_seconds_count 1\n"), record.PushOptions{Accumulate: true}); err == nil {
		t.Error("a native histogram and a classic one add up")
	}
	alive := read(t, path)
	c.pass(2 * time.Hour)
	if did := expire(t, s); did == "" || !strings.Contains(read(t, path), "# promspool:withheld # promspool:om2 c_total") {
		t.Errorf("expired (%q) the file is\n%s", did, read(t, path))
	}
	check("expired", "missing", 0)
	must(t, s.Restore(g))
	check("restored", "10 3 2:4 [1 1 4 -5] 9", 2000)
	if got := read(t, path); len(got) < len(alive)-40 {
		t.Errorf("the restored file is\n%swant\n%s", got, alive)
	}
	must(t, s.Replace(g, families(t, "# TYPE c_total counter\nc_total 43\n"), record.PushOptions{}))
	check("PUT of text", "missing", 0)
	if got := read(t, path); strings.Contains(got, "om2") || strings.Contains(got, "UNIT") {
		t.Errorf("lines of deleted families are in\n%s", got)
	}
}

// TestEditedLines expects that lines for native data are ignored if an edit has made them
// inconsistent with the text.
func TestEditedLines(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	g := group(t, "job", "j")
	must(t, s.Replace(g, pushed(t, nativeCounter("c_total", 42, 1000)), record.PushOptions{}))
	path := filepath.Join(dir, g.FileName())
	text := read(t, path)
	must(t, os.WriteFile(path, []byte(strings.Replace(text, `c_total{job="j"} 42`+"\n", `c_total{job="j"} 43`+"\n", 1)), 0o644))
	must1(s.Reload(g.FileName()))
	f := s.View().File(g.FileName())
	if p := f.Problem(); p == nil || p.Line != 5 || !strings.Contains(string(s.View().AppendTo(nil)), `promspool_file_error{file="job=j.prom",reason="duplicate"} 1`) {
		t.Errorf("the file has the problem %v", f.Problem())
	}
	if c := encoded(t, s.View())["c_total"].Metric[0].Counter; c.GetValue() != 43 || c.CreatedTimestamp != nil {
		t.Errorf("the counter is %v", c)
	}
	// A line without its family in the header, as another version may write it.
	must(t, os.WriteFile(path, []byte(strings.Replace(text, "\n", "\n# promspool:om2 gone_total 1.0 st@5\n# promspool:z kept\n", 1)), 0o644))
	must1(s.Reload(g.FileName()))
	must(t, s.Update(g, families(t, "x 1\n"), record.PushOptions{}))
	if got := read(t, path); strings.Contains(got, "gone_total") || !strings.Contains(got, "# promspool:z kept") || s.View().File(g.FileName()).Problem() != nil {
		t.Errorf("the line without a family is still in\n%s", got)
	}
	// Files with the same value and different lines.
	must(t, os.WriteFile(filepath.Join(dir, "a.prom"), []byte("# TYPE d_total counter\nd_total 1\n# promspool:om2 d_total 1.0 st@5\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "b.prom"), []byte("# TYPE d_total counter\nd_total 1\n# promspool:om2 d_total 1.0 st@6\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "c.prom"), []byte("# TYPE d_total counter\nd_total 1\n"), 0o644))
	must1(s.Rescan())
	if x := s.View().Conflicts(); len(x) != 1 || x[0].File != "b.prom" || x[0].Kept != "a.prom" {
		t.Errorf("conflicts: %v", x)
	}
	if c := encoded(t, s.View())["d_total"].Metric; len(c) != 1 || c[0].Counter.GetCreatedTimestamp().GetSeconds() != 5 {
		t.Errorf("the counter is %v", c)
	}
}

// Of the texts of one group only the HELP text is written to the files of others.
func TestOnlyHelpIsCopied(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	g, other := group(t, "job", "a"), group(t, "job", "b")
	mf := nativeCounter("c_rows_total", 42, 1000)
	mf.Help = proto.String("The help.")
	mf.Metric[0].Label = []*dto.LabelPair{{Name: proto.String("label_of_a"), Value: proto.String("1")}}
	mf.Metric[0].Counter.Exemplar = &dto.Exemplar{Value: proto.Float64(1), Label: []*dto.LabelPair{{Name: proto.String("trace_of_a"), Value: proto.String("1")}}}
	must(t, s.Replace(g, pushed(t, mf), record.PushOptions{}))
	must(t, s.Replace(other, families(t, "# TYPE c_rows_total counter\nc_rows_total 1\n"), record.PushOptions{}))
	must(t, s.Fail(other))
	text := read(t, filepath.Join(dir, other.FileName()))
	if !strings.Contains(text, "# HELP c_rows_total The help.\n") {
		t.Errorf("the HELP text is not in\n%s", text)
	}
	for _, foreign := range []string{"UNIT", "of_a", "om2", "st@"} {
		if strings.Contains(text, foreign) {
			t.Errorf("%s of another group is in\n%s", foreign, text)
		}
	}
}
