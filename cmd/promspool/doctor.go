package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"

	"github.com/promspool/promspool/cmd/promspool/internal/agents"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// doctor checks a spool and its surroundings.
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

	parsedURL *url.URL       // of remote
	agents    []agents.Agent // on the spool
}

// The levels of a diagnosis.
const (
	fine    = "ok"
	note    = "note"    // a notice, possibly intended
	wrong   = "wrong"   // needs a fix
	skipped = "skipped" // could not be checked
)

// A diagnosis is the result of one check.
type diagnosis struct {
	Level   string `json:"level"`
	Check   string `json:"check"` // the check, a stable word
	Message string `json:"message"`
	Do      string `json:"do,omitempty"` // the remedy
}

func addDoctor(app *kingpin.Application, c *common, commands map[string]func() error) {
	d := &doctor{common: c}
	cmd := app.Command("doctor", `Find problems of the spool and its environment, and suggest remedies.

Checks the directory (permissions, owners, lock, number of agents, free space, quotas, file system), the files (as promspool and as node_exporter `+filestore.NodeExporterVersion+` read them; times in the future), the agent if it answers (same spool, health, version, limits), the configuration of Prometheus (honor_labels) and node_exporter's flags. Nothing is written. Checks without permission are skipped and reported; run it as root.

Exits with 0 without problems, otherwise with 1.

Examples:

  promspool doctor

  promspool doctor --url=http://localhost:9191 --prometheus.config=prometheus.yml

  promspool doctor --json`)
	cmd.Flag("url", "URL of the agent.").Default("http://localhost:9091").IsSetByUser(&d.urlGiven).StringVar(&d.remote.url)
	cmd.Flag("timeout", "Maximum time for an answer of the agent.").Default("5s").SetValue((*timeout)(&d.remote.timeout))
	cmd.Flag("prometheus.config", "Configuration of the Prometheus that scrapes this host.").Default("/etc/prometheus/prometheus.yml").StringVar(&d.prometheus)
	cmd.Flag("node-exporter.defaults", "File with a line ARGS= that has node_exporter's flags.").Default("/etc/default/prometheus-node-exporter").StringVar(&d.defaults)
	cmd.Flag("proc", "Directory of the process file system.").Default("/proc").Hidden().StringVar(&d.proc)
	cmd.Flag("sys", "Directory of the kernel's objects.").Default("/sys").Hidden().StringVar(&d.sys)
	cmd.Flag("json", "Print a JSON array of objects with level (ok, note, wrong, skipped), check, message and do.").BoolVar(&d.json)
	commands[cmd.FullCommand()] = d.run
}

func (d *doctor) run() error {
	var err error
	if d.parsedURL, _, err = d.remote.parse(); err != nil {
		return &usageError{err}
	}
	d.now = time.Now()
	d.node = d.findNodeExporter() // first: other checks depend on whether it reads the spool
	store := d.checkSpool()
	if store != nil {
		defer store.Close() //nolint:errcheck // nothing to lose
		d.checkFiles(store)
	}
	agent := d.checkAgent(store)
	d.checkPrometheus(agent)
	d.checkNodeExporter(agent)
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

// say adds a diagnosis. The remedy may be empty.
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

// clockSlack is the maximum difference of clocks.
const clockSlack = 5 * time.Second

// agentSeen is the status of the agent; nil if there is no response.
type agentSeen struct {
	flags map[string]string
}

// metricsSocket is where promspool-metrics.socket listens.
const metricsSocket = "/run/promspool/metrics.sock"

// checkAgent asks the agent, if there is one. Without --url it is also looked for at
// the socket of an agent that has no port.
func (d *doctor) checkAgent(store *filestore.Store) *agentSeen {
	answer, header, err := d.remote.ask(http.MethodGet, "/api/v1/status", nil, nil)
	doc := parseStatus(answer, err)
	if doc == nil && !d.urlGiven {
		socket := remote{url: "unix://" + metricsSocket, timeout: d.remote.timeout}
		found, errSocket := socket.do(http.MethodGet, "/api/v1/status", nil, nil)
		if at := parseStatus(found, errSocket); at != nil {
			doc, d.remote = at, socket
		}
	}
	if doc == nil {
		d.sayNoAgent(answer, header, err)
		return nil
	}
	agent := &agentSeen{flags: doc.Data.Flags}
	d.say(fine, "agent", "", "version %s answers at %s", orUnknown(doc.Data.Build["version"]), d.remote.name(d.parsedURL))
	if theirs, ours := doc.Data.Build["version"], version.Version; theirs != ours {
		d.say(note, "agent-version", "restart the agent, if it was upgraded", "the agent has version %s and this program %s", orUnknown(theirs), orUnknown(ours))
	}
	if _, err := d.remote.do(http.MethodGet, "/-/healthy", nil, nil); err != nil {
		d.say(wrong, "agent-health", "look at the log of the agent (journalctl -u promspool) and at the rights and the space above", "the agent is not healthy: %v", err)
	} else {
		d.say(fine, "agent-health", "", "the agent can write its spool")
	}
	if store != nil {
		d.checkSameSpool(agent, store)
	}
	d.checkOpen(agent)
	d.checkLimits(agent)
	return agent
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// statusDocument is the part of /api/v1/status that is checked.
type statusDocument struct {
	Data struct {
		Flags map[string]string `json:"flags"`
		Build map[string]string `json:"build_information"`
	} `json:"data"`
}

// parseStatus returns the status of an agent, or nil if it is that of another program.
func parseStatus(answer []byte, err error) *statusDocument {
	doc := &statusDocument{}
	if err != nil || json.Unmarshal(answer, doc) != nil || doc.Data.Flags["spool.directory"] == "" {
		return nil
	}
	return doc
}

// sayNoAgent reports that no agent answers at the URL, and what does instead.
func (d *doctor) sayNoAgent(answer []byte, header http.Header, err error) {
	level := note
	if d.urlGiven {
		level = wrong
	}
	elsewhere := "pass the URL of the agent with its port and route prefix, such as --url=http://localhost:9191/prefix"
	if i := slices.IndexFunc(d.agents, func(a agents.Agent) bool { return a.PID > 0 }); i >= 0 {
		elsewhere = fmt.Sprintf("an agent serves this spool as process %[1]d: pass its URL to --url (as root, ss -ltnp | grep pid=%[1]d shows the port)", d.agents[i].PID)
	}
	name := d.remote.name(d.parsedURL)
	if right := d.agentAbove(); right != "" {
		d.say(level, "agent", "pass --url="+right, "an agent answers at %s, not below %s", right, name)
		return
	}
	var status *refusal
	var certificate *tls.CertificateVerificationError
	switch isStatus := errors.As(err, &status); {
	case errors.As(err, &certificate):
		do := "set SSL_CERT_FILE to a file with the certificate of the server or its authority"
		if other := (x509.HostnameError{}); errors.As(err, &other) {
			do = "pass a URL with a name that the certificate has"
		}
		d.say(level, "agent", do+", or the URL of a unix socket of the agent", "the certificate of %s cannot be verified: %v", name, certificate.Err)
	case err != nil && !isStatus:
		if len(d.agents) == 0 {
			elsewhere = "start it (systemctl start promspool), or set --url"
		}
		d.say(level, "agent", elsewhere, "no agent answers: %v", err)
	case isStatus && (status.code == http.StatusUnauthorized || status.code == http.StatusForbidden || status.code == http.StatusMisdirectedRequest):
		d.say(level, "agent", "if it is the agent, pass a URL that it accepts, such as --url=http://USER:PASSWORD@localhost:9091; else "+elsewhere,
			"the server rejects this request: %v", err)
	case isStatus && strings.Contains(status.sentence, "HTTP request to an HTTPS server"): // of Go's server
		d.say(level, "agent", "pass the URL with https:// to --url", "the server at %s uses TLS", name)
	default:
		d.say(level, "agent", elsewhere+"; to give the agent this port, stop the other program (ss -ltnp lists it)", "another program answers at %s: %s", name, describeServer(answer, header, status))
	}
}

// agentAbove returns the URL of an agent whose path is the beginning of the path of
// --url, without a password. It is empty if there is none.
func (d *doctor) agentAbove() string {
	if d.parsedURL.Scheme != "http" && d.parsedURL.Scheme != "https" || strings.HasPrefix(d.remote.url, "unix:") {
		return ""
	}
	above := *d.parsedURL
	for range 5 { // each waits for an answer
		p := strings.TrimSuffix(above.EscapedPath(), "/")
		if p == "" {
			return ""
		}
		above.RawPath = p[:strings.LastIndexByte(p, '/')]
		above.Path, _ = url.PathUnescape(above.RawPath) // valid, as it was part of a valid one
		at := remote{url: above.String(), timeout: d.remote.timeout}
		answer, _, err := at.ask(http.MethodGet, "/api/v1/status", nil, nil)
		var status *refusal
		if parseStatus(answer, err) != nil {
			return above.Redacted()
		}
		if err != nil && !errors.As(err, &status) {
			return "" // no server
		}
	}
	return ""
}

// describeServer returns the best known facts about a server that is not promspool.
func describeServer(answer []byte, header http.Header, status *refusal) string {
	var facts []string
	doc := &statusDocument{}
	if json.Unmarshal(answer, doc) == nil && doc.Data.Flags["push.disable-consistency-check"] != "" {
		return "a Pushgateway, version " + orUnknown(doc.Data.Build["version"])
	}
	if status != nil {
		facts = append(facts, strings.TrimSpace(fmt.Sprintf("status %d %s", status.code, http.StatusText(status.code))))
	}
	if server := header.Get("Server"); server != "" {
		facts = append(facts, "Server: "+wording.Shorten(server, 60))
	}
	if words := firstWords(answer); words != "" {
		facts = append(facts, strconv.Quote(wording.Shorten(words, 60)))
	}
	if len(facts) == 0 {
		return "an empty answer"
	}
	return strings.Join(facts, ", ")
}

// checkSameSpool compares paths or, if the agent's is relative, the files.
func (d *doctor) checkSameSpool(agent *agentSeen, store *filestore.Store) {
	theirs := agent.flags["spool.directory"]
	if same, known := samePath(theirs, store.Path()); known && same {
		d.say(fine, "agent-spool", "", "the agent serves this spool")
		return
	}
	answer, err := d.remote.do(http.MethodGet, "/api/v1/files", nil, nil)
	var doc struct {
		Data []struct {
			Name    string     `json:"name"`
			ModTime *time.Time `json:"mtime"`
		} `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(answer, &doc)
	}
	if err != nil {
		d.say(skipped, "agent-spool", "", "cannot determine whether the agent serves this spool: %v", err)
		return
	}
	files := map[string]int64{}
	for f := range store.View().Files() {
		files[record.PrintableName(f.Name())] = f.ModTime().UnixNano()
	}
	served := map[string]int64{}
	for _, f := range doc.Data {
		if f.ModTime != nil && !strings.ContainsRune(f.Name, filepath.Separator) { // only files of the spool
			served[f.Name] = f.ModTime.UnixNano()
		}
	}
	both := 0
	for name, at := range files {
		if served[name] == at {
			both++
		}
	}
	switch {
	case len(files) == 0 && len(served) == 0:
		d.say(note, "agent-spool", "give both the same absolute path", "the agent's spool is %s; cannot determine whether that is %s, as both are empty", theirs, store.Path())
	case maps.Equal(files, served), 2*both > max(len(files), len(served)): // some may have changed since
		d.say(fine, "agent-spool", "", "the agent serves this spool, as %s", theirs)
	default:
		d.say(wrong, "agent-spool", "to check that spool, run doctor with --spool.directory="+oneLine(theirs)+"; to have this one served, start the agent with --spool.directory="+oneLine(store.Path()), "the agent at %s serves another spool, %s", d.remote.name(d.parsedURL), theirs)
	}
}

// samePath reports whether two paths lead to one directory. known is false if this
// host cannot decide it.
func samePath(a, b string) (same, known bool) {
	if !filepath.IsAbs(a) {
		return false, false
	}
	b, err := filepath.Abs(b)
	if err != nil {
		return false, false
	}
	for _, p := range []*string{&a, &b} {
		if real, err := filepath.EvalSymlinks(*p); err == nil {
			*p = real
		}
	}
	return filepath.Clean(a) == filepath.Clean(b), true
}

// checkOpen checks who can push.
func (d *doctor) checkOpen(agent *agentSeen) {
	if agent.flags["push.allow-remote"] == "true" && agent.flags["web.config.file"] == "" {
		d.say(note, "agent-access", "run without --push.allow-remote, or with --web.config.file and client certificates or passwords", "every host that reaches the agent may push and delete")
	}
}

// checkLimits checks the limits in the agent's metrics.
func (d *doctor) checkLimits(agent *agentSeen) {
	path := agent.flags["web.telemetry-path"]
	if path == "" {
		path = "/metrics"
	}
	page, err := d.remote.do(http.MethodGet, path, nil, nil)
	if err != nil {
		d.say(wrong, "agent-metrics", "look at the log of the agent", "%v", err)
		return
	}
	values := map[string][]float64{}
	var unwatched []string
	unreadable := map[string]bool{}
	wanted := []string{"promspool_watch_armed", "process_open_fds", "process_max_fds"}
	for line := range strings.Lines(string(page)) {
		name, _, _ := strings.Cut(line, " ")
		name, _, _ = strings.Cut(name, "{")
		switch found := ofDirectory.FindStringSubmatch(line); {
		case found == nil:
		case name == "promspool_directory_error" && found[3] == "1":
			unreadable[found[1]] = true
			d.sayDirectory(unescapeLabel.Replace(found[1]), found[2])
		case name == "promspool_watch_armed" && found[3] == "0" && !unreadable[found[1]]: // the page is sorted by name
			unwatched = append(unwatched, unescapeLabel.Replace(found[1]))
		}
		if slices.Contains(wanted, name) {
			line = strings.TrimSpace(line)
			if v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64); err == nil {
				values[name] = append(values[name], v)
			}
		}
	}
	if len(unwatched) > 0 {
		d.say(wrong, "agent-limits", "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances (sysctl), and see the log of the agent", "the kernel does not notify the agent of changes in %s; only periodic rescans detect them", few(unwatched))
	}
	open, most := values["process_open_fds"], values["process_max_fds"]
	if len(open) == 1 && len(most) == 1 && most[0] > 0 && open[0] > 0.8*most[0] {
		d.say(wrong, "agent-limits", "raise LimitNOFILE= in the unit of the agent", "%.0f of the %.0f files that the agent may have open are", open[0], most[0])
	}
	if len(values) > 0 && d.findings[len(d.findings)-1].Check != "agent-limits" {
		d.say(fine, "agent-limits", "", "the kernel notifies the agent of changes, and %.0f of %.0f files are open", first(open), first(most))
	}
}

// ofDirectory matches a sample about a directory.
var ofDirectory = regexp.MustCompile(`^[a-z_]+\{directory="((?:[^"\\]|\\.)*)"(?:,reason="([^"]*)")?\} ([0-9]+)\s*$`)

var unescapeLabel = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n")

// sayDirectory reports why the agent cannot read a directory.
func (d *doctor) sayDirectory(dir, reason string) {
	text, do := "cannot be read by the agent", "look at the log of the agent"
	switch record.DirectoryReason(reason) {
	case record.DirectoryMissing:
		text, do = "does not exist (ENOENT)", "create it, or correct --spool.textfile-directory"
	case record.DirectoryIsNone:
		text, do = "is not a directory (ENOTDIR)", "correct --spool.textfile-directory"
	case record.DirectoryUnreadable:
		text, do = "may not be read by the agent (EACCES)", "let the user of the agent read and enter it and enter all directories above it: chmod a+rx, or a group of both"
	}
	d.say(wrong, "agent-directory", do, "%s %s", oneLine(dir), text)
}

func first(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return values[0]
}
