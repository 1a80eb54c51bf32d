package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// nodeExporter is what is known of node_exporter on this host.
type nodeExporter struct {
	known bool
	from  string   // where that is known from
	dirs  []string // that its textfile collector reads; patterns
}

// findNodeExporter looks for a running process, or else for its flags.
func (d *doctor) findNodeExporter() nodeExporter {
	processes, _ := filepath.Glob(filepath.Join(d.proc, "[0-9]*", "cmdline")) // the pattern is right
	for _, name := range processes {
		line, err := os.ReadFile(name)
		if err != nil {
			continue // gone, or not for this user
		}
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		if base := filepath.Base(args[0]); base == "node_exporter" || base == "prometheus-node-exporter" {
			return nodeExporter{true, "process " + filepath.Base(filepath.Dir(name)), textfileDirs(args[1:], base)}
		}
	}
	text, err := os.ReadFile(d.defaults)
	if err != nil {
		return nodeExporter{}
	}
	for line := range strings.Lines(string(text)) {
		if args, ok := strings.CutPrefix(strings.TrimSpace(line), "ARGS="); ok {
			return nodeExporter{true, d.defaults, textfileDirs(strings.Fields(strings.Trim(args, `"'`)), "prometheus-node-exporter")}
		}
	}
	return nodeExporter{}
}

// textfileDirs returns what the flags say. Debian's program has a directory of
// its own if they do not.
func textfileDirs(args []string, program string) []string {
	given := false
	var dirs []string
	for i, arg := range args {
		name, value, inOne := strings.Cut(strings.TrimLeft(strings.Trim(arg, `"'`), "-"), "=")
		if name != "collector.textfile.directory" {
			continue
		}
		if !inOne && i+1 < len(args) {
			value = args[i+1]
		}
		given = true
		if value = strings.Trim(value, `"'`); value != "" {
			dirs = append(dirs, value)
		}
	}
	if !given && program == "prometheus-node-exporter" {
		dirs = []string{"/var/lib/prometheus/node-exporter"}
	}
	return dirs
}

// readByNode reports whether node_exporter is known to serve the spool.
func (d *doctor) readByNode() bool { return d.node.reads(d.spool) }

func (n *nodeExporter) reads(dir string) bool {
	return slices.ContainsFunc(n.dirs, func(pattern string) bool {
		found, err := filepath.Glob(pattern)
		if err != nil || found == nil {
			found = []string{pattern}
		}
		return slices.ContainsFunc(found, func(name string) bool {
			same, _ := samePath(name, dir)
			return same
		})
	})
}

// checkNodeExporter says what node_exporter has to do with the spool.
func (d *doctor) checkNodeExporter(agent *agentSeen) {
	n := &d.node
	switch {
	case !n.known:
		d.say(skipped, "node_exporter", "", "no running node_exporter is seen, and there is no %s", d.defaults)
		return
	case len(n.dirs) == 0:
		d.say(fine, "node_exporter", "", "it reads no textfile directory (%s)", n.from)
		return
	}
	if d.readByNode() {
		if agent != nil {
			d.say(note, "node_exporter", "let Prometheus take them from one of the two: run node_exporter on another directory, or do not scrape the agent",
				"it serves the spool as well (%s): if Prometheus scrapes both, each series is stored twice", n.from)
			return
		}
		d.say(fine, "node_exporter", "", "it serves the spool (%s)", n.from)
		return
	}
	if agent != nil {
		for pattern := range strings.FieldsFuncSeq(agent.flags["spool.textfile-directory"], func(r rune) bool { return r == ',' || r == '\n' }) {
			if n.reads(pattern) {
				d.say(note, "node_exporter", "run one of the two without the directory", "it and the agent both serve %s (%s): if Prometheus scrapes both, each series is stored twice", pattern, n.from)
				return
			}
		}
	}
	d.say(fine, "node_exporter", "", "it reads %s (%s), not the spool", strings.Join(n.dirs, ", "), n.from)
}
