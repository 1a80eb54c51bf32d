package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
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
	cmd.Flag("spool.ttl", `Lifetime of groups without one of their own, as MATCHER=TTL such as {job=~"ci_.+"}=7d, from the last push; repeatable, the first match applies. After it only the push times are served.`).StringsVar(&l.policy)
	cmd.Flag("spool.retention", "Time after which an expired group moves from the spool to the archive; 0 for never.").Default("0s").SetValue(&l.retention)
	cmd.Flag("spool.archive-directory", "The archive, on the file system of the spool; default is .archive in the spool.").StringVar(&l.archive)
	cmd.Flag("spool.archive-retention", "Time after which a file is deleted from the archive; 0 for never.").Default("90d").SetValue(&l.archiveRetention)
	cmd.Flag("spool.expire-dropped", "Also move expired dropped files to the archive; otherwise they stay and are not served.").BoolVar(&l.dropped)
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

// checkArchive returns an error if the archive is the spool, or is one that will not be
// found. The spool exists.
func (l *lifetimes) checkArchive(spool string) error {
	if l.archive == "" {
		return nil
	}
	fi, err := os.Stat(l.archive)
	own, errSpool := os.Stat(spool)
	switch {
	case err == nil && errSpool == nil && os.SameFile(fi, own):
		return &usageError{fmt.Errorf("--spool.archive-directory: %s is the spool: use another directory on the same file system", oneLine(l.archive))}
	case err == nil && !fi.IsDir():
		return fmt.Errorf("--spool.archive-directory: %s is not a directory: use another path", oneLine(l.archive))
	case errors.Is(err, fs.ErrNotExist) && l.retention > 0 && !filepath.IsAbs(l.archive):
		return fmt.Errorf("--spool.archive-directory: %s does not exist in the working directory: create it, or use an absolute path", oneLine(l.archive))
	}
	return nil
}

// expire expires and archives files as the agent does.
type expire struct {
	*common
	lifetimes
	dryRun bool
}

func addExpire(app *kingpin.Application, c *common, commands map[string]func() error) {
	e := &expire{common: c}
	cmd := app.Command("expire", `Apply lifetimes: expire, archive and delete files that are due.

The agent does this by itself; the command works with or without one. Repeat the agent's --spool.ttl and the other flags below. The system clock is trusted as is.

With --dry-run the command lists due and future steps with their times.

Examples:

  promspool expire --dry-run

  promspool expire --dry-run --spool.ttl='{job=~"ci_.+"}=7d' --spool.retention=30d`)
	cmd.Flag("dry-run", "List due and future steps only.").BoolVar(&e.dryRun)
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
	return store.Expire(ctx, func(a filestore.ExpiryEvent) {
		if a.Err == nil {
			fmt.Fprintf(e.stdout, "%s %s\n", a.Stage, oneLine(a.File))
		}
	})
}

// plan lists future steps.
func (e *expire) plan(store *filestore.Store, l record.Lifetimes) error {
	steps := store.ExpirySchedule()
	archive, err := store.Archive()
	if err != nil {
		return err
	}
	for _, a := range archive {
		if l.ArchiveRetention > 0 {
			steps = append(steps, filestore.ExpiryEvent{Stage: filestore.Removed, File: a.File + " in the archive", Since: a.Since.Add(l.ArchiveRetention)})
		}
	}
	now := time.Now()
	t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, a := range steps {
		when := a.Since.UTC().Format(time.RFC3339)
		if !a.Since.After(now) {
			when = "now"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", when, strings.Replace(string(a.Stage), string(filestore.Archived), "moved to the archive", 1), oneLine(a.File))
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
	cmd := app.Command("restore", `Restore expired groups and archived files.

A group keeps its push times and does not expire again before the next push. A dropped file from the archive counts as changed now. No agent needs to run.

Without a name the command lists everything that can be restored.

Examples:

  promspool restore

  promspool restore job=backup,instance=db1

  promspool restore my-script.prom`)
	cmd.Flag("spool.archive-directory", "The archive; default is .archive in the spool.").StringVar(&r.archive)
	cmd.Arg("name", "Group such as job=backup,instance=db1, or name of a file.").StringsVar(&r.names)
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
