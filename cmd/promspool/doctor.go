package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/wording"
)

// doctor looks for what may be wrong with a spool and its surroundings.
type doctor struct {
	*common
	remote     remote
	urlGiven   bool
	prometheus string
	defaults   string
	proc       string
	sys        string
	json       bool

	now      time.Time
	findings []diagnosis
	node     nodeExporter
}

// The levels of a diagnosis.
const (
	fine    = "ok"
	note    = "note"    // worth knowing, and may be meant
	wrong   = "wrong"   // has to be mended
	skipped = "skipped" // could not be looked at
)

// A diagnosis is one thing that was looked at.
type diagnosis struct {
	Level   string `json:"level"`
	Check   string `json:"check"` // what was looked at, a stable word
	Message string `json:"message"`
	Do      string `json:"do,omitempty"` // what to do about it
}

func addDoctor(app *kingpin.Application, c *common, commands map[string]func() error) {
	d := &doctor{common: c}
	cmd := app.Command("doctor", `Look for what is wrong with the spool and around it, and say what to do.

Looks at the directory (rights, owners, lock, free space, quotas, file system), at the files (as promspool reads them and as node_exporter does, imitated as of version `+filestore.NodeExporterVersion+`; times that are still to come), at the agent, if it answers (the same spool, health, version, its limits), at the configuration of Prometheus (honor_labels) and at node_exporter's flags. Nothing is written. What cannot be read or asked is skipped and said; run it as root to see most.

Exits with 0 if nothing is wrong, 1 if something is.

Examples:

  promspool doctor

  promspool doctor --url=http://localhost:9191 --prometheus.config=prometheus.yml

  promspool doctor --json`)
	cmd.Flag("url", "Where the agent is.").Default("http://localhost:9091").IsSetByUser(&d.urlGiven).StringVar(&d.remote.url)
	cmd.Flag("timeout", "How long to wait for an answer of the agent.").Default("5s").DurationVar(&d.remote.timeout)
	cmd.Flag("prometheus.config", "Configuration of the Prometheus that scrapes this host.").Default("/etc/prometheus/prometheus.yml").StringVar(&d.prometheus)
	cmd.Flag("node-exporter.defaults", "File with node_exporter's flags, in a line ARGS=.").Default("/etc/default/prometheus-node-exporter").StringVar(&d.defaults)
	cmd.Flag("proc", "Where the process file system is.").Default("/proc").Hidden().StringVar(&d.proc)
	cmd.Flag("sys", "Where the file system of the kernel's objects is.").Default("/sys").Hidden().StringVar(&d.sys)
	cmd.Flag("json", "Print a JSON array of objects with level (ok, note, wrong, skipped), check, message and do.").BoolVar(&d.json)
	commands[cmd.FullCommand()] = d.run
}

func (d *doctor) run() error {
	if _, _, err := d.remote.parse(); err != nil {
		return &usageError{err}
	}
	d.now = time.Now()
	d.node = d.findNodeExporter() // first: whether it reads the spool decides what is wrong
	store := d.checkSpool()
	if store != nil {
		defer store.Close() //nolint:errcheck // nothing to lose
		d.checkFiles(store)
	}
	agent := d.checkAgent(store)
	d.checkPrometheus(agent)
	d.checkNodeExporter(agent)
	var err error
	if d.json {
		err = printDocument(d.stdout, d.findings)
	} else {
		err = d.print()
	}
	n := 0
	for _, f := range d.findings {
		if f.Level == wrong {
			n++
		}
	}
	if err == nil && n > 0 {
		err = &findings{n}
	}
	return err
}

// say adds a diagnosis. What to do may be empty.
func (d *doctor) say(level, check, do, format string, args ...any) {
	d.findings = append(d.findings, diagnosis{level, check, wording.Visible(fmt.Sprintf(format, args...)), do})
}

func (d *doctor) print() error {
	var b strings.Builder
	counts := map[string]int{}
	for _, f := range d.findings {
		counts[f.Level]++
		fmt.Fprintf(&b, "%-8s %s: %s\n", f.Level, f.Check, f.Message)
		if f.Do != "" {
			fmt.Fprintf(&b, "         → %s\n", f.Do)
		}
	}
	fmt.Fprintf(&b, "%s wrong, %s, %s checked\n", wording.Count(counts[wrong], "thing"), wording.Count(counts[note], "note"), wording.Count(len(d.findings), "thing"))
	_, err := io.WriteString(d.stdout, b.String())
	return err
}
