package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"weak"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest/job"
)

// jobCommand declares and forgets jobs.
type jobCommand struct {
	*common
	labels []string
	name   string
	expect expectFlags
	timer  string // a unit of systemd, or empty
}

func addJob(app *kingpin.Application, c *common, commands map[string]func() error) {
	cmd := app.Command("job", "Declare jobs that may never have run, and forget retired ones.")
	d := &jobCommand{common: c}
	declare := cmd.Command("declare", `Declare the job NAME and its expectations.

Its metrics exist from then on, so an alert can detect a job that never runs. For a known job only the expectations change.

With --from-timer the expectation is that of a systemd timer: --every is the longest time between two starts, and its accuracy and random delay are added to --grace. The name is by default that of the unit that the timer starts. It is read once: declare the job again after a change of the timer.

Examples:

  promspool job declare backup --every=24h --grace=1h --max-runtime=2h

  promspool job declare --from-timer=backup.timer`)
	declare.Flag("from-timer", "Take --every and the name from this systemd timer.").PlaceHolder("UNIT").StringVar(&d.timer)
	declare.Flag("label", "Further label of the job, as NAME=VALUE; repeatable.").PlaceHolder("NAME=VALUE").StringsVar(&d.labels)
	d.expect.add(declare)
	declare.Arg("name", "Name of the job: its label job. Required without --from-timer.").StringVar(&d.name)
	commands[declare.FullCommand()] = d.declare

	f := &jobCommand{common: c}
	forget := cmd.Command("forget", `Delete the job NAME with all its metrics.

A running job cannot be forgotten. The next run records the job again.

Example:

  promspool job forget backup`)
	forget.Flag("label", "Further label of the job, as NAME=VALUE; repeatable.").PlaceHolder("NAME=VALUE").StringsVar(&f.labels)
	forget.Arg("name", "Name of the job: its label job.").Required().StringVar(&f.name)
	commands[forget.FullCommand()] = f.forget
}

func (j *jobCommand) declare() error {
	expect, at := j.expect.expectation(), time.Now()
	var from timer
	switch {
	case j.timer == "" && j.name == "":
		return &usageError{errors.New("give the name of the job, or --from-timer")}
	case j.timer != "" && j.expect.given[0]:
		return &usageError{errors.New("--every and --from-timer exclude each other")}
	case j.timer != "":
		var err error
		if from, err = readTimer(j.timer); err != nil {
			return err
		}
		j.name = cmp.Or(j.name, from.job)
		expect.Every, expect.Grace = from.every, expect.Grace+from.late
		if !from.next.IsZero() {
			// A job that never ran is due at the next start of the timer.
			if start := from.next.Add(-from.every); start.Before(at) {
				at = start
			}
		}
	}
	g, err := jobGroup(j.name, j.labels)
	if err != nil {
		return &usageError{err}
	}
	store, err := openJob(j.spool, g)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	err = denied(j.spool, job.Declare(store, g, at, expect), "")
	if err == nil && j.timer != "" {
		_, err = fmt.Fprintf(j.stdout, "declared %s: every %s, grace %s\n", g, model.Duration(expect.Every), model.Duration(expect.Grace))
	}
	return err
}

func (j *jobCommand) forget() error {
	g, err := jobGroup(j.name, j.labels)
	if err != nil {
		return &usageError{err}
	}
	store, err := openJob(j.spool, g)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	switch err := job.Forget(store, g); {
	case errors.Is(err, job.ErrUnknown):
		return fmt.Errorf("no job %s is on record in %s", g, j.spool)
	case errors.Is(err, job.ErrRunning):
		return fmt.Errorf("job %s is running: forget it after it has ended", g)
	default:
		return denied(j.spool, err, "")
	}
}

// expectFlags are the flags for the expectations of a job.
type expectFlags struct {
	every, grace, maxRuntime duration
	given                    [3]bool
}

func (e *expectFlags) add(cmd *kingpin.CmdClause) {
	cmd.Flag("every", "Expected interval between starts, such as 24h or 1d; 0s for none.").IsSetByUser(&e.given[0]).SetValue(&e.every)
	cmd.Flag("grace", "Tolerated delay of a start.").IsSetByUser(&e.given[1]).SetValue(&e.grace)
	cmd.Flag("max-runtime", "Maximum duration of a run, for an alert; the run is not stopped.").IsSetByUser(&e.given[2]).SetValue(&e.maxRuntime)
}

func (e *expectFlags) expectation() job.Expectation {
	return job.Expectation{Every: time.Duration(e.every), Grace: time.Duration(e.grace), MaxRuntime: time.Duration(e.maxRuntime)}
}

// ifGiven returns the expectations, or nil if no flag was given.
func (e *expectFlags) ifGiven() *job.Expectation {
	if !slices.Contains(e.given[:], true) {
		return nil
	}
	x := e.expectation()
	return &x
}

// jobGroup returns the group of a job.
func jobGroup(name string, more []string) (grouping.Key, error) {
	labels := []exposition.Label{{Name: "job", Value: name}}
	for _, label := range more {
		name, value, ok := strings.Cut(label, "=")
		switch {
		case !ok:
			return grouping.Key{}, fmt.Errorf("--label: %q is not of the form NAME=VALUE", label)
		case value == "":
			return grouping.Key{}, fmt.Errorf("--label: the value of %q is empty: give one, or leave out the flag", name)
		case name == "job":
			return grouping.Key{}, errors.New("the label job is already the name of the job: leave it out of --label")
		case !model.LegacyValidation.IsValidLabelName(name):
			return grouping.Key{}, fmt.Errorf("invalid label name %q", name)
		case strings.HasPrefix(name, model.ReservedLabelPrefix):
			return grouping.Key{}, fmt.Errorf("label name %q begins with two underscores, which is reserved", name)
		}
		labels = append(labels, exposition.Label{Name: name, Value: value})
	}
	g, err := grouping.New(labels...)
	if err == nil {
		err = job.CheckGroup(g)
	}
	return g, err
}

// openJob opens the spool for the group of one job. The record of a job cannot
// conflict with other files, so it reads only that group.
func openJob(spool string, g grouping.Key) (*filestore.Store, error) {
	return openSpool(spool, &filestore.Options{Only: []string{g.FileName()}})
}

// jobText describes the job that the group records in a few words. It is empty for
// other groups.
func jobText(v *merge.View, f *record.File, now time.Time) string {
	s, ok := jobstate.Of(func(metric string) (float64, bool) { return v.Value(f, metric) }, now)
	if !ok {
		return ""
	}
	text := s.String()
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
			text += ","
		}
		about(" %s ago", s.End)
	case jobstate.Succeeded, jobstate.TimedOut, jobstate.Lost:
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

// jobsInterval is how often the agent checks for lost runs. The kernel does not report
// the release of a lock.
const jobsInterval = 10 * time.Second

// findLost records lost runs until ctx ends. Runs from before the start of the agent
// are recorded at once.
func findLost(ctx context.Context, store *filestore.Store, boot string, interval time.Duration, logger *slog.Logger) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last weak.Pointer[merge.View] // weak: a view keeps its text in memory
	var running []grouping.Key        // groups of the last view with a run in progress
	for {
		if v := store.View(); weak.Make(v) != last {
			last, running = weak.Make(v), running[:0]
			for f := range v.Files() {
				if job.Running(f) {
					running = append(running, f.Group())
				}
			}
		}
		for _, g := range running {
			lost, err := job.Look(store, g, time.Now(), boot)
			switch {
			case err != nil && ctx.Err() == nil:
				logger.Error("Cannot record that a job run is lost; retrying", "group", g.String(), "err", err)
			case lost > 0:
				logger.Warn("Job run lost: it ended without reporting an exit status", "group", g.String(), "runs", lost)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// recordLost checks once for lost runs before a command prints the state of jobs. It
// ignores errors: the agent records lost runs as well.
func recordLost(store *filestore.Store, boot string) {
	for f := range store.View().Files() {
		if job.Running(f) {
			_, _ = job.Look(store, f.Group(), time.Now(), boot)
		}
	}
}
