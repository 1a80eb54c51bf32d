package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// ls lists the groups and files of the spool.
type ls struct {
	*common
	selection
	order string
	json  bool
}

func addLs(app *kingpin.Application, c *common, commands map[string]func() error) {
	l := &ls{common: c}
	cmd := app.Command("ls", `List the groups and files of the spool.

Prints a table. When stdout is not a terminal, the columns are separated by tabs, without a heading: name, state, age in seconds, seconds since the last rejected push (empty for none), samples, bytes, state of the job.

The age of a group counts from its last push, or from the last rejected push if none succeeded; the age of a file from its last change. The states are ok; refused: the last push was rejected; partial: conflicting series are dropped; broken: nothing is served; expired: past its lifetime; writing: a writer has the file open. promspool show has details.

Examples:

  promspool ls

  promspool ls --stale=24h

  promspool ls --match='{job=~"ci_.*"}' --sort=size

  promspool ls --json`)
	cmd.Flag("match", `Only matching groups, such as {job=~"ci_.*",instance!=""}; repeatable, for groups that match any.`).StringsVar(&l.match)
	cmd.Flag("stale", "Only groups and files of at least this age, such as 24h or 7d.").SetValue(&l.older)
	cmd.Flag("sort", "Order: name, or largest first age, samples or size.").Default("name").EnumVar(&l.order, "name", "age", "samples", "size")
	cmd.Flag("json", "Print a JSON array with the members of /api/v1/files.").BoolVar(&l.json)
	commands[cmd.FullCommand()] = l.run
}

func (l *ls) run() error {
	now := time.Now()
	sel, err := l.parse(now)
	if err != nil {
		return err
	}
	store, err := l.open(&filestore.Options{})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	writing, err := waitForWriters(store)
	if err != nil {
		return err
	}
	recordLost(store, l.bootID())
	v := store.View()
	var files []*record.File
	for f := range v.Files() {
		if l.lists(sel, f, now) {
			files = append(files, f)
		}
	}
	l.sort(files, now)
	if l.json {
		return printEntries(l.stdout, v, files, now)
	}
	rows := make([]row, 0, len(files)+len(writing))
	conflicts := exporter.ConflictsByFile(v)
	jobs := len(v.AppendFamily(nil, jobstate.Running)) > 0
	for _, f := range files {
		r := newRow(f, conflicts[f.Name()], now)
		if jobs && !f.Group().IsZero() {
			r.job = jobText(v, f, now)
		}
		rows = append(rows, r)
	}
	if l.match == nil && l.older == 0 {
		for _, name := range writing {
			if v.File(name) == nil {
				rows = append(rows, row{name: oneLine(name), state: "writing"})
			}
		}
	}
	if isTerminal(l.stdout) {
		return printTable(l.stdout, rows, jobs)
	}
	return printColumns(l.stdout, rows)
}

// lists reports whether the file is selected. The selection applies to groups;
// without matchers files are listed as well.
func (l *ls) lists(sel *record.Selection, f *record.File, now time.Time) bool {
	if l.match == nil {
		return l.older == 0 || f.Age(now) >= time.Duration(l.older)
	}
	return sel.Has(f)
}

func (l *ls) sort(files []*record.File, now time.Time) {
	var key func(*record.File) int64
	switch l.order {
	case "age":
		key = func(f *record.File) int64 { return int64(f.Age(now)) }
	case "samples":
		key = func(f *record.File) int64 { return int64(f.Series()) }
	case "size":
		key = (*record.File).DiskSize
	default:
		return // the view is sorted by name
	}
	slices.SortStableFunc(files, func(a, b *record.File) int { return cmp.Compare(key(b), key(a)) })
}

// row is one line of the list.
type row struct {
	name, state string
	file        *record.File // nil if it is not readable yet
	age         time.Duration
	failed      time.Duration // since the last refused push; negative if there was none
	job         string
}

func newRow(f *record.File, conflicts []*record.Conflict, now time.Time) row {
	r := row{name: nameOf(f), state: stateOf(f, conflicts), file: f, age: f.Age(now), failed: -1}
	at := f.LastFailure()
	if refused, ok := f.Refused(); ok && refused.Time.After(at) {
		at = refused.Time
	}
	if !at.IsZero() {
		r.failed = max(0, now.Sub(at))
	}
	return r
}

// stateOf returns the state of the file in one word.
func stateOf(f *record.File, conflicts []*record.Conflict) string {
	switch {
	case !f.Expired().IsZero():
		return "expired"
	case f.Err() != nil:
		return "broken"
	case !f.HeldSince().IsZero():
		return "writing"
	case f.Problem() != nil, len(conflicts) > 0:
		return "partial"
	case f.LastFailure().After(f.LastPush()), isRefused(f):
		return "refused"
	}
	return "ok"
}

// isRefused reports whether the last push to the group was refused.
func isRefused(f *record.File) bool {
	_, refused := f.Refused()
	return refused
}

// nameOf returns the name of a file on the command line.
func nameOf(f *record.File) string {
	if g := f.Group(); !g.IsZero() {
		return g.Name()
	}
	return oneLine(f.Name())
}

func printTable(w io.Writer, rows []row, jobs bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := "NAME\tSTATE\tAGE\tREFUSED\tSAMPLES\tSIZE"
	if jobs {
		head += "\tJOB"
	}
	fmt.Fprintln(t, head)
	for _, r := range rows {
		age, failed, samples, size := "", "-", "", ""
		if r.file != nil {
			age, samples, size = brief(r.age), strconv.Itoa(r.file.Series()), wording.Bytes(r.file.DiskSize())
		}
		if r.failed >= 0 {
			failed = brief(r.failed)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s", r.name, r.state, age, failed, samples, size)
		if jobs {
			fmt.Fprintf(t, "\t%s", r.job)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func printColumns(w io.Writer, rows []row) error {
	var b strings.Builder
	for _, r := range rows {
		if r.file == nil {
			fmt.Fprintf(&b, "%s\t%s\t\t\t\t\t\n", r.name, r.state)
			continue
		}
		failed := ""
		if r.failed >= 0 {
			failed = strconv.FormatInt(int64(r.failed.Seconds()), 10)
		}
		fmt.Fprintf(&b, "%s\t%s\t%d\t%s\t%d\t%d\t%s\n", r.name, r.state, int64(r.age.Seconds()), failed, r.file.Series(), r.file.DiskSize(), r.job)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printEntries prints files in the format of the API.
func printEntries(w io.Writer, v *merge.View, files []*record.File, now time.Time) error {
	conflicts := exporter.ConflictsByFile(v)
	list := make([]json.RawMessage, 0, len(files))
	for _, f := range files {
		list = append(list, exporter.FileJSON(f, conflicts[f.Name()], now))
	}
	return printDocument(w, list)
}
