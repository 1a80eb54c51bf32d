package exporter

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// maxLabel is the length up to which label values are shown in a list.
const maxLabel = 200

// A row is a group or a file in a list, in words.
type row struct {
	Name     string       // of the file
	Labels   []shownLabel // of a group
	Link     string       // to what it holds
	Samples  string
	Size     string
	Changed  *moment // the last push, or the last change of the file; nil for never
	Failed   *moment // the last push, if it was refused
	Marks    []mark
	Problems []string
	Remove   string // the path whose DELETE removes the group; empty if that cannot be done
	Question string // what is asked before
}

// A mark says in a word or two what is wrong.
type mark struct{ Text, Title string }

// A shownLabel is a label as it is read: the value in quotes, and all is visible.
type shownLabel struct{ Name, Value string }

// A moment is a point in time as people say it.
type moment struct {
	Machine, Ago, Exactly string
	Ahead                 bool
}

func momentOf(now, t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	return &moment{t.UTC().Format(time.RFC3339), ago(now, t), exactly(t), t.After(now)}
}

func newRow(f *record.File, conflicts []*record.Conflict, now time.Time, mayWrite bool) row {
	r := row{
		Name:    wording.Visible(wording.Shorten(record.PrintableName(f.Name()), maxLabel)),
		Labels:  showLabels(f.Group().Labels(), maxLabel),
		Link:    link(viewFile, "name", f.Name()),
		Samples: count(f.Series()),
		Size:    wording.Bytes(f.Size()),
		Changed: momentOf(now, changed(f)),
	}
	if !pushed(f) {
		r.Failed = momentOf(now, f.LastFailure())
		r.Marks = append(r.Marks, mark{"push refused", "The last push to this group was refused; what it held before is served."})
	}
	if refused, ok := f.Refused(); ok {
		if pushed(f) {
			r.Failed = momentOf(now, refused.Time)
			r.Marks = append(r.Marks, mark{"push refused", "The last push to this group was refused; what it held before is served."})
		}
		r.Problems = append(r.Problems, "push refused: "+wording.Visible(wording.Shorten(refused.Message+" (from "+refused.Client+")", 4*maxLabel)))
	}
	switch since := f.Expired(); {
	case !since.IsZero() && r.Labels != nil:
		r.Marks = append(r.Marks, mark{"expired " + ago(now, since), "Its lifetime is over. Only the times of its pushes are served, until the next push."})
	case !since.IsZero():
		r.Marks = append(r.Marks, mark{"expired " + ago(now, since), "Its lifetime is over. Nothing of it is served until it is written again."})
	case f.Err() != nil:
		r.Marks = append(r.Marks, mark{"not served", "Nothing of this file is served."})
	case f.Problem() != nil && f.Problem().Reason != exposition.Busy || len(conflicts) > 0: // older content is said below
		r.Marks = append(r.Marks, mark{"not all served", "Some series of this file are not served."})
	}
	if p := f.Problem(); p != nil {
		r.problem(p.Reason, p.Report())
	}
	for i, c := range conflicts {
		if i == maxProblems {
			r.Problems = append(r.Problems, count(len(conflicts)-i)+" contradictions more")
			break
		}
		r.problem(c.Reason, c.Error())
	}
	if t := f.HeldSince(); !t.IsZero() {
		r.Marks = append(r.Marks, mark{"older content", "The last good content is served."})
		r.Problems = append(r.Problems, "The last good content is served in place of what it holds now, for "+roughly(max(0, now.Sub(t)))+" so far.")
	}
	if g := f.Group(); mayWrite && !g.IsZero() {
		r.Remove = pushPath(g)
		r.Question = "The file is removed, and its samples (" + r.Samples + ") are not in the next scrape. The group is back with the next push to it."
	}
	return r
}

// maxProblems is how many contradictions of one file are told.
const maxProblems = 5

func (r *row) problem(reason exposition.Reason, text string) {
	r.Problems = append(r.Problems, string(reason)+": "+wording.Visible(wording.Shorten(text, 4*maxLabel)))
}

// showLabels returns labels in their order, cut at n bytes each.
func showLabels(labels []exposition.Label, n int) []shownLabel {
	var shown []shownLabel
	for _, l := range labels {
		shown = append(shown, shownLabel{wording.Visible(wording.Shorten(l.Name, n)), strconv.Quote(wording.Shorten(l.Value, n))})
	}
	return shown
}

// metricsAtOnce is how many metrics of a file are shown on one page.
const metricsAtOnce = 500

// A content is what one file holds, in words.
type content struct {
	Row      row
	Families []shownFamily
	From, To int    // the metrics that are shown, from 1
	More     string // link to the next of them
	Back     string // to the list
}

type shownFamily struct {
	Name, Help, Type string
	Metrics          []shownMetric
}

type shownMetric struct {
	Labels []shownLabel // but for those of the group
	Value  string       // of a counter, gauge or untyped metric
	When   *moment      // if the value is a time
	Count  string       // of a histogram or summary
	Sum    string
	Bound  string // what its bounds are
	Bounds []shownBound
}

type shownBound struct{ Bound, Value string }

// newContent takes apart what a file holds, from the metric of that number on.
func newContent(v *merge.View, f *record.File, r row, offset int, now time.Time) *content {
	c := &content{Row: r, Back: "?view=" + viewOf(f)}
	own := f.Group().Labels()
	n := 0
	for fam, m := range v.Metrics(f) {
		n++
		if n <= offset {
			continue
		}
		if n > offset+metricsAtOnce {
			c.More = link(viewFile, "name", f.Name(), "offset", strconv.Itoa(offset+metricsAtOnce))
			break
		}
		if c.From == 0 {
			c.From = n
		}
		c.To = n
		if k := len(c.Families); k == 0 || c.Families[k-1].Name != wording.Visible(fam.Name) {
			c.Families = append(c.Families, shownFamily{Name: wording.Visible(fam.Name), Help: wording.Visible(fam.Help), Type: fam.Type.String()})
		}
		last := &c.Families[len(c.Families)-1]
		last.Metrics = append(last.Metrics, newShownMetric(fam, m, own, now))
	}
	return c
}

func newShownMetric(fam exposition.Family, m exposition.Metric, own []exposition.Label, now time.Time) shownMetric {
	x := shownMetric{Labels: showLabels(slices.DeleteFunc(m.Labels, func(l exposition.Label) bool { return slices.Contains(own, l) }), math.MaxInt)}
	switch fam.Type {
	case exposition.Histogram:
		x.Bound = "le"
	case exposition.Summary:
		x.Bound = "quantile"
	default:
		x.Value = number(m.Value)
		if strings.HasSuffix(fam.Name, "_time_seconds") || strings.HasSuffix(fam.Name, "_timestamp_seconds") {
			x.When = momentOf(now, jobstate.AtUnix(m.Value))
		}
		return x
	}
	x.Count, x.Sum = number(m.Count), number(m.Sum)
	for _, b := range m.Bounds {
		x.Bounds = append(x.Bounds, shownBound{number(b.Bound), number(b.Value)})
	}
	return x
}

// number writes a value, with an exponent only where it would be hard to read without.
func number(x float64) string {
	if a := math.Abs(x); a == 0 || a >= 1e-4 && a < 1e15 {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

// maxPushPath is the length up to which a path is of use: servers on the way,
// too, have limits for what a request may begin with.
const maxPushPath = 32 << 10

// pushPath returns the path of a group in the push API, relative to the root of
// the agent, or "" if it has none that every agent and browser takes for it.
// Values that a browser or a proxy might change on the way are in base64.
func pushPath(g grouping.Key) string {
	b := []byte("metrics")
	for _, l := range g.Labels() {
		name := l.Name
		if !model.LegacyValidation.IsValidLabelName(name) {
			name = model.EscapeName(name, model.ValueEncodingEscaping)
		}
		if model.UnescapeName(name, model.ValueEncodingEscaping) != l.Name {
			return "" // it looks escaped and is not, or is beyond what can be
		}
		b = append(b, '/')
		b = append(b, name...)
		if plainValue(l.Value) {
			b = append(b, '/')
			b = append(b, l.Value...)
		} else {
			b = append(b, "@base64/"...)
			b = base64.RawURLEncoding.AppendEncode(b, []byte(l.Value))
		}
		if len(b) > maxPushPath {
			return ""
		}
	}
	return string(b)
}

// plainValue reports whether a value means the same to everybody in a path.
func plainValue(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.' && i > 0) {
			return false
		}
	}
	return s != ""
}
