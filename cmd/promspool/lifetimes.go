package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// lifetimes are the flags for expiry, retention and the archive.
type lifetimes struct {
	policy           []string
	retention        duration
	archive          string
	archiveRetention duration
	dropped          bool
}

func (l *lifetimes) addFlags(cmd *kingpin.CmdClause) {
	cmd.Flag("spool.ttl", `Lifetime of groups that state none themselves, as MATCHER=TTL such as {job=~"ci_.+"}=7d, from their last push on; repeatable, the first that matches counts. After it only the push times are served.`).StringsVar(&l.policy)
	cmd.Flag("spool.retention", "How long a group stays in the spool after its lifetime, before it moves to the archive; 0 for ever.").Default("0s").SetValue(&l.retention)
	cmd.Flag("spool.archive-directory", "The archive, on the file system of the spool; default is .archive in the spool.").StringVar(&l.archive)
	cmd.Flag("spool.archive-retention", "How long a file stays in the archive; 0 for ever.").Default("90d").SetValue(&l.archiveRetention)
	cmd.Flag("spool.expire-dropped", "Move dropped files to the archive as well, which state a lifetime themselves. Otherwise they are withheld and stay where they are.").BoolVar(&l.dropped)
}

// parse returns the lifetimes of the flags.
func (l *lifetimes) parse() (record.Lifetimes, error) {
	parsed := record.Lifetimes{
		Retention: time.Duration(l.retention), Archive: l.archive, ArchiveRetention: time.Duration(l.archiveRetention), Dropped: l.dropped,
	}
	for _, rule := range l.policy {
		lifetime, err := record.ParseLifetime(rule)
		if err != nil {
			return parsed, &usageError{fmt.Errorf("--spool.ttl: %w", err)}
		}
		parsed.Policy = append(parsed.Policy, lifetime)
	}
	if l.dropped && l.retention == 0 {
		return parsed, &usageError{errors.New("--spool.expire-dropped requires --spool.retention")}
	}
	return parsed, nil
}

// expire expires and archives files as the agent does.
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
	if _, err := waitForWriters(store); err != nil {
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

// plan lists future steps.
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

// restore serves expired groups and archived files again.
type restore struct {
	*common
	archive string
	names   []string
}

func addRestore(app *kingpin.Application, c *common, commands map[string]func() error) {
	r := &restore{common: c}
	cmd := app.Command("restore", `Serve again what is withheld since its lifetime ended, or has moved to the archive.

The push times of a group stay what they are, so that its age shows, and it does not expire again until somebody pushes to it, which begins a new lifetime. A dropped file from the archive counts as changed now. It does not matter whether an agent is running.

Without a name everything that can be restored is listed.

Examples:

  promspool restore

  promspool restore job=backup,instance=db1

  promspool restore my-script.prom`)
	cmd.Flag("spool.archive-directory", "The archive; default is .archive in the spool.").StringVar(&r.archive)
	cmd.Arg("name", "A group such as job=backup,instance=db1, or the name of a file.").StringsVar(&r.names)
	commands[cmd.FullCommand()] = r.run
}

func (r *restore) run() error {
	store, err := r.open(&filestore.Options{Lifetimes: record.Lifetimes{Archive: r.archive}})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	if _, err := waitForWriters(store); err != nil {
		return err
	}
	if len(r.names) == 0 {
		return r.list(store)
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	var errs []error
	for _, name := range r.names {
		errs = append(errs, r.restore(store, name))
	}
	return errors.Join(errs...)
}

func (r *restore) restore(store *filestore.Store, name string) error {
	f, notFound := find(store.View(), name)
	if notFound == nil {
		switch {
		case f.Expired().IsZero():
			return fmt.Errorf("%s has not expired: nothing to restore", oneLine(name))
		case f.Group().IsZero():
			return fmt.Errorf("%s is a dropped file: write or touch it to serve it again", oneLine(name))
		}
		return store.Restore(f.Group())
	}
	file := name
	if g, err := grouping.ParseGroup(name); err == nil {
		file = g.FileName()
	}
	err := store.RestoreArchived(file)
	if errors.Is(err, fs.ErrNotExist) && file == name {
		if with := store.RestoreArchived(name + grouping.Suffix); !errors.Is(with, fs.ErrNotExist) {
			return with
		}
	}
	var usage *usageError
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.As(notFound, &usage):
		return notFound
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is neither in the spool nor in its archive", oneLine(name))
	}
	return err
}

func (r *restore) list(store *filestore.Store) error {
	t := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
	for f := range store.View().Files() {
		if !f.Expired().IsZero() && !f.Group().IsZero() {
			fmt.Fprintf(t, "%s\twithheld since %s\n", nameOf(f), f.Expired().UTC().Format(time.RFC3339))
		}
	}
	archive, err := store.Archive()
	if err != nil {
		return err
	}
	for _, a := range archive {
		fmt.Fprintf(t, "%s\tin the archive since %s\n", oneLine(a.File), a.Since.UTC().Format(time.RFC3339))
	}
	return t.Flush()
}
