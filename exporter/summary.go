package exporter

import (
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// States of files and jobs that a request can ask for. Those of files are the
// words of promspool ls, and those of jobs are the words of package jobstate.
const (
	stateFaulty  = "faulty"  // any state below except expired
	stateBroken  = "broken"  // nothing of the file is served
	statePartial = "partial" // not all of the file, or not its newest content, is served
	stateRefused = "refused" // the last push to the group was refused
	stateExpired = "expired"
)

var fileStates = []string{stateFaulty, stateBroken, statePartial, stateRefused, stateExpired}

// fileState is the set of states of a file. An expired file has no other state.
type fileState struct{ broken, partial, refused, expired bool }

func stateOf(f *record.File, conflicts map[string][]*record.Conflict) (s fileState) {
	if !f.Expired().IsZero() {
		s.expired = true
		return s
	}
	s.broken = f.Err() != nil
	s.partial = !s.broken && (f.Problem() != nil || !f.HeldSince().IsZero() || len(conflicts) > 0 && len(conflicts[f.Name()]) > 0)
	s.refused = isRefused(f)
	return s
}

func (s fileState) faulty() bool { return s.broken || s.partial || s.refused }

// has reports whether the state is the one that is asked for; "" is any.
func (s fileState) has(state string) bool {
	switch state {
	case stateFaulty:
		return s.faulty()
	case stateBroken:
		return s.broken
	case statePartial:
		return s.partial
	case stateRefused:
		return s.refused
	case stateExpired:
		return s.expired
	}
	return true
}

// isRefused reports whether the last push to the group was refused.
func isRefused(f *record.File) bool {
	_, refused := f.Refused()
	return refused || !pushed(f)
}

// fileCounts counts groups, or dropped files, by their states.
type fileCounts struct{ total, faulty, broken, partial, refused, expired int }

func (c *fileCounts) add(s fileState) {
	c.total++
	if s == (fileState{}) {
		return
	}
	count := func(n *int, is bool) {
		if is {
			*n++
		}
	}
	count(&c.faulty, s.faulty())
	count(&c.broken, s.broken)
	count(&c.partial, s.partial)
	count(&c.refused, s.refused)
	count(&c.expired, s.expired)
}

// of returns the number of files in a state.
func (c *fileCounts) of(state string) int {
	return map[string]int{"": c.total, stateFaulty: c.faulty, stateBroken: c.broken, statePartial: c.partial, stateRefused: c.refused, stateExpired: c.expired}[state]
}

// A summary counts the files and jobs of a view by their states. It is on every page,
// so that a problem is seen from any of them.
type summary struct {
	groups, files fileCounts
	jobs          map[string]int // by state; all of them at ""
	directories   int            // that cannot be read
}

// summaryAge bounds the age of a summary, since jobs become overdue without a change.
const summaryAge = time.Second

// summaries keeps the last summary: it costs a look at each file and job.
type summaries struct {
	mu   sync.Mutex // guards all below
	view weak.Pointer[merge.View]
	at   time.Time
	last *summary
}

// get returns the summary of the view, at most summaryAge old.
func (s *summaries) get(v *merge.View, conflicts map[string][]*record.Conflict, now time.Time) *summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := weak.Make(v)
	if age := now.Sub(s.at); s.last == nil || s.view != p || age < 0 || age >= summaryAge {
		s.view, s.at, s.last = p, now, summarize(v, conflicts, now)
	}
	return s.last
}

func summarize(v *merge.View, conflicts map[string][]*record.Conflict, now time.Time) *summary {
	s := &summary{jobs: map[string]int{}, directories: len(v.DirectoryErrors())}
	var phases [jobstate.Lost + 1]int
	var all, bad, overdue int
	for f := range v.Files() {
		state := stateOf(f, conflicts)
		if f.Group().IsZero() {
			s.files.add(state)
			continue
		}
		s.groups.add(state)
		job, ok := jobOf(v, f, now)
		if !ok {
			continue
		}
		all++
		phases[job.Phase]++
		if job.Bad() {
			bad++
		}
		if job.Overdue {
			overdue++
		}
	}
	for p, n := range phases {
		s.jobs[jobstate.Phase(p).String()] = n
	}
	s.jobs[""], s.jobs[stateFaulty], s.jobs[jobstate.Overdue] = all, bad, overdue
	return s
}

// jobOf returns the state of the job whose metrics the group has, if it has any.
func jobOf(v *merge.View, f *record.File, now time.Time) (jobstate.State, bool) {
	if f.Group().IsZero() {
		return jobstate.State{}, false
	}
	return jobstate.Of(func(metric string) (float64, bool) { return v.Value(f, metric) }, now)
}

// A finding is one thing that needs attention, with a link to the list of where.
type finding struct {
	Text, Link string
	Mild       bool // not an error
}

// findings lists what needs attention, errors first. others is the number of other
// agents of the spool.
func (s *summary) findings(others int) []finding {
	list := found(nil, others, "other agent", "on this spool", viewStatus, "")
	list = found(list, s.directories, "directory", "not served", viewStatus, "")
	list = slices.Concat(list, s.groupFindings(), s.fileFindings(), s.jobFindings())
	slices.SortStableFunc(list, func(a, b finding) int {
		switch {
		case a.Mild == b.Mild:
			return 0
		case b.Mild:
			return -1
		}
		return 1
	})
	return list
}

// found appends a finding with the number n, unless that is zero.
func found(list []finding, n int, noun, rest, view, state string) []finding {
	if n == 0 {
		return list
	}
	return append(list, finding{countOf(n, noun) + " " + rest, link(view, "state", state), state == stateExpired})
}

func (s *summary) groupFindings() (list []finding) {
	list = found(list, s.groups.broken, "group", "not served", viewGroups, stateBroken)
	list = found(list, s.groups.partial, "group", "partly served", viewGroups, statePartial)
	list = found(list, s.groups.refused, "push", "refused", viewGroups, stateRefused)
	return found(list, s.groups.expired, "group", "expired", viewGroups, stateExpired)
}

func (s *summary) fileFindings() (list []finding) {
	list = found(list, s.files.broken, "file", "not served", viewFiles, stateBroken)
	list = found(list, s.files.partial, "file", "partly served", viewFiles, statePartial)
	return found(list, s.files.expired, "file", "expired", viewFiles, stateExpired)
}

func (s *summary) jobFindings() (list []finding) {
	for _, p := range jobstate.Phases {
		if p.Bad() {
			list = found(list, s.jobs[p.String()], "job", p.String(), viewJobs, p.String())
		}
	}
	return found(list, s.jobs[jobstate.Overdue], "job", jobstate.Overdue, viewJobs, jobstate.Overdue)
}

// countOf returns a number with its noun.
func countOf(n int, noun string) string {
	switch {
	case n == 1:
	case noun == "directory":
		noun = "directories"
	case noun == "push":
		noun = "pushes"
	default:
		noun += "s"
	}
	return count(n) + " " + noun
}

// tabs returns the links to the views, with the number of what needs attention there.
func (s *summary) tabs(current string, unhealthy bool, others int) []tab {
	status := min(others, 1)
	if unhealthy {
		status++
	}
	list := []tab{
		{Title: "Groups", Link: viewGroups, Count: count(s.groups.total), Bad: s.groups.faulty, Mild: s.groups.expired},
		{Title: "Files", Link: viewFiles, Count: count(s.files.total), Bad: s.files.faulty, Mild: s.files.expired},
		{Title: "Jobs", Link: viewJobs, Count: count(s.jobs[""]), Bad: s.jobs[stateFaulty]},
		{Title: "Status", Link: viewStatus, Bad: s.directories + status},
	}
	for i := range list {
		t := &list[i]
		view := t.Link
		t.Current, t.Link = view == current, link(view)
		switch {
		case t.Bad > 0 && view == viewStatus:
			t.BadgeText, t.BadgeLink, t.BadgeTitle = count(t.Bad), t.Link, countOf(t.Bad, "problem")
		case t.Bad > 0:
			t.BadgeText, t.BadgeLink, t.BadgeTitle = count(t.Bad), link(view, "state", stateFaulty), t.Title+" with problems"
		case t.Mild > 0:
			t.BadgeText, t.BadgeLink, t.BadgeTitle = count(t.Mild), link(view, "state", stateExpired), "expired "+t.Title
		}
	}
	return list
}

// A tab links to a view. Its badge links to what needs attention there.
type tab struct {
	Title, Link, Count               string
	Current                          bool
	Bad, Mild                        int // number of errors, and of expired groups or files
	BadgeText, BadgeLink, BadgeTitle string
}

// visible returns the text of an error for the page.
func visible(err error) string {
	if err == nil {
		return ""
	}
	return wording.Visible(err.Error())
}
