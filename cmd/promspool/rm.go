package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
	"github.com/promspool/promspool/ingest"
)

// rm deletes groups, and files by name.
type rm struct {
	*common
	remote remote
	selection
	names []string
	yes   bool
	json  bool
}

func addRm(app *kingpin.Application, c *common, commands map[string]func() error) {
	r := &rm{common: c}
	cmd := app.Command("rm", `Delete groups by name or by matchers.

A group such as job=backup,instance=db1 or a file of the spool is deleted at once. Groups that --match selects are only listed without --yes. No agent needs to run. When the command exits, the deletion is on disk; an interruption leaves each file unchanged or deleted. With --url an agent deletes the groups; --match then needs --web.enable-admin-api there.

--older-than counts from the last push, or from the last rejected push of a group without a successful one.

Examples:

  promspool rm job=backup,instance=db1

  promspool rm --match='{job=~"ci_.*"}' --older-than=7d

  promspool rm --match='{job=~"ci_.*"}' --older-than=7d --yes`)
	cmd.Flag("match", `Select groups by matchers, such as {job=~"ci_.*",instance!=""}; repeatable, for groups that match any.`).StringsVar(&r.match)
	cmd.Flag("older-than", "Select only groups whose last push is at least this old, such as 12h or 7d.").SetValue(&r.older)
	cmd.Flag("yes", "Delete the groups that --match selects.").BoolVar(&r.yes)
	cmd.Flag("json", "Print a JSON object with dry_run and the list groups, each with name, labels, size_bytes, series, last_push and last_failure.").BoolVar(&r.json)
	r.remote.addFlags(cmd)
	cmd.Arg("name", "Group such as job=backup,instance=db1, or name of a file in the spool.").StringsVar(&r.names)
	commands[cmd.FullCommand()] = r.run
}

func (r *rm) run() error {
	switch {
	case len(r.names) == 0 && len(r.match) == 0 && r.older != 0:
		return &usageError{errors.New(`--older-than requires --match; --match='job!=""' selects every group`)}
	case len(r.names) == 0 && len(r.match) == 0:
		return &usageError{errors.New("pass a group or a file, or select groups with --match")}
	case len(r.names) > 0 && (len(r.match) > 0 || r.older != 0):
		return &usageError{errors.New("a name cannot be combined with --match or --older-than")}
	}
	var removed *ingest.Removed
	var err error
	switch {
	case r.remote.given && len(r.names) > 0:
		return r.removeRemoteNames()
	case r.remote.given:
		removed, err = r.removeRemote()
	default:
		removed, err = r.removeHere()
		err = denied(r.spool, err, "--url")
	}
	if removed != nil && (err == nil || len(removed.Groups) > 0) {
		if printErr := r.print(removed); err == nil {
			err = printErr
		}
	}
	return err
}

func (r *rm) removeHere() (*ingest.Removed, error) {
	sel, err := r.parse(time.Now())
	if err != nil {
		return nil, err
	}
	store, err := r.open(&filestore.Options{})
	if err != nil {
		return nil, err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	if _, err := waitForWriters(store); err != nil {
		return nil, err
	}
	pick := sel.Has
	if len(r.names) > 0 {
		named := map[string]bool{}
		for _, name := range r.names {
			f, err := find(store.View(), name)
			if err != nil {
				return nil, fmt.Errorf("%w; nothing was removed", err)
			}
			named[f.Name()] = true
		}
		pick = func(f *record.File) bool { return named[f.Name()] }
	} else if !r.yes {
		return ingest.NewRemoved(slices.DeleteFunc(slices.Collect(store.View().Files()), func(f *record.File) bool { return !pick(f) }), true), nil
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	files, err := store.Remove(pick)
	if err != nil && len(files) > 0 {
		err = fmt.Errorf("%w (%s removed before)", err, wording.Count(len(files), "file"))
	}
	return ingest.NewRemoved(files, false), err
}

// removeRemoteNames deletes groups over HTTP.
func (r *rm) removeRemoteNames() error {
	var groups []grouping.Key
	for _, name := range r.names {
		g, err := grouping.ParseGroup(name)
		if err != nil {
			return &usageError{fmt.Errorf("--url can only delete groups: %w", err)}
		}
		groups = append(groups, g)
	}
	for _, g := range groups {
		if _, err := r.remote.do(http.MethodDelete, "/metrics/"+ingest.GroupPath(g), nil, nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *rm) removeRemote() (*ingest.Removed, error) {
	if _, err := r.parse(time.Now()); err != nil {
		return nil, err
	}
	query := url.Values{"match[]": r.match}
	if r.older != 0 {
		query.Set("older_than", r.older.String())
	}
	if !r.yes {
		query.Set("dry_run", "true")
	}
	answer, err := r.remote.do(http.MethodDelete, "/api/v1/admin/groups", query, nil)
	var no *refusal
	if errors.As(err, &no) && no.code == http.StatusNotFound {
		err = fmt.Errorf("%w: --match requires a promspool with --web.enable-admin-api there", err)
	}
	if err != nil {
		return nil, err
	}
	var doc struct {
		Status string
		Data   *ingest.Removed
	}
	if err := json.Unmarshal(answer, &doc); err != nil || doc.Status != "success" || doc.Data == nil {
		return nil, errors.New("the response is not from promspool")
	}
	return doc.Data, nil
}

func (r *rm) print(removed *ingest.Removed) error {
	if r.json {
		return printDocument(r.stdout, removed)
	}
	var b strings.Builder
	for _, g := range removed.Groups {
		b.WriteString(nameOfRemoved(&g))
		b.WriteByte('\n')
	}
	switch n := len(removed.Groups); {
	case n == 0:
		b.WriteString("no group matches\n")
	case removed.DryRun:
		fmt.Fprintf(&b, "%s would be removed: add --yes to do it\n", wording.Count(n, "group"))
	case len(r.names) > 0:
		fmt.Fprintf(&b, "%s removed\n", wording.Count(n, "file"))
	default:
		fmt.Fprintf(&b, "%s removed\n", wording.Count(n, "group"))
	}
	_, err := io.WriteString(r.stdout, b.String())
	return err
}

// nameOfRemoved returns the name of a deleted group on the command line, or the file.
func nameOfRemoved(g *ingest.RemovedGroup) string {
	var labels []exposition.Label
	for name, value := range g.Labels {
		labels = append(labels, exposition.Label{Name: name, Value: value})
	}
	if group, err := grouping.New(labels...); err == nil {
		return group.Name()
	}
	return oneLine(g.Name)
}
