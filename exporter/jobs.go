package exporter

import (
	"cmp"
	"math"
	"net/url"
	"slices"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// A job is a group with metrics about the runs of a job, in words.
type job struct {
	file  *record.File
	state jobState
	due   time.Time // zero if it is not known

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

// A jobState is what can be said of a job at a moment. What wants attention
// comes first.
type jobState int

const (
	jobTooLong jobState = iota
	jobOverdue
	jobLost
	jobFailed
	jobFine
)

// jobMarks are the families of which a job has one at least: the one says that
// it ran, the other that it is to.
var jobMarks = [...]string{"promspool_job_start_timestamp_seconds", "promspool_job_next_due_timestamp_seconds"}

// newJob returns what the group says of a job, or nil if it is none. Only what
// the order needs is found out.
func newJob(v *merge.View, f *record.File, now time.Time) *job {
	started, hasRun := v.Value(f, jobMarks[0])
	due, isDue := v.Value(f, jobMarks[1])
	if !hasRun && !isDue {
		return nil
	}
	value := func(name string) float64 {
		x, _ := v.Value(f, "promspool_job_"+name)
		return x
	}
	j := &job{file: f, due: atUnix(due)}
	ended, status := value("end_timestamp_seconds"), value("exit_code")
	running := value("running") > 0
	longest := value("max_runtime_seconds")
	seconds := float64(now.UnixNano()) / 1e9
	switch {
	case running && longest > 0 && seconds-started > longest:
		j.state, j.State = jobTooLong, "running too long"
	case running:
		j.state, j.State = jobFine, "running"
	case started == 0:
		j.state, j.State = jobFine, "not yet run"
	case status < 0 || ended < started:
		j.state, j.State = jobLost, "lost"
	case status > 0:
		j.state, j.State = jobFailed, "failed, exit status "+number(status)
	case value("success_timestamp_seconds") < ended:
		j.state, j.State = jobFailed, "failed"
	default:
		j.state, j.State = jobFine, "done"
	}
	if j.Bad = j.state != jobFine; !running && due > 0 && seconds > due {
		j.state, j.Overdue = jobOverdue, true
	}
	return j
}

// tell finds out what else is shown of a job.
func (j *job) tell(v *merge.View, now time.Time) {
	at := func(name string) *moment {
		x, _ := v.Value(j.file, "promspool_job_"+name)
		return momentOf(now, atUnix(x))
	}
	j.Start, j.Success, j.Due = at("start_timestamp_seconds"), at("success_timestamp_seconds"), momentOf(now, j.due)
	if d, ok := v.Value(j.file, "promspool_job_duration_seconds"); ok && d >= 0 && d < 1e9 {
		switch {
		case d < 1:
			j.Lasted = number(math.Round(d*1000)) + " ms"
		case d < 120:
			j.Lasted = number(math.Round(d*10)/10) + " s"
		default:
			j.Lasted = roughly(time.Duration(d * 1e9))
		}
	}
	runs, _ := v.Family(j.file, "promspool_job_runs_total")
	slices.SortStableFunc(runs.Metrics, func(a, b exposition.Metric) int { return cmp.Compare(b.Value, a.Value) })
	for _, m := range runs.Metrics {
		for _, l := range m.Labels {
			if l.Name == "outcome" && m.Value != 0 {
				j.Runs = append(j.Runs, outcome{wording.Visible(wording.Shorten(l.Value, maxLabel)), number(m.Value)})
			}
		}
	}
}

// sortJobs puts first what wants attention, then what is due next.
func sortJobs(jobs []*job) {
	slices.SortStableFunc(jobs, func(a, b *job) int {
		if n := cmp.Compare(a.state, b.state); n != 0 {
			return n
		}
		if a.due.IsZero() != b.due.IsZero() {
			return cmp.Compare(unixNano(b.due), unixNano(a.due))
		}
		return a.due.Compare(b.due)
	})
}

func atUnix(seconds float64) time.Time {
	if !(seconds > 0 && seconds < 1<<62/1e9) {
		return time.Time{}
	}
	return time.UnixMicro(int64(seconds * 1e6))
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
