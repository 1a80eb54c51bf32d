// Package jobstate derives the state of a job from the metrics of its record.
//
// # The idea
//
// The record of a job is a handful of metrics in its group, see package
// ingest/job, which writes them. Everything that shows jobs reads the same ones
// through [Of]: the list of jobs on the page, promspool ls and promspool show. The
// words for a state are defined here as well, so a job is never lost in one place
// and failed in another.
//
// # The promise
//
// [Of] is a pure function of the values and the time. It accepts every value,
// including those that no record has: clients may push such metrics themselves.
//
// # Limits
//
// The metrics describe the last run only. A run counts as timed out if its exit code
// is [TimeoutCode], which is also that of a command that was ended by timeout(1).
package jobstate

import (
	"strconv"
	"time"
)

// The metrics of a record. Times are Unix times in seconds.
const (
	StartTime   = "promspool_job_start_timestamp_seconds"    // of the last run; 0 before the first
	EndTime     = "promspool_job_end_timestamp_seconds"      // of the last run that ended
	SuccessTime = "promspool_job_success_timestamp_seconds"  // of the last end with success
	ExitCode    = "promspool_job_exit_code"                  // of the last run that ended; negative if it was lost
	Running     = "promspool_job_running"                    // number of runs
	NextDue     = "promspool_job_next_due_timestamp_seconds" // deadline for the next start
	MaxRuntime  = "promspool_job_max_runtime_seconds"        // longest duration of a run
	Duration    = "promspool_job_duration_seconds"           // of the last run
	RunsTotal   = "promspool_job_runs_total"                 // by the label outcome
)

// TimeoutCode is the exit code of a run that timed out.
const TimeoutCode = 124

// A Phase is where a job is between two starts.
type Phase int

// The phases.
const (
	NeverRan Phase = iota
	InProgress
	TooLong // in progress for longer than MaxRuntime
	Succeeded
	Failed
	TimedOut
	Lost // ended without a report
)

// Phases lists all phases, those that need attention first.
var Phases = []Phase{Failed, TimedOut, Lost, TooLong, InProgress, Succeeded, NeverRan}

// Overdue is the word for a job that should have started by now.
const Overdue = "overdue"

// String returns the phase in words.
func (p Phase) String() string {
	return [...]string{"never ran", "running", "running too long", "succeeded", "failed", "timed out", "lost"}[p]
}

// Bad reports whether a job in the phase needs attention.
func (p Phase) Bad() bool { return p == TooLong || p == Failed || p == TimedOut || p == Lost }

// Outcome returns the word for a value of the label outcome. It is the word for
// the phase after such a run, or the value itself if it is not known.
func Outcome(value string) string {
	switch value {
	case "success":
		return Succeeded.String()
	case "failure":
		return Failed.String()
	case "timeout":
		return TimedOut.String()
	}
	return value
}

// A State is the state of a job at one time. Times are zero if unknown.
type State struct {
	Phase    Phase
	Overdue  bool    // the deadline for the next start has passed, and the job is not running
	ExitCode float64 // of the last run
	Start    time.Time
	End      time.Time
	Success  time.Time
	Due      time.Time
}

// String returns the phase in words, with the exit status of a run that failed.
func (s *State) String() string {
	if s.Phase == Failed && s.ExitCode > 0 {
		return s.Phase.String() + ", exit status " + strconv.FormatFloat(s.ExitCode, 'f', -1, 64)
	}
	return s.Phase.String()
}

// Bad reports whether the job needs attention.
func (s *State) Bad() bool { return s.Overdue || s.Phase.Bad() }

// Of returns the state of a job, given the value of each metric in its group. It
// reports false if the group has no metrics of a job.
func Of(value func(metric string) (v float64, ok bool), now time.Time) (State, bool) {
	started, isStarted := value(StartTime)
	due, isDue := value(NextDue)
	running, isRunning := value(Running)
	if !isStarted && !isDue && !isRunning {
		return State{}, false
	}
	of := func(metric string) float64 {
		v, _ := value(metric)
		return v
	}
	ended, success, longest := of(EndTime), of(SuccessTime), of(MaxRuntime)
	s := State{ExitCode: of(ExitCode), Start: AtUnix(started), End: AtUnix(ended), Success: AtUnix(success), Due: AtUnix(due)}
	seconds := float64(now.UnixNano()) / 1e9
	switch {
	case running > 0 && longest > 0 && seconds-started > longest:
		s.Phase = TooLong
	case running > 0:
		s.Phase = InProgress
	case started == 0 && ended == 0:
		s.Phase = NeverRan
	case s.ExitCode < 0 || ended < started:
		s.Phase = Lost
	case s.ExitCode == TimeoutCode:
		s.Phase = TimedOut
	case s.ExitCode > 0 || success < ended: // a job may report a failure without an exit code
		s.Phase = Failed
	default:
		s.Phase = Succeeded
	}
	s.Overdue = !(running > 0) && due > 0 && seconds > due
	return s, true
}

// AtUnix returns the time of a Unix time in seconds. It is the zero time if that is
// not after 1970 or out of range.
func AtUnix(seconds float64) time.Time {
	if !(seconds > 0 && seconds < 1<<62/1e9) {
		return time.Time{}
	}
	return time.UnixMicro(int64(seconds * 1e6))
}
