// Package job says what the runs of a job come to in metrics: that it is
// declared, that a run starts, ends, is skipped or lost.
//
// # The record
//
// A job is a group of the spool, and its record are the families of that group
// whose names begin with promspool_job_. They are written before a run starts and
// after it has ended, each time from what they were before, so counts go on over
// runs, restarts and reboots, and it does not matter who writes: a command with no
// agent running, or an agent that is pinged. Whatever else the group holds stays.
//
// Two things cannot be told from the metrics and stand in attributes of the
// group's file:
//
//	# promspool:job declared=1790000000 every=86400 grace=3600
//	# promspool:run id=5f0c… start=1790000000 boot=0d5c… locked=1
//
// The first says that the record is promspool's own, and what is expected of the
// job. There is one of the second for each run that goes on. They are in the
// file, and not beside it, so that the same rename that changes the metrics
// changes them, and that they go where the file goes.
//
// # Lost runs
//
// Whoever runs a job holds the lock of the group (see filestore.Lock), and the
// job inherits it. A run that is recorded as going on although nobody holds the
// lock is lost: it was killed together with whoever should have told its end. A
// run that holds no lock, since it is only reported, is lost if the host has
// booted since. A run is never called lost while it may go on.
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

// An Outcome is how a run ended. The values are those of the label outcome.
type Outcome string

// The outcomes.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Timeout Outcome = "timeout" // it took too long and was stopped
	Lost    Outcome = "lost"    // nobody knows how it ended
	Skipped Outcome = "skipped" // it did not start, because another run went on
)

// Outcomes lists every Outcome. A record has a count of each.
var Outcomes = []Outcome{Success, Failure, Timeout, Lost, Skipped}

// UnknownExitCode stands for the exit code of a run that is lost.
const UnknownExitCode = -1

// An Expectation is what is expected of a job. Zero durations expect nothing.
type Expectation struct {
	Every      time.Duration // from the start of one run to the start of the next
	Grace      time.Duration // how much later than that a start may be
	MaxRuntime time.Duration
}

// A Start is the start of a run.
type Start struct {
	ID     string // of the run; what starts under the ID of a run that goes on takes its place
	At     time.Time
	Boot   string   // which boot of the host it belongs to; empty if it is not known to be on this host
	Locked bool     // it holds the lock of the group, see Lock
	Gone   []string // IDs of earlier runs that held it and do not any more
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

// Usage is what a run took of the host, it and the processes that it waited for.
type Usage struct {
	User, System time.Duration
	MaxResident  int64 // bytes
}

// Lock takes the lock of a job for a run, as filestore.Lock does, and returns
// the IDs of runs that the record has as going on under the lock, and that do not.
func Lock(s *filestore.Store, g grouping.Key, share bool) (l *filestore.Lock, gone []string, err error) {
	l, err = s.Lock(g, share, func() {
		gone, _ = locked(s, g) // or it is for the next look
	})
	return l, gone, err
}

// Release ends what Lock began. If clean is set the file of the lock is removed
// when the record has no other run that holds it: by a lock that nobody has it
// shows that such a run is lost.
func Release(s *filestore.Store, g grouping.Key, l *filestore.Lock, clean bool) {
	if clean {
		l.Release(func() bool { return unlocked(s, g) })
	} else {
		l.Release(nil)
	}
}

// locked returns the IDs of the runs that the record has as going on under the
// lock.
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

// unlocked reports whether the record has no run that goes on under the lock.
func unlocked(s *filestore.Store, g grouping.Key) bool {
	ids, err := locked(s, g)
	return err == nil && len(ids) == 0
}

// Begin records that a run has started, and that those which went on before are
// lost if that is certain.
func Begin(s *filestore.Store, g grouping.Key, start Start) error {
	return amend(s, g, nil, func(r *Record) bool { r.Begin(start); return true })
}

// Finish records that a run has ended. A run of whose start the record knows
// nothing counts as well.
func Finish(s *filestore.Store, g grouping.Key, end End) error {
	return amend(s, g, end.Own, func(r *Record) bool { r.Finish(end); return true })
}

// Skip records that a run did not start because another went on.
func Skip(s *filestore.Store, g grouping.Key, at time.Time) error {
	return amend(s, g, nil, func(r *Record) bool { r.Skip(at); return true })
}

// Declare records what is expected of a job, whether or not it ever ran. What
// the record knows of its runs stays.
func Declare(s *filestore.Store, g grouping.Key, at time.Time, expect Expectation) error {
	return amend(s, g, nil, func(r *Record) bool { r.expect(at, &expect); return true })
}

// ErrUnknown is what Forget returns if there is no record of the job.
var ErrUnknown = errors.New("no such job is on record")

// ErrRunning is what Forget returns for a job that is running.
var ErrRunning = errors.New("the job is running")

// Forget removes a job's group, with the metrics that are not of its record.
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

// Look records which runs of the job are lost and returns how many. Boot is the
// boot of the host that this is, or empty if that is not known.
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

// Running reports whether the record in a file says that a run goes on: then it
// is worth a Look.
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

// CheckGroup returns why a group cannot be that of a job: labels of its metrics
// would take the place of those that tell the record's series apart.
func CheckGroup(g grouping.Key) error {
	for _, name := range [...]string{"mode", "outcome"} {
		if g.Label(name) != "" {
			return fmt.Errorf("a job cannot have the label %s, which metrics about jobs have themselves", name)
		}
	}
	return nil
}

// CheckOwn returns what is wrong with the metrics that a job has written: they
// are held to what is asked of a push, and must not be those of the record.
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
