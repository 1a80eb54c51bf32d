package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/wording"
)

// check lists the parts of files that would not be served, and why.
type check struct {
	*common
	paths        []string
	json         bool
	nodeExporter bool
	maxFileBytes size
}

func addCheck(app *kingpin.Application, c *common, commands map[string]func() error) {
	k := &check{common: c}
	cmd := app.Command("check", `Check files: report what would not be served, and why.

Prints a line for each finding, FILE:LINE: REASON: MESSAGE (node_exporter: EFFECT), and a summary. The behaviour of node_exporter is that of version `+filestore.NodeExporterVersion+`. Nothing is written. The exit status is 0 without findings, 1 with findings, 2 if a path cannot be read.

Examples:

  promspool check

  promspool check --node-exporter build/*.prom

  promspool check --json /var/lib/node_exporter/textfile`)
	cmd.Flag("json", "Print a JSON array of objects with file, line, reason, family, message and node_exporter.").BoolVar(&k.json)
	cmd.Flag("node-exporter", "Also report differences to node_exporter's textfile collector.").BoolVar(&k.nodeExporter)
	cmd.Flag("max-file-bytes", "Maximum size of a file.").Default("16MiB").SetValue(&k.maxFileBytes)
	cmd.Arg("path", "File, or directory of .prom files; default is the spool. All files are checked as if they were in one directory.").StringsVar(&k.paths)
	commands[cmd.FullCommand()] = k.run
}

func (k *check) run() error {
	paths := k.paths
	if len(paths) == 0 {
		paths = []string{k.spool}
	}
	for _, path := range paths {
		if path == "" || path == "-" {
			return &usageError{fmt.Errorf("cannot check %q: pass files or directories; to check the output of a script, use promspool write", path)}
		}
	}
	own, err := ownFamilies()
	if err != nil {
		return err
	}
	report, unread := filestore.Check(paths, &filestore.CheckOptions{Own: own, MaxFileBytes: int64(k.maxFileBytes), NodeExporter: k.nodeExporter, Quote: true})
	if k.json {
		err = printDocument(k.stdout, report.Findings)
	} else {
		err = printFindings(k.stdout, report)
	}
	switch {
	case unread != nil:
		return &usageError{fmt.Errorf("cannot check %w", unread)}
	case err != nil:
		return err
	case len(report.Findings) > 0:
		return &findings{len(report.Findings)}
	}
	return nil
}

// ownFamilies describes the agent's own metrics, which files cannot replace.
func ownFamilies() (map[string]merge.Own, error) {
	reg, process, _ := newRegistry()
	return exporter.OwnFamilies(prometheus.Gatherers{reg, process})
}

func printFindings(w io.Writer, report *filestore.Report) error {
	var b strings.Builder
	for _, f := range report.Findings {
		b.WriteString(oneLine(f.File))
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		fmt.Fprintf(&b, ": %s: %s (node_exporter: %s)\n", f.Reason, f.Message, f.NodeExporter)
	}
	fmt.Fprintf(&b, "%s and %s checked: %s\n", wording.Count(report.Files, "file"), wording.Count(report.Series, "sample"), wording.Count(len(report.Findings), "finding"))
	_, err := io.WriteString(w, b.String())
	return err
}
