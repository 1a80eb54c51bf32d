package main

import (
	"fmt"
	"time"

	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// jobText says how the job is whose record the group holds, in a few words;
// nothing if there is none.
func jobText(v *merge.View, f *record.File, now time.Time) string {
	s, ok := jobstate.Of(func(metric string) (float64, bool) { return v.Value(f, metric) }, now)
	if !ok {
		return ""
	}
	text := s.Phase.String()
	about := func(format string, t time.Time) {
		if !t.IsZero() {
			text += fmt.Sprintf(format, brief(now.Sub(t)))
		}
	}
	switch s.Phase {
	case jobstate.InProgress:
		about(" for %s", s.Start)
	case jobstate.TooLong:
		about(", for %s", s.Start)
	case jobstate.Failed:
		if s.ExitCode > 0 {
			text += fmt.Sprintf(" with %.0f", s.ExitCode)
		}
		about(" %s ago", s.End)
	case jobstate.Succeeded, jobstate.Lost:
		about(" %s ago", s.End)
	}
	switch {
	case s.Overdue:
		about(", overdue for %s", s.Due)
	case s.Phase != jobstate.InProgress && s.Phase != jobstate.TooLong && !s.Due.IsZero():
		text += ", due in " + brief(s.Due.Sub(now))
	}
	return text
}
