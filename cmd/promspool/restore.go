package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// restore brings back what lifetimes have taken away.
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
	if _, err := settle(store); err != nil {
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
			return fmt.Errorf("%s is in the spool, and nothing of it is withheld", oneLine(name))
		case f.Group().IsZero():
			return fmt.Errorf("%s is in the spool, and is served again when it is written or touched", oneLine(name))
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
		return fmt.Errorf("neither the spool nor its archive has %s", oneLine(name))
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
