// Package jobstate derives the state of a job from the metrics of its record.
//
// # The idea
//
// The record of a job is a few metrics in its group, written by package ingest/job.
// The page, promspool ls and promspool show all use [Of], so they show the same
// state.
//
// # The promise
//
// [Of] is a pure function of the values and the time. It accepts every value,
// because clients may push such metrics themselves.
//
// # Limits
//
// The state is that of the last run. A run that timed out is a failure with its exit
// code; the counts of the record distinguish timeouts.
package jobstate

import "time"

// The metrics of a record. Times are Unix times in seconds.
const (
	StartTime   = "promspool_job_start_timestamp_seconds"    // of the last run; 0 for none
	EndTime     = "promspool_job_end_timestamp_seconds"      // of the last run that ended
	SuccessTime = "promspool_job_success_timestamp_seconds"  // end of the last successful run
	ExitCode    = "promspool_job_exit_code"                  // of the last run that ended; negative if it was lost
	Running     = "promspool_job_running"                    // number of runs in progress
	NextDue     = "promspool_job_next_due_timestamp_seconds" // deadline for the next start
	MaxRuntime  = "promspool_job_max_runtime_seconds"        // maximum duration of a run
	Duration    = "promspool_job_duration_seconds"           // of the last run
	RunsTotal   = "promspool_job_runs_total"                 // by the label outcome
)

// A Phase is the phase of a job between two starts.
type Phase int

// The phases.
const (
	NeverRan Phase = iota
	InProgress
	TooLong // running for longer than the maximum
	Succeeded
	Failed
	Lost // ended without reporting an exit status
)

// String returns the phase in words.
func (p Phase) String() string {
	return [...]string{"never ran", "running", "running too long", "succeeded", "failed", "lost"}[p]
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

// Bad reports whether the job needs attention.
func (s *State) Bad() bool {
	return s.Overdue || s.Phase == TooLong || s.Phase == Failed || s.Phase == Lost
}

// Of returns the state of a job, given the value of each metric in its group, and
// false if the group has no job.
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
