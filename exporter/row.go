package exporter

import (
	"strconv"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
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
		Name:    visible(shorten(record.PrintableName(f.Name()), maxLabel)),
		Labels:  showLabels(f.Group().Labels(), maxLabel),
		Link:    link(viewFile, "name", f.Name()),
		Samples: count(f.Series()),
		Size:    bytesOf(f.Size()),
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
		r.Problems = append(r.Problems, "push refused: "+visible(shorten(refused.Message+" (from "+refused.Client+")", 4*maxLabel)))
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
	r.Problems = append(r.Problems, string(reason)+": "+visible(shorten(text, 4*maxLabel)))
}

// showLabels returns labels in their order, cut at n bytes each.
func showLabels(labels []exposition.Label, n int) []shownLabel {
	var shown []shownLabel
	for _, l := range labels {
		shown = append(shown, shownLabel{visible(shorten(l.Name, n)), strconv.Quote(shorten(l.Value, n))})
	}
	return shown
}
