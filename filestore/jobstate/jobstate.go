// Package jobstate says how a job is, from the metrics of its record.
//
// # The idea
//
// The record of a job is a handful of metrics in its group, see package
// ingest/job, which writes them. Everything that shows jobs reads the same ones
// through [Of]: the list of jobs on the page, promspool ls and promspool show. So
// a job is never lost in the one and failed in the other.
//
// # The promise
//
// [Of] is a pure function of the values and the moment. It accepts every value,
// those that no record would have as well: clients may push such metrics
// themselves.
//
// # Limits
//
// The metrics tell about the last run alone. That a run timed out shows in the
// counts of the record, and here as a failure with the exit code that it got.
package jobstate

import "time"

// The metrics of a record that a state is made of. Times are Unix times in
// seconds.
const (
	StartTime   = "promspool_job_start_timestamp_seconds"    // of the last run; 0 if none has
	EndTime     = "promspool_job_end_timestamp_seconds"      // of the last run that ended
	SuccessTime = "promspool_job_success_timestamp_seconds"  // at which a run last ended with success
	ExitCode    = "promspool_job_exit_code"                  // of the last run that ended; negative if it was lost
	Running     = "promspool_job_running"                    // number of runs
	NextDue     = "promspool_job_next_due_timestamp_seconds" // by which the next run has to have started
	MaxRuntime  = "promspool_job_max_runtime_seconds"        // that a run may take
	Duration    = "promspool_job_duration_seconds"           // of the last run
	RunsTotal   = "promspool_job_runs_total"                 // by the label outcome
)

// A Phase is where a job is between two starts.
type Phase int

// The phases.
const (
	NeverRan Phase = iota
	InProgress
	TooLong // in progress for longer than it may be
	Succeeded
	Failed
	Lost // ended without telling how
)

// String returns the phase in words.
func (p Phase) String() string {
	return [...]string{"never ran", "running", "running too long", "succeeded", "failed", "lost"}[p]
}

// A State is how a job is at a moment. Times are zero if they are not known.
type State struct {
	Phase    Phase
	Overdue  bool    // it should have started by now, and is not running
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

// Of returns the state of a job, given the value of each metric in its group. It
// reports false if the group is not one of a job.
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

// AtUnix returns the moment of a Unix time in seconds, the zero time if that is
// not after 1970 or beyond all that can be said.
func AtUnix(seconds float64) time.Time {
	if !(seconds > 0 && seconds < 1<<62/1e9) {
		return time.Time{}
	}
	return time.UnixMicro(int64(seconds * 1e6))
}
