package main

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"
)

// nodeExporter describes the node_exporter of this host.
type nodeExporter struct {
	known bool
	from  string   // source of the information
	dirs  []string // patterns of its textfile collector
}

// findNodeExporter looks for a running process, then for its default flags.
func (d *doctor) findNodeExporter() nodeExporter {
	processes, _ := filepath.Glob(filepath.Join(d.proc, "[0-9]*", "cmdline")) // the pattern is right
	for _, name := range processes {
		line, err := os.ReadFile(name)
		if err != nil {
			continue // ended, or not readable
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

// textfileDirs returns the directories of the flags. Debian's program has a default.
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

// checkNodeExporter checks whether node_exporter serves the spool as well.
func (d *doctor) checkNodeExporter(agent *agentSeen) {
	n := &d.node
	switch {
	case !n.known:
		d.say(skipped, "node_exporter", "", "no running node_exporter found, and %s does not exist", d.defaults)
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

// scrapeConfig has the relevant fields of a scrape_config of Prometheus.
type scrapeConfig struct {
	Job          string `yaml:"job_name"`
	HonorLabels  bool   `yaml:"honor_labels"`
	MetricsPath  string `yaml:"metrics_path"`
	StaticConfig []struct {
		Targets []string          `yaml:"targets"`
		Labels  map[string]string `yaml:"labels"`
	} `yaml:"static_configs"`
}

// prometheusConfig has the relevant fields of a configuration file.
type prometheusConfig struct {
	Scrape      []scrapeConfig `yaml:"scrape_configs"`
	ScrapeFiles []string       `yaml:"scrape_config_files"`
}

// checkPrometheus checks the job that scrapes the agent.
func (d *doctor) checkPrometheus(agent *agentSeen) {
	jobs, err := readScrapeConfigs(d.prometheus)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.say(skipped, "prometheus", "set --prometheus.config if Prometheus runs on this host", "%s does not exist", d.prometheus)
		return
	case errors.Is(err, fs.ErrPermission):
		d.say(skipped, "prometheus", "run promspool doctor as root", "%v", err)
		return
	case err != nil:
		d.say(wrong, "prometheus", "run promtool check config "+d.prometheus+" for details", "%v", err)
		return
	}
	u, _ := url.Parse(d.remote.url) // it was asked already
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	sockets := []string{metricsSocket}
	if u.Scheme == "unix" {
		sockets = append(sockets, u.Path)
	}
	if agent != nil && agent.flags["web.metrics-socket"] != "" {
		sockets = append(sockets, agent.flags["web.metrics-socket"])
	}
	var scraping []scrapeConfig
	for _, job := range jobs {
		for _, static := range job.StaticConfig {
			socket := static.Labels["__unix_socket__"] // is connected to in place of the address
			for _, target := range static.Targets {
				if socket == "" && d.isThisHost(target, u.Hostname(), port) || socket != "" && slices.ContainsFunc(sockets, func(s string) bool { same, _ := samePath(s, socket); return same }) {
					scraping = append(scraping, job)
				}
			}
		}
	}
	if len(scraping) == 0 && u.Scheme == "unix" {
		d.say(note, "prometheus", "add a job with the label __unix_socket__: "+u.Path+" and honor_labels: true, if this Prometheus is the one that scrapes the agent",
			"no job in %s has the socket %s in a label __unix_socket__ of its static targets; other kinds of discovery are not followed", d.prometheus, u.Path)
		return
	}
	if len(scraping) == 0 {
		d.say(note, "prometheus", "add a job for localhost:"+port+" with honor_labels: true, if this Prometheus is the one that scrapes the agent",
			"no job in %s has this host and port %s among its static targets; other kinds of discovery are not followed", d.prometheus, port)
		return
	}
	before := len(d.findings)
	if len(scraping) > 1 {
		d.say(note, "prometheus", "keep one of them", "%d targets in %s are the agent, so each of its series is stored as often", len(scraping), d.prometheus)
	}
	for _, job := range scraping {
		if !job.HonorLabels {
			d.say(wrong, "prometheus", "set honor_labels: true in this job", "the job %q scrapes the agent without honor_labels: what was pushed with job=\"backup\" becomes exported_job=\"backup\"", job.Job)
		}
		if agent == nil {
			continue
		}
		if served := metricsPath(agent.flags); path.Clean("/"+job.MetricsPath) != served {
			d.say(wrong, "prometheus", "set metrics_path: "+served, "the job %q scrapes %s, and the agent has its metrics at %s", job.Job, path.Clean("/"+job.MetricsPath), served)
		}
	}
	if len(d.findings) == before {
		d.say(fine, "prometheus", "", "the job %q in %s scrapes the agent with honor_labels", scraping[0].Job, d.prometheus)
	}
}

// metricsPath returns the path of the metrics of an agent with these flags.
func metricsPath(flags map[string]string) string {
	prefix := flags["web.route-prefix"]
	if prefix == "" {
		if u, err := url.Parse(flags["web.external-url"]); err == nil {
			prefix = u.EscapedPath()
		}
	}
	return path.Join("/", prefix, flags["web.telemetry-path"])
}

// isThisHost reports whether a target is the agent: the same port, and a name of this
// host.
func (d *doctor) isThisHost(target, name, port string) bool {
	host, p, err := net.SplitHostPort(target)
	if err != nil || p != port {
		return false
	}
	own, _ := os.Hostname() // the other names remain after an error
	short, _, _ := strings.Cut(own, ".")
	targetShort, _, _ := strings.Cut(host, ".")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, name) || strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback() ||
		own != "" && (strings.EqualFold(host, own) || ip == nil && strings.EqualFold(targetShort, short))
}

// readScrapeConfigs reads the jobs of a configuration and of the files that it includes.
func readScrapeConfigs(file string) ([]scrapeConfig, error) {
	var config prometheusConfig
	if err := readYAML(file, &config); err != nil {
		return nil, err
	}
	jobs := config.Scrape
	for _, pattern := range config.ScrapeFiles {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(file), pattern)
		}
		names, err := filepath.Glob(pattern)
		if err != nil {
			continue // Prometheus itself rejects it
		}
		for _, name := range names {
			var more prometheusConfig
			if err := readYAML(name, &more); err != nil {
				return nil, err
			}
			jobs = append(jobs, more.Scrape...)
		}
	}
	for i := range jobs {
		if jobs[i].MetricsPath == "" {
			jobs[i].MetricsPath = "/metrics"
		}
	}
	return jobs, nil
}

func readYAML(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		// The error quotes the file, which may contain a password.
		return errors.New(oneLine(file) + " is not the YAML that Prometheus reads")
	}
	return nil
}
