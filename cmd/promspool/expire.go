package main

import (
	"context"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

// expire does what the agent does with files whose lifetime has ended.
type expire struct {
	*common
	lifetimes
	dryRun bool
}

func addExpire(app *kingpin.Application, c *common, commands map[string]func() error) {
	e := &expire{common: c}
	cmd := app.Command("expire", `Withhold, move and remove what is due by the lifetimes in the spool.

An agent does this by itself; it does not matter whether one is running. If the agent has --spool.ttl or the other flags below, give them here as well. The clock is taken at its word.

With --dry-run nothing is done, and what is to come is listed, with the time of each step.

Examples:

  promspool expire --dry-run

  promspool expire --dry-run --spool.ttl='{job=~"ci_.+"}=7d' --spool.retention=30d`)
	cmd.Flag("dry-run", "Do nothing but list what is due and what is to come.").BoolVar(&e.dryRun)
	e.lifetimes.addFlags(cmd)
	commands[cmd.FullCommand()] = e.run
}

func (e *expire) run() error {
	lifetimes, err := e.parse()
	if err != nil {
		return err
	}
	store, err := e.open(&filestore.Options{Lifetimes: lifetimes})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	if _, err := settle(store); err != nil {
		return err
	}
	if e.dryRun {
		return e.plan(store, lifetimes)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return store.Expire(ctx, func(a filestore.Aged) {
		if a.Err == nil {
			fmt.Fprintf(e.stdout, "%s %s\n", a.Step, oneLine(a.File))
		}
	})
}

// plan lists what is to come.
func (e *expire) plan(store *filestore.Store, l record.Lifetimes) error {
	steps := store.Ageing()
	archive, err := store.Archive()
	if err != nil {
		return err
	}
	for _, a := range archive {
		if l.ArchiveRetention > 0 {
			steps = append(steps, filestore.Aged{Step: filestore.Removed, File: a.File + " in the archive", Since: a.Since.Add(l.ArchiveRetention)})
		}
	}
	now := time.Now()
	t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, a := range steps {
		when := a.Since.UTC().Format(time.RFC3339)
		if !a.Since.After(now) {
			when = "now"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", when, strings.Replace(string(a.Step), string(filestore.Archived), "moved to the archive", 1), oneLine(a.File))
	}
	return t.Flush()
}
