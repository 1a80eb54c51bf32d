package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// show prints the metadata and content of one file.
type show struct {
	*common
	name string
	json bool
}

func addShow(app *kingpin.Application, c *common, commands map[string]func() error) {
	s := &show{common: c}
	cmd := app.Command("show", `Show the state and the content of a group or file of the spool.

The state is printed as comments, so the output is in the text format if the file is. Control characters are printed as \uXXXX; cat prints the file unchanged.

Examples:

  promspool show job=backup,instance=db1

  promspool show my-script.prom

  promspool show --json job=backup`)
	cmd.Flag("json", "Print a JSON object with the members of /api/v1/files and the content.").BoolVar(&s.json)
	cmd.Arg("name", "Group such as job=backup,instance=db1, or name of a file in the spool.").Required().StringVar(&s.name)
	commands[cmd.FullCommand()] = s.run
}

func (s *show) run() error {
	store, err := s.open(&filestore.Options{})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	if _, err := waitForWriters(store); err != nil {
		return err
	}
	v, now := store.View(), time.Now()
	f, err := find(v, s.name)
	if err != nil {
		return err
	}
	conflicts := exporter.ConflictsByFile(v)[f.Name()]
	data, err := store.Content(f)
	if s.json {
		doc := struct {
			File    json.RawMessage `json:"file"`
			Content string          `json:"content"`
		}{exporter.FileJSON(f, conflicts, now), string(data)}
		if printErr := printDocument(s.stdout, doc); printErr != nil {
			return printErr
		}
		return err
	}
	var b strings.Builder
	for _, line := range facts(v, f, conflicts, now) {
		fmt.Fprintf(&b, "# %s\n", wording.Visible(line))
	}
	b.WriteString("#\n")
	if isTerminal(s.stdout) {
		for line := range bytes.Lines(data) {
			b.WriteString(wording.Visible(strings.TrimSuffix(string(line), "\n")) + "\n")
		}
	} else {
		b.Write(data)
	}
	if _, printErr := io.WriteString(s.stdout, b.String()); printErr != nil {
		return printErr
	}
	return err
}

// facts returns the metadata of a file, one line each.
func facts(v *merge.View, f *record.File, conflicts []*record.Conflict, now time.Time) []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	at := func(t time.Time) string {
		if d := now.Sub(t); d >= 0 {
			return t.UTC().Format(time.RFC3339) + ", " + brief(d) + " ago"
		}
		return t.UTC().Format(time.RFC3339) + ", in the future"
	}
	if g := f.Group(); g.IsZero() {
		say("file %s", oneLine(f.Name()))
	} else {
		say("group %s in the file %s", g.Name(), oneLine(f.Name()))
		if t := f.LastPush(); t.IsZero() {
			say("no successful push")
		} else {
			say("last push: %s", at(t))
		}
		if t := f.LastFailure(); !t.IsZero() {
			say("last refused push: %s", at(t))
		}
		if r, ok := f.Refused(); ok {
			say("refused at %s, from %s: %s", at(r.Time), wording.Visible(r.Client), wording.Visible(r.Message))
		}
		if ttl, ok := f.TTL(); ok && ttl > 0 {
			say("lifetime: %s from the last push", model.Duration(ttl))
		} else if ok {
			say("lifetime: unlimited")
		}
		if t := f.Expired(); !t.IsZero() {
			say("expired: %s; promspool restore serves the group again", at(t))
		}
		if job := jobText(v, f, now); job != "" {
			say("job: %s", job)
		}
	}
	if t := f.ModTime(); !t.IsZero() {
		say("last change of the file: %s", at(t))
	}
	say("%s, %s", wording.Count(f.Series(), "sample"), wording.Bytes(f.DiskSize()))
	if p := f.Problem(); p != nil {
		line := ""
		if p.Line > 0 {
			line = fmt.Sprintf("line %d: ", p.Line)
		}
		if f.Err() != nil {
			say("nothing of it is served: %s%s", line, p.Sentence())
		} else {
			say("not all of it is served: %s%s", line, p.Sentence())
		}
	}
	if t := f.HeldSince(); !t.IsZero() {
		say("being written: its previous content is served since %s", at(t))
	}
	for _, c := range conflicts {
		say("%s not served: %v", wording.Count(c.Series, "sample"), c)
	}
	return lines
}
