package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
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
	return job.Declare(store, g, time.Now(), j.expect.expectation())
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
		return err
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
