// Package job converts job runs to metrics: declarations, starts, ends, skipped and
// lost runs.
//
// # The record
//
// A job is a group of the spool. Its record consists of the families of that group
// with names that begin with promspool_job_. Each start and end of a run updates
// them from their previous values, so counts survive restarts and reboots. A
// command without an agent and an agent that gets pings write the same record.
// Other metrics of the group stay.
//
// Attributes of the group's file have the rest of the record:
//
//	# promspool:job declared=1790000000 every=86400 grace=3600
//	# promspool:run id=5f0c… start=1790000000 boot=0d5c… locked=1
//
// The first marks the record as written by promspool and has the expectations of the
// job. There is one of the second for each running run. They are part of the file,
// so one rename changes metrics and attributes together.
//
// # Lost runs
//
// A run holds the lock of the group (see filestore.Lock), and its command inherits
// the lock. If a run is recorded as running and the lock is free, the run is lost:
// command and recorder were killed. A run that was only reported holds no lock. It
// is lost if the host has booted since. A run is never reported as lost while it
// may be running.
package job

import (
	"errors"
	"fmt"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// An Outcome is the result of a run. The values are those of the label outcome.
type Outcome string

// The outcomes.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Timeout Outcome = "timeout" // it took too long and was stopped
	Lost    Outcome = "lost"    // it ended without reporting an exit status
	Skipped Outcome = "skipped" // it did not start, because another run was running
)

// Outcomes lists every Outcome. A record has a count of each.
var Outcomes = []Outcome{Success, Failure, Timeout, Lost, Skipped}

// UnknownExitCode stands for the exit code of a run that is lost.
const UnknownExitCode = -1

// An Expectation has the expected times of a job. Zero durations expect nothing.
type Expectation struct {
	Every      time.Duration // from the start of one run to the start of the next
	Grace      time.Duration // how late a start may be
	MaxRuntime time.Duration
}

// A Start is the start of a run.
type Start struct {
	ID     string // of the run; a start with the ID of a running run replaces it
	At     time.Time
	Boot   string   // identifies the boot of the host; empty if the run may be on another host
	Locked bool     // it holds the lock of the group, see Lock
	Gone   []string // IDs of earlier runs that no longer hold it
	Expect *Expectation
}

// An End is the end of a run.
type End struct {
	ID       string
	At       time.Time
	Took     time.Duration // from the start; if negative it is taken from the record
	Outcome  Outcome       // Success, Failure or Timeout
	ExitCode int
	Usage    *Usage // nil if not known
	Expect   *Expectation
	Own      []byte // the job's own metrics, checked with CheckOwn
}

// Usage is the resource usage of a run and of the processes that it waited for.
type Usage struct {
	User, System time.Duration
	MaxResident  int64 // bytes
}

// Lock takes the lock of a job for a run, as filestore.Lock does, and returns
// the IDs of runs that are recorded as running under the lock, and are not.
func Lock(s *filestore.Store, g grouping.Key, share bool) (l *filestore.Lock, gone []string, err error) {
	l, err = s.Lock(g, share, func() {
		gone, _ = locked(s, g) // or the next Look finds them
	})
	return l, gone, err
}

// Release releases the lock. If clean is set, it deletes the file of the lock unless
// the record has another run that holds it: a free lock shows that a run is lost.
func Release(s *filestore.Store, g grouping.Key, l *filestore.Lock, clean bool) {
	if clean {
		l.Release(func() bool { return unlocked(s, g) })
	} else {
		l.Release(nil)
	}
}

// locked returns the IDs of the runs that are recorded as running under the lock.
func locked(s *filestore.Store, g grouping.Key) (ids []string, err error) {
	if _, err := s.Reload(g.FileName()); err != nil {
		return nil, err
	}
	if f := s.View().File(g.FileName()); f != nil {
		for _, run := range runsOf(f) {
			if run.Locked {
				ids = append(ids, run.ID)
			}
		}
	}
	return ids, nil
}

// unlocked reports whether the record has no running run under the lock.
func unlocked(s *filestore.Store, g grouping.Key) bool {
	ids, err := locked(s, g)
	return err == nil && len(ids) == 0
}

// Begin records the start of a run. Earlier runs that are certainly not running any
// more are recorded as lost.
func Begin(s *filestore.Store, g grouping.Key, start Start) error {
	return amend(s, g, nil, func(r *Record) bool { r.Begin(start); return true })
}

// Finish records the end of a run, also of one without a recorded start.
func Finish(s *filestore.Store, g grouping.Key, end End) error {
	return amend(s, g, end.Own, func(r *Record) bool { r.Finish(end); return true })
}

// Skip records that a run did not start because another was running.
func Skip(s *filestore.Store, g grouping.Key, at time.Time) error {
	return amend(s, g, nil, func(r *Record) bool { r.Skip(at); return true })
}

// Declare records the expectations of a job, even if it never ran. The record of its
// runs stays.
func Declare(s *filestore.Store, g grouping.Key, at time.Time, expect Expectation) error {
	return amend(s, g, nil, func(r *Record) bool { r.expect(at, &expect); return true })
}

// ErrUnknown is returned by Forget for a job without a record.
var ErrUnknown = errors.New("no such job is on record")

// ErrRunning is returned by Forget for a job that is running.
var ErrRunning = errors.New("the job is running")

// Forget deletes a job's group, including metrics that are not part of the record.
func Forget(s *filestore.Store, g grouping.Key) error {
	f := s.View().File(g.FileName())
	if f == nil || f.Group() != g || f.Attributes(record.RecordAttribute) == nil {
		return ErrUnknown
	}
	if locked, _ := s.Locked(g); locked {
		return ErrRunning
	}
	if err := s.Delete(g); err != nil {
		return err
	}
	s.Unlock(g, func() bool { return unlocked(s, g) })
	return nil
}

// Look records lost runs of the job and returns their number. Boot identifies this
// boot of the host; it is empty if unknown.
func Look(s *filestore.Store, g grouping.Key, at time.Time, boot string) (lost int, err error) {
	err = amend(s, g, nil, func(r *Record) bool {
		locked, known := s.Locked(g)
		lost = r.lose(at, func(run Run) bool {
			if run.Locked && known {
				return !locked
			}
			return run.otherBoot(boot)
		})
		return lost > 0
	})
	if err != nil {
		return 0, err
	}
	if lost > 0 {
		s.Unlock(g, func() bool { return unlocked(s, g) })
	}
	return lost, nil
}

// Running reports whether a file has a record of a running run, so that Look may
// find a lost one.
func Running(f *record.File) bool {
	return !f.Group().IsZero() && f.Attributes(runAttribute) != nil
}

// amend applies a transition to the record of a group. The transition reports
// whether it has changed anything.
func amend(s *filestore.Store, g grouping.Key, own []byte, transition func(*Record) bool) error {
	return s.Amend(g, func(held *record.Held) (*record.Edit, error) {
		r := Read(held)
		if !transition(r) {
			return nil, nil
		}
		put, err := exposition.Parse(r.AppendText(own[:len(own):len(own)]), exposition.Limits{}, true)
		if err != nil {
			return nil, err
		}
		return &record.Edit{Put: put, Remove: r.absent(), Attributes: r.attributes()}, nil
	})
}

// CheckGroup returns an error if a group cannot be that of a job, because its labels
// would replace labels of the record's series.
func CheckGroup(g grouping.Key) error {
	for _, name := range [...]string{"mode", "outcome"} {
		if g.Label(name) != "" {
			return fmt.Errorf("a job cannot have the label %s, which metrics about jobs have themselves", name)
		}
	}
	return nil
}

// CheckOwn checks metrics that a job has written. They must be valid as a push, and
// must not have the names of the record.
func CheckOwn(own []byte) error {
	f, err := exposition.Parse(own, exposition.Limits{}, false)
	if err != nil {
		return err
	}
	for _, m := range metrics {
		if f.Has(m.name) {
			return &exposition.SyntaxError{Reason: exposition.Reserved, Msg: "family " + m.name + " is what promspool records of the run"}
		}
	}
	return nil
}
