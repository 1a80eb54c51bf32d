package job

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/record"
)

// The metrics of a record. Their HELP texts must not change: all files of a spool
// must have the same text for a family, and a command writes its file without
// reading the others.
const (
	startTime   = jobstate.StartTime
	endTime     = jobstate.EndTime
	successTime = jobstate.SuccessTime
	duration    = jobstate.Duration
	exitCode    = jobstate.ExitCode
	running     = jobstate.Running
	runsTotal   = jobstate.RunsTotal
	cpu         = "promspool_job_cpu_seconds"
	maxResident = "promspool_job_max_resident_memory_bytes"
	nextDue     = jobstate.NextDue
	maxRuntime  = jobstate.MaxRuntime
)

type metric struct {
	name, typ, help string
	always          bool // there from the start
}

var metrics = []metric{
	{cpu, "gauge", "CPU time of the last run of the job.", false},
	{duration, "gauge", "Duration of the last run of the job.", false},
	{endTime, "gauge", "Unix time of the end of the last run of the job, or of the detection of its loss; 0 before the first.", true},
	{exitCode, "gauge", "Exit code of the last ended run of the job; -1 if it was lost.", false},
	{maxResident, "gauge", "Maximum resident memory of a process of the last run of the job.", false},
	{maxRuntime, "gauge", "Maximum duration of a run of the job.", false},
	{nextDue, "gauge", "Unix time by which the next run of the job must start.", false},
	{running, "gauge", "Number of runs of the job in progress.", true},
	{runsTotal, "counter", "Runs of the job by outcome.", true},
	{startTime, "gauge", "Unix time of the start of the last run of the job; 0 before the first.", true},
	{successTime, "gauge", "Unix time of the end of the last successful run of the job; 0 before the first.", true},
}

// A Record is the record of a job. Times are Unix times in seconds.
type Record struct {
	declared     float64
	every, grace time.Duration
	runs         []Run // running ones, by start

	values map[string]float64  // of the metrics without a label of their own
	counts map[Outcome]float64 // of runsTotal
	usage  map[string]float64  // of cpu, by mode
}

// A Run is a run that is running.
type Run struct {
	ID     string
	Start  float64
	Boot   string
	Locked bool
}

// otherBoot reports whether the run started in another boot of the host.
func (r Run) otherBoot(boot string) bool { return r.Boot != "" && boot != "" && r.Boot != boot }

// Families are the source of a record.
type Families interface {
	Family(name string) (exposition.Family, bool)
	Attributes(key string) []string
}

// Read returns the record of a group, which may be empty.
func Read(held Families) *Record {
	r := &Record{values: map[string]float64{}, counts: map[Outcome]float64{}, usage: map[string]float64{}}
	for _, m := range metrics {
		f, ok := held.Family(m.name)
		if !ok || len(f.Metrics) == 0 {
			continue
		}
		switch m.name {
		case runsTotal:
			for _, s := range f.Metrics {
				r.counts[Outcome(label(s, "outcome"))] = s.Value
			}
		case cpu:
			for _, s := range f.Metrics {
				r.usage[label(s, "mode")] = s.Value
			}
		default:
			r.values[m.name] = f.Metrics[0].Value
		}
	}
	for _, text := range held.Attributes(record.RecordAttribute) {
		a := parseFields(text)
		r.declared, r.every, r.grace = a.number("declared"), a.duration("every"), a.duration("grace")
	}
	r.runs = runsOf(held)
	return r
}

// runsOf returns the running runs.
func runsOf(held interface{ Attributes(key string) []string }) []Run {
	var runs []Run
	for _, text := range held.Attributes(runAttribute) {
		a := parseFields(text)
		runs = append(runs, Run{ID: a["id"], Start: a.number("start"), Boot: a["boot"], Locked: a["locked"] == "1"})
	}
	return runs
}

func label(m exposition.Metric, name string) string {
	for _, l := range m.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// maxRuns is the maximum number of running runs of a job. More than that are
// starts whose ends are never reported.
const maxRuns = 100

// retryWindow is the time in which a client may report a start once more, because it
// has not received the answer.
const retryWindow = time.Minute

// Begin is the transition of [Begin].
func (r *Record) Begin(s Start) {
	at := seconds(s.At)
	r.lose(s.At, func(run Run) bool {
		return run.Locked && slices.Contains(s.Gone, run.ID) || run.otherBoot(s.Boot) ||
			run.ID == s.ID && at-run.Start > retryWindow.Seconds()
	})
	r.runs = slices.DeleteFunc(r.runs, func(run Run) bool { return run.ID == s.ID })
	if over := len(r.runs) - maxRuns + 1; over > 0 {
		oldest := r.runs[over-1].Start
		r.lose(s.At, func(run Run) bool { return run.Start <= oldest })
	}
	r.runs = append(r.runs, Run{s.ID, at, s.Boot, s.Locked})
	r.values[startTime] = at
	r.expect(s.At, s.Expect)
}

// Finish is the transition of [Finish].
func (r *Record) Finish(e End) {
	at, took := seconds(e.At), e.Took.Seconds()
	known := false
	r.runs = slices.DeleteFunc(r.runs, func(run Run) bool {
		if run.ID != e.ID {
			return false
		}
		if known = true; took < 0 {
			took = at - run.Start
		}
		return true
	})
	if start := at - max(took, 0); !known && start > r.values[startTime]+1 {
		r.values[startTime] = start // it was not reported, or the group was deleted meanwhile
	}
	r.values[endTime] = at
	delete(r.values, duration)
	if took >= 0 {
		r.values[duration] = took
	}
	r.values[exitCode] = float64(e.ExitCode)
	delete(r.values, maxResident)
	clear(r.usage)
	if e.Usage != nil {
		r.values[maxResident] = float64(e.Usage.MaxResident)
		r.usage["user"], r.usage["system"] = e.Usage.User.Seconds(), e.Usage.System.Seconds()
	}
	if e.Outcome == Success {
		r.values[successTime] = at
	}
	r.counts[e.Outcome]++
	r.expect(e.At, e.Expect)
}

// Skip is the transition of [Skip].
func (r *Record) Skip(at time.Time) {
	r.counts[Skipped]++
	r.expect(at, nil)
}

// lose removes lost runs from the running ones and returns their number.
func (r *Record) lose(at time.Time, lost func(Run) bool) int {
	before := len(r.runs)
	r.runs = slices.DeleteFunc(r.runs, lost)
	n := before - len(r.runs)
	if n == 0 {
		return 0
	}
	r.counts[Lost] += float64(n)
	r.values[endTime], r.values[exitCode] = seconds(at), UnknownExitCode
	delete(r.values, duration)
	delete(r.values, maxResident)
	clear(r.usage)
	r.expect(at, nil)
	return n
}

// expect sets the expectations of the job, if given, and the deadline of the next start.
// A job that never ran keeps the deadline if the same is declared again, and gets a new
// one if the interval changes.
func (r *Record) expect(at time.Time, e *Expectation) {
	if r.declared == 0 || e != nil && e.Every != r.every && r.values[startTime] == 0 {
		r.declared = seconds(at)
	}
	if e != nil {
		r.every, r.grace = e.Every, e.Grace
		if delete(r.values, maxRuntime); e.MaxRuntime > 0 {
			r.values[maxRuntime] = e.MaxRuntime.Seconds()
		}
	}
	delete(r.values, nextDue)
	if r.every > 0 {
		last := r.values[startTime]
		if last == 0 {
			last = r.declared
		}
		r.values[nextDue] = last + r.every.Seconds() + r.grace.Seconds()
	}
}

// AppendText appends the metrics of the record in the text format.
func (r *Record) AppendText(b []byte) []byte {
	line := func(name, labels string, v float64) {
		b = append(b, name...)
		b = append(b, labels...)
		b = append(b, ' ')
		b = strconv.AppendFloat(b, v, 'g', -1, 64)
		b = append(b, '\n')
	}
	r.values[running] = float64(len(r.runs))
	for _, m := range metrics {
		if !r.has(m) {
			continue
		}
		b = append(b, "# HELP "+m.name+" "+m.help+"\n# TYPE "+m.name+" "+m.typ+"\n"...)
		switch m.name {
		case runsTotal:
			for _, o := range Outcomes {
				line(m.name, `{outcome="`+string(o)+`"}`, r.counts[o])
			}
		case cpu:
			for _, mode := range []string{"system", "user"} {
				line(m.name, `{mode="`+mode+`"}`, r.usage[mode])
			}
		default:
			line(m.name, "", r.values[m.name])
		}
	}
	return b
}

func (r *Record) has(m metric) bool {
	_, ok := r.values[m.name]
	return m.always || ok || m.name == cpu && len(r.usage) > 0
}

// absent returns the names of metrics that the record does not have.
func (r *Record) absent() []string {
	var names []string
	for _, m := range metrics {
		if !r.has(m) {
			names = append(names, m.name)
		}
	}
	return names
}

// runAttribute is the key of the attribute of a running run.
const runAttribute = "run"

func (r *Record) attributes() map[string][]string {
	about := fields{"declared": number(r.declared)}
	if r.every > 0 {
		about["every"] = number(r.every.Seconds())
	}
	if r.grace > 0 {
		about["grace"] = number(r.grace.Seconds())
	}
	runs := make([]string, len(r.runs))
	for i, run := range r.runs {
		a := fields{"id": run.ID, "start": number(run.Start), "boot": run.Boot}
		if run.Locked {
			a["locked"] = "1"
		}
		runs[i] = a.String()
	}
	return map[string][]string{record.RecordAttribute: {about.String()}, runAttribute: runs}
}

// fields are the content of an attribute: words NAME=VALUE without blanks.
type fields map[string]string

func parseFields(text string) fields {
	f := fields{}
	for word := range strings.FieldsSeq(text) {
		if name, value, ok := strings.Cut(word, "="); ok {
			f[name] = value
		}
	}
	return f
}

// String writes the fields that are not empty, in one order.
func (f fields) String() string {
	var words []string
	for _, name := range []string{"declared", "every", "grace", "id", "start", "boot", "locked"} {
		if f[name] != "" {
			words = append(words, name+"="+f[name])
		}
	}
	return strings.Join(words, " ")
}

func (f fields) number(name string) float64 {
	v, err := strconv.ParseFloat(f[name], 64)
	if err != nil || !(v >= 0 && v < 1e18) {
		return 0
	}
	return v
}

func (f fields) duration(name string) time.Duration {
	return time.Duration(min(f.number(name), 1e9) * float64(time.Second))
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }
