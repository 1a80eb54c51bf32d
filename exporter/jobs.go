package exporter

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// A job is a group with metrics about the runs of a job.
type job struct {
	file  *record.File
	state jobstate.State
	took  float64 // only where it is sorted by

	Name    string       // value of the label job
	Others  []shownLabel // other labels
	State   string       // in words
	Look    string       // class of the state: bad, good, busy or none
	Overdue bool
	Row     row // of the group
	Start   *moment
	Success *moment
	Due     *moment
	Lasted  string    // duration of the last run
	Runs    []outcome // number of runs by their outcome
}

// An outcome is the number of runs of a job that ended in that way.
type outcome struct{ Name, Count string }

// describe fills in the fields that are shown.
func (j *job) describe(v *merge.View, now time.Time) {
	j.Row = newRow(j.file, nil, now, rights{})
	for _, l := range j.file.Group().Labels() {
		if l.Name == "job" {
			j.Name = wording.Visible(wording.Shorten(l.Value, maxLabel))
		} else {
			j.Others = append(j.Others, showLabels([]exposition.Label{l}, maxLabel)...)
		}
	}
	j.State, j.Overdue = j.state.String(), j.state.Overdue
	switch p := j.state.Phase; {
	case p.Bad():
		j.Look = "bad"
	case p == jobstate.Succeeded:
		j.Look = "good"
	case p == jobstate.InProgress:
		j.Look = "busy"
	default:
		j.Look = "none"
	}
	j.Start, j.Success, j.Due = momentOf(now, j.state.Start), momentOf(now, j.state.Success), momentOf(now, j.state.Due)
	if d, ok := v.Value(j.file, jobstate.Duration); ok && d >= 0 && d < 1e9 {
		j.Lasted = lasted(d)
	}
	runs, _ := v.Family(j.file, jobstate.RunsTotal)
	slices.SortStableFunc(runs.Metrics, func(a, b exposition.Metric) int { return cmp.Compare(b.Value, a.Value) })
	for _, m := range runs.Metrics {
		for _, l := range m.Labels {
			if l.Name == "outcome" && m.Value != 0 {
				j.Runs = append(j.Runs, outcome{wording.Visible(wording.Shorten(jobstate.Outcome(l.Value), maxLabel)), number(m.Value)})
			}
		}
	}
}

// lasted returns a duration in seconds for people.
func lasted(seconds float64) string {
	switch {
	case seconds < 1:
		return number(math.Round(seconds*1000)) + " ms"
	case seconds < 120:
		return number(math.Round(seconds*10)/10) + " s"
	}
	return roughly(time.Duration(seconds * 1e9))
}

// attention returns the place of the job in the order by state: first those that
// should run or end now, then those whose last run had no success.
func (j *job) attention() int {
	switch {
	case j.state.Phase == jobstate.TooLong:
		return 0
	case j.state.Overdue:
		return 1
	}
	return 2 + slices.Index([]jobstate.Phase{jobstate.Lost, jobstate.TimedOut, jobstate.Failed, jobstate.InProgress, jobstate.NeverRan, jobstate.Succeeded}, j.state.Phase)
}

// jobOrders compare jobs by a column.
var jobOrders = map[string]func(a, b *job) int{
	"name":    func(*job, *job) int { return 0 }, // the order of the view
	"state":   func(a, b *job) int { return cmp.Or(cmp.Compare(a.attention(), b.attention()), byDue(a, b)) },
	"due":     byDue,
	"start":   func(a, b *job) int { return cmp.Compare(unixNano(a.state.Start), unixNano(b.state.Start)) },
	"success": func(a, b *job) int { return cmp.Compare(unixNano(a.state.Success), unixNano(b.state.Success)) },
	"took":    func(a, b *job) int { return cmp.Compare(a.took, b.took) },
}

// byDue puts jobs that are never due last.
func byDue(a, b *job) int {
	if a.state.Due.IsZero() != b.state.Due.IsZero() {
		return cmp.Compare(unixNano(b.state.Due), unixNano(a.state.Due))
	}
	return a.state.Due.Compare(b.state.Due)
}

type jobsData struct {
	filterForm
	Rows []*job
}

// jobStates returns the states that a request can ask for.
func jobStates() []string {
	list := []string{"", stateFaulty, jobstate.Overdue}
	for _, p := range jobstate.Phases {
		list = append(list, p.String())
	}
	return list
}

// newJobsData lists the jobs that a request asks for.
func newJobsData(v *merge.View, q url.Values, counts map[string]int, now time.Time) *jobsData {
	// Jobs have other states and orders than files.
	files := url.Values{"search": q["search"], "offset": q["offset"]}
	l, wrong := parseListing(files)
	state := q.Get("state")
	if !slices.Contains(jobStates(), state) {
		wrong, state = fmt.Errorf("invalid state %q: use %s", state, strings.Join(jobStates()[1:], ", ")), ""
	}
	order, down := strings.CutPrefix(cmp.Or(q.Get("sort"), "state"), "-")
	if jobOrders[order] == nil {
		wrong = fmt.Errorf("invalid sort %q: use name, state, due, start, success or took, after a dash for the largest first", q.Get("sort"))
		order, down = "state", false
	}
	var jobs []*job
	for f := range v.Files() {
		if f.Group().IsZero() {
			break // groups come first
		}
		if !l.matches(f) {
			continue
		}
		s, ok := jobOf(v, f, now)
		if ok && (state == "" || state == s.Phase.String() || state == jobstate.Overdue && s.Overdue || state == stateFaulty && s.Bad()) {
			j := &job{file: f, state: s}
			if order == "took" {
				j.took, _ = v.Value(f, jobstate.Duration)
			}
			jobs = append(jobs, j)
		}
	}
	if down && order == "name" {
		slices.Reverse(jobs)
	}
	slices.SortStableFunc(jobs, func(a, b *job) int {
		if down {
			a, b = b, a
		}
		return jobOrders[order](a, b)
	})
	if l.offset >= len(jobs) {
		l.offset = max(0, len(jobs)-1) / rowsAtOnce * rowsAtOnce
	}
	shown := jobs[l.offset:min(len(jobs), l.offset+rowsAtOnce)]
	d := &jobsData{Rows: shown}
	d.View, d.Search, d.State, d.Hint = viewJobs, l.search, state, `Search labels, or {job=~"ci_.*"}`
	d.Said, d.Wrong = said("job", len(jobs), l.offset, len(shown)), visible(wrong)
	for _, s := range jobStates() {
		text := strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):]
		switch s {
		case "":
			text = "All"
		case stateFaulty:
			text = "Problems"
		}
		if counts[s] > 0 || s == state || s == "" || s == stateFaulty {
			d.States = append(d.States, choice{s, text + " (" + count(counts[s]) + ")"})
		}
	}
	to := func(sort string, offset int) string {
		return link(viewJobs, "search", l.search, "state", state, "sort", sort, "offset", offsetText(offset))
	}
	d.Pages = newPages(len(jobs), l.offset, func(offset int) string { return to(q.Get("sort"), offset) })
	d.sort([]column{
		{Key: "name", Title: "Job"},
		{Key: "state", Title: "State"},
		{Key: "due", Title: "Next due"},
		{Key: "start", Title: "Last start", downFirst: true},
		{Key: "success", Title: "Last success", downFirst: true},
		{Key: "took", Title: "Took", Number: true, downFirst: true},
	}, "state", order, down, func(sort string) string { return to(sort, 0) })
	for _, j := range shown {
		j.describe(v, now)
	}
	return d
}
