package main

import (
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
}

func addJob(app *kingpin.Application, c *common, commands map[string]func() error) {
	cmd := app.Command("job", "Declare jobs that may never have run, and forget those that will not run again.")
	d := &jobCommand{common: c}
	declare := cmd.Command("declare", `Put the job NAME on record, whether or not it ever ran, with what is expected of it.

Its metrics are there from then on, so that an alert can tell of a job that never runs. If it is on record already, its expectations become those that are given, and what is known of its runs stays.

Example:

  promspool job declare backup --every=24h --grace=1h --max-runtime=2h`)
	declare.Flag("label", "A further label that the job is known by, as NAME=VALUE; repeatable.").PlaceHolder("NAME=VALUE").StringsVar(&d.labels)
	d.expect.add(declare)
	declare.Arg("name", "Name of the job: its label job.").Required().StringVar(&d.name)
	commands[declare.FullCommand()] = d.declare

	f := &jobCommand{common: c}
	forget := cmd.Command("forget", `Remove the job NAME with all its metrics.

A job that is running cannot be forgotten; one that runs again is on record again.

Example:

  promspool job forget backup`)
	forget.Flag("label", "A further label that the job is known by, as NAME=VALUE; repeatable.").PlaceHolder("NAME=VALUE").StringsVar(&f.labels)
	forget.Arg("name", "Name of the job: its label job.").Required().StringVar(&f.name)
	commands[forget.FullCommand()] = f.forget
}

func (j *jobCommand) declare() error {
	g, err := jobGroup(j.name, j.labels)
	if err != nil {
		return &usageError{err}
	}
	store, err := openJob(j.spool, g)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	return denied(j.spool, job.Declare(store, g, time.Now(), j.expect.expectation()), "")
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
		return fmt.Errorf("job %s is running: forget it when it has ended", g)
	default:
		return denied(j.spool, err, "")
	}
}

// expectFlags are the flags for what is expected of a job.
type expectFlags struct {
	every, grace, maxRuntime model.Duration
	given                    [3]bool
}

func (e *expectFlags) add(cmd *kingpin.CmdClause) {
	cmd.Flag("every", "How often the job is expected to start, as 24h or 1d; 0s for no expectation.").IsSetByUser(&e.given[0]).SetValue(&e.every)
	cmd.Flag("grace", "How much later than that a start may be.").IsSetByUser(&e.given[1]).SetValue(&e.grace)
	cmd.Flag("max-runtime", "How long the job may run, for an alert; it is not stopped.").IsSetByUser(&e.given[2]).SetValue(&e.maxRuntime)
}

func (e *expectFlags) expectation() job.Expectation {
	return job.Expectation{Every: time.Duration(e.every), Grace: time.Duration(e.grace), MaxRuntime: time.Duration(e.maxRuntime)}
}

// ifGiven returns nil if none of the flags was given.
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
			return grouping.Key{}, errors.New("the label job is the name of the job and cannot be given as another")
		case !model.LegacyValidation.IsValidLabelName(name):
			return grouping.Key{}, fmt.Errorf("%q is no name of a label", name)
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
// contradict other files, so they need not be read.
func openJob(spool string, g grouping.Key) (*filestore.Store, error) {
	return openSpool(spool, &filestore.Options{Only: []string{g.FileName()}})
}

// jobText says how the job is whose record the group holds, in a few words;
// nothing if there is none.
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

// jobsInterval is how often the agent looks whether runs were lost. That nobody
// holds a lock any more is nothing that the kernel would report.
const jobsInterval = 10 * time.Second

// findLost records lost runs until ctx ends, those from before the agent started
// at once.
func findLost(ctx context.Context, store *filestore.Store, boot string, interval time.Duration, logger *slog.Logger) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last weak.Pointer[merge.View] // a view that is held keeps the text of its time
	var going []grouping.Key          // of the last view, those with runs that go on
	for {
		if v := store.View(); weak.Make(v) != last {
			last, going = weak.Make(v), going[:0]
			for f := range v.Files() {
				if job.Running(f) {
					going = append(going, f.Group())
				}
			}
		}
		for _, g := range going {
			lost, err := job.Look(store, g, time.Now(), boot)
			switch {
			case err != nil && ctx.Err() == nil:
				logger.Error("Cannot record that a run of a job is lost, trying again", "group", g.String(), "err", err)
			case lost > 0:
				logger.Warn("A run of a job is lost: it ended without telling how", "group", g.String(), "runs", lost)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// recordLost has a command look once before it says which jobs are running. That
// it may not write is no fault of its, and for the agent to see.
func recordLost(store *filestore.Store, boot string) {
	for f := range store.View().Files() {
		if job.Running(f) {
			_, _ = job.Look(store, f.Group(), time.Now(), boot)
		}
	}
}
