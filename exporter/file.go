package exporter

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// maxLabel is the length at which lists cut label values.
const maxLabel = 200

// A row is a group or a file of a list, in words.
type row struct {
	Name     string       // of the file
	Labels   []shownLabel // of a group
	Link     string       // to its content
	Version  string       // changes with its content
	Samples  string
	Size     string
	Changed  *moment // last push, or last change of the file; nil for never
	Refused  *moment // last push, if it was refused
	Client   string  // that was refused
	Reason   string  // of the refusal
	Marks    []mark
	Problems []string
	Source   *source
	Delete   string // path whose DELETE deletes the group; empty if that is not possible
}

// A mark names a problem in a word or two.
type mark struct {
	Text, Title string
	Mild        bool // not an error
}

// A source is the line of a file with a fault, cut at the place of the fault.
type source struct {
	Line                  int
	Before, Marked, After string
}

// A shownLabel is a label for display: the value in quotes, all of it visible.
type shownLabel struct{ Name, Value string }

// A moment is a point in time for display.
type moment struct{ Machine, Ago, Exactly string }

// Clock returns the time of day.
func (m *moment) Clock() string { return m.Exactly[len("2006-01-02 "):] }

func momentOf(now, t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	return &moment{t.UTC().Format(time.RFC3339), ago(now, t), exactly(t)}
}

func newRow(f *record.File, conflicts []*record.Conflict, now time.Time, may rights) row {
	r := row{
		Name:    wording.Visible(wording.Shorten(record.PrintableName(f.Name()), maxLabel)),
		Labels:  showLabels(f.Group().Labels(), maxLabel),
		Link:    link(viewFile, "name", f.Name()),
		Version: version(f),
		Samples: count(f.Series()),
		Size:    wording.Bytes(f.DiskSize()),
		Changed: momentOf(now, changed(f)),
	}
	switch since := f.Expired(); {
	case !since.IsZero() && r.Labels != nil:
		r.Marks = append(r.Marks, mark{"expired " + ago(now, since), "Its lifetime is over. Until the next push only the times of its pushes are served.", true})
	case !since.IsZero():
		r.Marks = append(r.Marks, mark{"expired " + ago(now, since), "Its lifetime is over. Nothing of it is served until the file is written again.", true})
	case f.Err() != nil:
		r.Marks = append(r.Marks, mark{"not served", "Nothing of this file is served.", false})
	case f.Problem() != nil && f.Problem().Reason != exposition.Busy || len(conflicts) > 0: // older content is reported below
		r.Marks = append(r.Marks, mark{"partly served", "Some series of this file are not served.", false})
	}
	if p := f.Problem(); p != nil {
		text := p.Sentence()
		if p.Line > 0 {
			text = "line " + strconv.Itoa(p.Line) + ": " + text
		}
		r.problem(string(p.Reason), text)
		if p.Source != "" {
			r.Source = &source{p.Line, wording.Visible(p.Source[:p.From]), wording.Visible(p.Source[p.From:p.To]), wording.Visible(p.Source[p.To:])}
		}
	}
	for i, c := range conflicts {
		if i == maxProblems {
			r.Problems = append(r.Problems, countOf(len(conflicts)-i, "more conflict"))
			break
		}
		r.problem(string(c.Reason), c.Error())
	}
	if t := f.HeldSince(); !t.IsZero() {
		r.Marks = append(r.Marks, mark{"older content", "The last good content is served.", false})
		r.Problems = append(r.Problems, "The last good content is served instead of the current one, for "+roughly(max(0, now.Sub(t)))+".")
	}
	if isRefused(f) {
		r.refusal(f, now)
	}
	if g := f.Group(); may.write && !g.IsZero() {
		r.Delete = pushPath(g)
	}
	return r
}

// version returns a text that changes whenever the content view of the file does, except
// for its ages. The page requests unfolded content again if it differs.
func version(f *record.File) string {
	s := f.Stamp()
	var refused int64
	if r, ok := f.Refused(); ok {
		refused = unixNano(r.Time)
	}
	state := fmt.Sprint(s.Dev, s.Ino, s.Ctime, unixNano(f.ModTime()), f.DiskSize(), f.Series(), f.Pushed(), f.Failed(), refused,
		unixNano(f.Expired()), unixNano(f.HeldSince()), f.Err(), f.Problem())
	return strconv.FormatUint(xxhash.Sum64String(state), 36)
}

// refusal describes the last push to a group, which was refused.
func (r *row) refusal(f *record.File, now time.Time) {
	r.Marks = append(r.Marks, mark{"push refused", "The last push to this group was refused. Its older content is served.", false})
	r.Refused = momentOf(now, f.LastFailure())
	if refused, ok := f.Refused(); ok {
		r.Refused = momentOf(now, refused.Time)
		r.Client, r.Reason = wording.Visible(wording.Shorten(refused.Client, maxLabel)), wording.Visible(refused.Reason)
		r.Problems = append(r.Problems, wording.Visible(wording.Shorten(refused.Message, 4*maxLabel)))
	}
}

// maxProblems is the number of conflicts of one file that are listed.
const maxProblems = 5

func (r *row) problem(kind, text string) {
	r.Problems = append(r.Problems, kind+": "+wording.Visible(wording.Shorten(text, 4*maxLabel)))
}

// showLabels returns labels for display, cut at n bytes each.
func showLabels(labels []exposition.Label, n int) []shownLabel {
	var shown []shownLabel
	for _, l := range labels {
		shown = append(shown, shownLabel{wording.Visible(wording.Shorten(l.Name, n)), strconv.Quote(wording.Shorten(l.Value, n))})
	}
	return shown
}

// metricsAtOnce is the number of metrics of a file on one page.
const metricsAtOnce = 500

// A content is what one file holds, for display.
type content struct {
	Row      row
	Families []shownFamily
	From, To int    // the metrics that are shown, from 1
	More     string // link to the next of them
	Back     string // link to the list
}

type shownFamily struct {
	Name, Help, Type string
	Metrics          []shownMetric
}

// A shownMetric reads as in the file: its name, its labels and its value. The value
// of a histogram or summary is a sentence.
type shownMetric struct {
	Name   string
	Labels []shownLabel
	Value  string
	When   *moment // if the value is a time
	Unit   string  // of the bounds, buckets or quantiles; empty for other types
	Bound  string  // heading of the bounds
	Bounds []shownBound
}

type shownBound struct{ Bound, Value string }

// newContent decodes a page of the metrics of a file, after the first offset ones.
func newContent(v *merge.View, f *record.File, r row, offset int, now time.Time) *content {
	c := &content{Row: r, Back: "?view=" + viewOf(f)}
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
		name := wording.Visible(fam.Name)
		if k := len(c.Families); k == 0 || c.Families[k-1].Name != name {
			c.Families = append(c.Families, shownFamily{Name: name, Help: wording.Visible(fam.Help), Type: fam.Type.String()})
		}
		last := &c.Families[len(c.Families)-1]
		last.Metrics = append(last.Metrics, newShownMetric(name, fam, m, now))
	}
	return c
}

func newShownMetric(name string, fam exposition.Family, m exposition.Metric, now time.Time) shownMetric {
	x := shownMetric{Name: name, Labels: showLabels(m.Labels, math.MaxInt)}
	switch fam.Type {
	case exposition.Histogram:
		x.Unit, x.Bound = "bucket", "up to"
	case exposition.Summary:
		x.Unit, x.Bound = "quantile", "quantile"
	default:
		x.Value = number(m.Value)
		if strings.HasSuffix(fam.Name, "_time_seconds") || strings.HasSuffix(fam.Name, "_timestamp_seconds") {
			x.When = momentOf(now, jobstate.AtUnix(m.Value))
		}
		return x
	}
	x.Value = number(m.Count) + " observations, sum " + number(m.Sum)
	for _, b := range m.Bounds {
		x.Bounds = append(x.Bounds, shownBound{number(b.Bound), number(b.Value)})
	}
	x.Unit = wording.Count(len(x.Bounds), x.Unit)
	return x
}

// number returns a value, with an exponent only if it is very large or small.
func number(x float64) string {
	if a := math.Abs(x); a == 0 || a >= 1e-4 && a < 1e15 {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

// maxPushPath is the maximum length of a path: proxies have limits for the first
// line of a request.
const maxPushPath = 32 << 10

// pushPath returns the path of a group in the push API, relative to the root of
// the agent, or "" if browsers and proxies might not deliver it unchanged.
// Values that they might change are in base64.
func pushPath(g grouping.Key) string {
	b := []byte("metrics")
	for _, l := range g.Labels() {
		name := l.Name
		if !model.LegacyValidation.IsValidLabelName(name) {
			name = model.EscapeName(name, model.ValueEncodingEscaping)
		}
		if model.UnescapeName(name, model.ValueEncodingEscaping) != l.Name {
			return "" // it looks escaped but is not, or cannot be escaped
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

// plainValue reports whether a value needs no escaping in a path.
func plainValue(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.' && i > 0) {
			return false
		}
	}
	return s != ""
}
