package main

import (
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/promspool/promspool/filestore"
)

// serve is the agent: its flags, and what is made of them.
type serve struct {
	*common
	app *kingpin.Application

	web           *web.FlagConfig
	telemetryPath string
	externalURL   string
	routePrefix   string
	lifecycle     bool
	admin         bool
	pprof         bool
	corsOrigin    string
	allowedHosts  []string
	readTimeout   time.Duration

	maxConnections int

	pushSocket    pushSocket
	emptyInstance bool
	allowRemote   bool
	unchecked     bool
	utf8Names     bool
	maxBytes      units.Base2Bytes
	limits        filestore.Limits

	textfiles     []string
	nodeMetrics   bool
	maxGroups     int
	maxSpoolBytes units.Base2Bytes
	maxFailed     int
	maxFileBytes  units.Base2Bytes
	settle        time.Duration
	resync        time.Duration

	persistenceFile     string
	persistenceInterval time.Duration
}

func addServe(app *kingpin.Application, c *common, commands map[string]func() error) {
	s := &serve{common: c, app: app}
	cmd := app.Command("serve", "Run the agent: take pushes, watch the spool, serve the merge.").Default()
	s.web = kingpinflag.AddFlags(cmd, ":9091")
	cmd.Flag("web.telemetry-path", "Path under which the metrics are served.").Default("/metrics").StringVar(&s.telemetryPath)
	cmd.Flag("web.external-url", "The URL under which the agent is reachable from outside, for links and for the route prefix.").StringVar(&s.externalURL)
	cmd.Flag("web.route-prefix", "Prefix of all routes; default is the path of --web.external-url.").StringVar(&s.routePrefix)
	cmd.Flag("web.enable-lifecycle", "Allow to stop the agent by a PUT or POST to /-/quit.").BoolVar(&s.lifecycle)
	cmd.Flag("web.enable-admin-api", "Allow to delete all groups by a PUT to /api/v1/admin/wipe, and some by a DELETE to /api/v1/admin/groups.").BoolVar(&s.admin)
	cmd.Flag("web.enable-pprof", "Serve profiles of the agent under /debug/pprof/ to this host.").BoolVar(&s.pprof)
	cmd.Flag("web.cors.origin", "Regular expression of the origins whose pages may read the JSON API.").StringVar(&s.corsOrigin)
	cmd.Flag("web.allowed-host", "A further name by which browsers may address this host; repeatable.").StringsVar(&s.allowedHosts)
	cmd.Flag("web.read-timeout", "How long a request may take to arrive.").Default("10s").DurationVar(&s.readTimeout)
	cmd.Flag("web.max-connections", "Number of connections that may be open at each address; 0 for any. One that is idle makes room for another.").Default("512").IntVar(&s.maxConnections)
	cmd.Flag("push.socket", "Also take pushes on a unix socket at this path; who may connect to the file may push.").StringVar(&s.pushSocket.path)
	cmd.Flag("push.socket-mode", "Mode of --push.socket.").Default("0660").StringVar(&s.pushSocket.mode)
	cmd.Flag("push.socket-group", "Group of --push.socket, by name or number; default is that of the agent.").StringVar(&s.pushSocket.group)
	cmd.Flag("push.empty-instance-label", `Give pushed metrics without an instance the label instance="", as Pushgateway does.`).BoolVar(&s.emptyInstance)
	cmd.Flag("push.allow-remote", "Accept pushes and deletions from other hosts.").BoolVar(&s.allowRemote)
	cmd.Flag("push.disable-consistency-check", "Accept pushes that contradict others; what contradicts is left out of the scrape.").BoolVar(&s.unchecked)
	cmd.Flag("push.enable-utf8-names", "Accept names outside of [a-zA-Z_:][a-zA-Z0-9_:]*. node_exporter refuses the files of such groups.").BoolVar(&s.utf8Names)
	cmd.Flag("push.max-bytes", "Size up to which the body of a push is taken, decompressed.").Default("16MiB").BytesVar(&s.maxBytes)
	cmd.Flag("push.max-series", "Number of samples up to which a push is taken.").Default("100000").IntVar(&s.limits.Series)
	cmd.Flag("push.max-labels", "Number of labels that a sample or a grouping key may have.").Default("64").IntVar(&s.limits.Labels)
	cmd.Flag("push.max-label-name-bytes", "Length up to which a label name is taken.").Default("256").IntVar(&s.limits.LabelName)
	cmd.Flag("push.max-label-value-bytes", "Length up to which a label value is taken.").Default("16384").IntVar(&s.limits.LabelValue)
	cmd.Flag("push.max-failed-groups", "Number of groups up to which refused pushes leave a record of their failure in a group of their own.").Default("1000").IntVar(&s.maxFailed)
	cmd.Flag("spool.textfile-directory", "A further directory of .prom files, which is only read; a glob pattern, repeatable.").StringsVar(&s.textfiles)
	cmd.Flag("spool.node-exporter-metrics", "Also expose node_textfile_mtime_seconds and node_textfile_scrape_error, for alerts written for node_exporter.").BoolVar(&s.nodeMetrics)
	cmd.Flag("spool.max-groups", "Number of groups up to which pushes may create new ones; 0 for any.").Default("0").IntVar(&s.maxGroups)
	cmd.Flag("spool.max-bytes", "Size up to which the files of pushed groups may grow all together; 0 for any.").Default("0B").BytesVar(&s.maxSpoolBytes)
	cmd.Flag("spool.max-file-bytes", "Size up to which a file is read.").Default("16MiB").BytesVar(&s.maxFileBytes)
	cmd.Flag("spool.settle", "How long a dropped file has to rest before a change of it is read, for writers that close it half-way.").Default("0s").DurationVar(&s.settle)
	cmd.Flag("spool.resync", "How often the directory is compared with what is served, whatever the kernel reports.").Default("10s").DurationVar(&s.resync)
	cmd.Flag("persistence.file", "Accepted for Pushgateway's sake and ignored: every push is on disk.").StringVar(&s.persistenceFile)
	cmd.Flag("persistence.interval", "Accepted for Pushgateway's sake and ignored.").Default("5m").DurationVar(&s.persistenceInterval)
	commands[cmd.FullCommand()] = s.run
}

// check looks at what the flags say before anything is opened.
func (s *serve) check() error {
	if err := s.limitsMakeSense(); err != nil {
		return &usageError{err}
	}
	if s.resync <= 0 {
		s.resync = 10 * time.Second
	}
	if strings.HasPrefix(path.Clean("/"+s.telemetryPath)+"/", "/metrics/job/") {
		return fmt.Errorf("--web.telemetry-path: %s is where pushes go", s.telemetryPath)
	}
	for _, pattern := range s.textfiles {
		if _, err := filepath.Match(pattern, ""); err != nil {
			return fmt.Errorf("--spool.textfile-directory: %q is no pattern: %w", pattern, err)
		}
	}
	if err := web.Validate(*s.web.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	return nil
}

// limitsMakeSense refuses what would be no limit at all, or no agent.
func (s *serve) limitsMakeSense() error {
	for _, f := range []struct {
		flag  string
		value int64
		least int64
	}{
		{"web.max-connections", int64(s.maxConnections), 0},
		{"web.read-timeout", int64(s.readTimeout), 1},
		{"push.max-bytes", int64(s.maxBytes), 1},
		{"push.max-series", int64(s.limits.Series), 0},
		{"push.max-labels", int64(s.limits.Labels), 0},
		{"push.max-label-name-bytes", int64(s.limits.LabelName), 0},
		{"push.max-label-value-bytes", int64(s.limits.LabelValue), 0},
		{"push.max-failed-groups", int64(s.maxFailed), 0},
		{"spool.max-groups", int64(s.maxGroups), 0},
		{"spool.max-bytes", int64(s.maxSpoolBytes), 0},
		{"spool.max-file-bytes", int64(s.maxFileBytes), 1},
		{"spool.settle", int64(s.settle), 0},
	} {
		switch {
		case f.value >= f.least:
		case f.least == 0:
			return fmt.Errorf("--%s may not be negative", f.flag)
		default:
			return fmt.Errorf("--%s has to be more than nothing", f.flag)
		}
	}
	if s.maxFailed == 0 {
		s.maxFailed = -1 // none, and not the default
	}
	return nil
}

// prefix returns the prefix of all routes, without a slash at its end.
func (s *serve) prefix() (string, error) {
	u, err := url.Parse(s.externalURL)
	if err != nil {
		return "", fmt.Errorf("--web.external-url: %w", err)
	}
	p := s.routePrefix
	if p == "" {
		p = u.Path
	}
	if p = path.Clean("/" + p); p == "/" {
		p = ""
	}
	if !strings.HasPrefix(s.telemetryPath, "/") {
		s.telemetryPath = "/" + s.telemetryPath
	}
	return p, nil
}

// flags returns the value of every flag of the agent, as the API tells them.
func (s *serve) flags() map[string]string {
	flags := map[string]string{}
	model := s.app.Model()
	groups := []*kingpin.FlagGroupModel{model.FlagGroupModel}
	for _, cmd := range model.Commands {
		if cmd.Name == "serve" {
			groups = append(groups, cmd.FlagGroupModel)
		}
	}
	for _, g := range groups {
		for _, f := range g.Flags {
			if !f.Hidden && f.Name != "help" && f.Name != "version" {
				flags[f.Name] = f.Value.String()
			}
		}
	}
	return flags
}
