package exporter

import (
	"cmp"
	"math"
	"net/url"
	"slices"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// A job is a group with metrics about the runs of a job, in words.
type job struct {
	file  *record.File
	state jobstate.State

	State   string // the state in words
	Bad     bool   // that is not as it should be
	Overdue bool   // it should have started by now
	Row     row    // of its group
	Start   *moment
	Success *moment
	Due     *moment
	Lasted  string    // how long the last run took
	Runs    []outcome // how many runs ended how
}

// An outcome is how many runs of a job ended in that way.
type outcome struct{ Name, Count string }

// newJob returns what the group says of a job, or nil if it is none. Only what
// the order needs is found out.
func newJob(v *merge.View, f *record.File, now time.Time) *job {
	state, ok := jobstate.Of(func(metric string) (float64, bool) { return v.Value(f, metric) }, now)
	if !ok {
		return nil
	}
	return &job{file: f, state: state, Bad: state.Bad(), Overdue: state.Overdue}
}

// tell finds out what else is shown of a job.
func (j *job) tell(v *merge.View, now time.Time) {
	j.State = j.state.Phase.String()
	if j.state.Phase == jobstate.Failed && j.state.ExitCode > 0 {
		j.State += ", exit status " + number(j.state.ExitCode)
	}
	j.Start, j.Success, j.Due = momentOf(now, j.state.Start), momentOf(now, j.state.Success), momentOf(now, j.state.Due)
	if d, ok := v.Value(j.file, jobstate.Duration); ok && d >= 0 && d < 1e9 {
		switch {
		case d < 1:
			j.Lasted = number(math.Round(d*1000)) + " ms"
		case d < 120:
			j.Lasted = number(math.Round(d*10)/10) + " s"
		default:
			j.Lasted = roughly(time.Duration(d * 1e9))
		}
	}
	runs, _ := v.Family(j.file, jobstate.RunsTotal)
	slices.SortStableFunc(runs.Metrics, func(a, b exposition.Metric) int { return cmp.Compare(b.Value, a.Value) })
	for _, m := range runs.Metrics {
		for _, l := range m.Labels {
			if l.Name == "outcome" && m.Value != 0 {
				j.Runs = append(j.Runs, outcome{wording.Visible(wording.Shorten(l.Value, maxLabel)), number(m.Value)})
			}
		}
	}
}

// attention returns the place of the job in the order: first what is wrong now,
// then what was wrong with the last run.
func (j *job) attention() int {
	switch {
	case j.state.Phase == jobstate.TooLong:
		return 0
	case j.state.Overdue:
		return 1
	case j.state.Phase == jobstate.Lost:
		return 2
	case j.state.Phase == jobstate.Failed:
		return 3
	}
	return 4
}

// sortJobs puts first what needs attention, then what is due next.
func sortJobs(jobs []*job) {
	slices.SortStableFunc(jobs, func(a, b *job) int {
		if n := cmp.Compare(a.attention(), b.attention()); n != 0 {
			return n
		}
		if a.state.Due.IsZero() != b.state.Due.IsZero() {
			return cmp.Compare(unixNano(b.state.Due), unixNano(a.state.Due))
		}
		return a.state.Due.Compare(b.state.Due)
	})
}

type jobsData struct {
	Search string
	Wrong  string
	Said   string
	Rows   []*job
	Pages  pages
}

func newJobsData(v *merge.View, q url.Values, now time.Time) *jobsData {
	l, wrong := parseListing(q)
	var jobs []*job
	for f := range v.Files() {
		if f.Group().IsZero() {
			break // groups come first
		}
		if l.matches(f) {
			if j := newJob(v, f, now); j != nil {
				jobs = append(jobs, j)
			}
		}
	}
	sortJobs(jobs)
	if l.offset >= len(jobs) {
		l.offset = max(0, len(jobs)-1) / rowsAtOnce * rowsAtOnce
	}
	shown := jobs[l.offset:min(len(jobs), l.offset+rowsAtOnce)]
	d := &jobsData{Search: l.search, Rows: shown, Said: said("job", len(jobs), l.offset, len(shown))}
	if wrong != nil {
		d.Wrong = wording.Visible(wrong.Error())
	}
	d.Pages = newPages(len(jobs), l.offset, func(offset int) string {
		return link(viewJobs, "search", l.search, "offset", offsetText(offset))
	})
	for _, j := range shown {
		j.Row = newRow(j.file, nil, now, false)
		j.tell(v, now)
	}
	return d
}
