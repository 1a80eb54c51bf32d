package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/promspool/promspool/cmd/promspool/internal/listen"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest"
	"github.com/promspool/promspool/systemd"
)

// serveCommand is the command serve and its flags.
type serveCommand struct {
	*common
	app *kingpin.Application

	web           *web.FlagConfig
	telemetryPath string
	externalURL   string
	routePrefix   string
	lifecycle     bool
	admin         bool
	pprof         bool
	openMetrics   bool
	corsOrigin    string
	allowedHosts  []string
	readTimeout   time.Duration

	maxConnections int

	pushLimits
	ownerCheck  bool
	adminGroup  string
	pushSocket  socketFlags
	readSocket  socketFlags
	allowRemote bool

	textfiles   []string
	nodeMetrics bool
	settle      time.Duration
	lifetimes   lifetimes
	resync      time.Duration

	jobsInterval time.Duration
	pings        bool
	maxSlugs     int

	persistenceFile     string
	persistenceInterval time.Duration
}

func addServe(app *kingpin.Application, c *common, commands map[string]func() error) *serveCommand {
	s := &serveCommand{common: c, app: app}
	cmd := app.Command("serve", "Run the agent: accept pushes, watch the spool, serve the metrics.").Default()
	s.web = kingpinflag.AddFlags(cmd, ":9091")
	cmd.Flag("web.telemetry-path", "Path of the scrape.").Default("/metrics").StringVar(&s.telemetryPath)
	cmd.Flag("web.external-url", "URL of the agent for other hosts, for links and the route prefix.").StringVar(&s.externalURL)
	cmd.Flag("web.route-prefix", "Prefix of all routes; default is the path of --web.external-url.").StringVar(&s.routePrefix)
	cmd.Flag("web.enable-lifecycle", "Stop the agent on PUT or POST to /-/quit.").BoolVar(&s.lifecycle)
	cmd.Flag("web.enable-admin-api", "Delete all groups on PUT to /api/v1/admin/wipe, and selected ones on DELETE to /api/v1/admin/groups.").BoolVar(&s.admin)
	cmd.Flag("web.enable-pprof", "Serve profiles under /debug/pprof/ to this host.").BoolVar(&s.pprof)
	cmd.Flag("web.enable-openmetrics", "Serve OpenMetrics to scrapes that ask for it.").BoolVar(&s.openMetrics)
	cmd.Flag("web.cors.origin", "Regular expression of origins whose pages may read the JSON API.").StringVar(&s.corsOrigin)
	cmd.Flag("web.allowed-host", "Further name of this host that browsers may use; repeatable.").StringsVar(&s.allowedHosts)
	cmd.Flag("web.read-timeout", "Maximum time for a request to arrive.").Default("10s").SetValue((*timeout)(&s.readTimeout))
	cmd.Flag("web.max-connections", "Maximum number of open connections per address; 0 for no limit. A new connection replaces an idle one.").Default("512").SetValue((*wholeNumber)(&s.maxConnections))
	s.readSocket.addFlags(cmd, "web.metrics-socket", "Path of a read-only unix socket for metrics, health, the page and the JSON API.", "0666")
	s.pushSocket.addFlags(cmd, "push.socket", "Path of a unix socket for pushes; write permission for the file is permission to push.", "0660")
	cmd.Flag("push.owner-check", "Allow changes to a group only to the user who created it, root and --push.admin-group. Users are identified over --push.socket.").BoolVar(&s.ownerCheck)
	cmd.Flag("push.admin-group", "Group, by name or number, whose members may change all groups regardless of --push.owner-check.").StringVar(&s.adminGroup)
	s.pushLimits.addFlags(cmd)
	cmd.Flag("push.allow-remote", "Accept pushes and deletions from other hosts.").BoolVar(&s.allowRemote)
	cmd.Flag("spool.textfile-directory", "Further directory of .prom files, read-only; a glob pattern, repeatable.").StringsVar(&s.textfiles)
	cmd.Flag("spool.node-exporter-metrics", "Also serve node_textfile_mtime_seconds and node_textfile_scrape_error, for alerts written for node_exporter.").BoolVar(&s.nodeMetrics)
	cmd.Flag("spool.settle", "Time for which a file written in place must be unchanged before it is read, for writers that close it half-way.").Default("0s").SetValue((*timeout)(&s.settle))
	cmd.Flag("spool.resync", "Interval of full comparisons with the directory, independent of notifications.").Default("10s").SetValue((*timeout)(&s.resync))
	s.lifetimes.addFlags(cmd)
	cmd.Flag("ping.enable", "Accept pings as Healthchecks does: GET, HEAD or POST /ping/SLUG[/start|/fail|/EXIT-CODE], from this host.").BoolVar(&s.pings)
	cmd.Flag("ping.max-slugs", "Maximum number of jobs that pings create.").Default("1000").SetValue((*wholeNumber)(&s.maxSlugs))
	cmd.Flag("persistence.file", "Ignored; accepted for compatibility with Pushgateway. Every push is on disk.").StringVar(&s.persistenceFile)
	cmd.Flag("persistence.interval", "Ignored; accepted for compatibility with Pushgateway.").Default("5m").SetValue((*timeout)(&s.persistenceInterval))
	cmd.Flag("job.interval", "Interval of checks for lost runs, for tests.").Hidden().Default(jobsInterval.String()).SetValue((*timeout)(&s.jobsInterval))
	commands[cmd.FullCommand()] = s.run
	return s
}

// settings are the parsed values of flags.
type settings struct {
	prefix    string // of all routes
	lifetimes record.Lifetimes
	cors      *regexp.Regexp    // nil for none
	ownership *ingest.Ownership // nil if every client can change each group
}

// settings parses the flags. It does not set ownership, which depends on the sockets.
func (s *serveCommand) settings() (set settings, err error) {
	if err := s.check(); err != nil {
		return set, err
	}
	if set.lifetimes, err = s.lifetimes.parse(); err != nil {
		return set, err
	}
	if set.prefix, err = s.prefix(); err != nil {
		return set, err
	}
	set.cors, err = s.origins()
	return set, err
}

// flags returns the value of every flag of the agent, for the API.
func (s *serveCommand) flags() map[string]string {
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

// Values of FileDescriptorName= of the unix sockets for pushes and for reading.
// Sockets of every other name take the place of --web.listen-address.
const (
	passedForPushes  = "push"
	passedForReading = "metrics"
)

// sockets are the listeners of the agent.
type sockets struct {
	web  []net.Listener
	push []net.Listener // unix sockets for pushes
	read []net.Listener // unix sockets that are read-only
}

func (s *sockets) all() []net.Listener { return slices.Concat(s.web, s.push, s.read) }

func (s *sockets) close() {
	for _, l := range s.all() {
		_ = l.Close() // the server may have closed it already
	}
}

// listen opens the sockets before anything else. An address in use fails at once, and
// clients that connect while the spool is read wait for their response. The caller
// closes the sockets, after an error as well.
//
// Sockets of the service manager are used with or without --web.systemd-socket, so
// that enabling promspool.socket is enough. With the flag their absence is an error.
func (s *serveCommand) listen(logger *slog.Logger) (socks sockets, err error) {
	passed, err := systemd.Listeners()
	if err != nil {
		return socks, fmt.Errorf("taking the sockets of the service manager: %w", err)
	}
	for name, ls := range passed {
		switch name {
		case passedForPushes:
			socks.push = append(socks.push, ls...)
		case passedForReading:
			socks.read = append(socks.read, ls...)
		default:
			socks.web = append(socks.web, ls...)
		}
	}
	switch {
	case len(socks.web) > 0:
		logger.Info("The service manager has opened the sockets, --web.listen-address is not used", "on", addresses(socks.web))
	case *s.web.WebSystemdSocket:
		return socks, errors.New("--web.systemd-socket is given, but the service manager has passed no socket")
	default:
		for _, address := range *s.web.WebListenAddresses {
			if address == "" {
				continue // no port
			}
			l, err := listen.On(address)
			if err != nil {
				return socks, err
			}
			socks.web = append(socks.web, l)
		}
	}
	for _, unix := range []struct {
		flags *socketFlags
		to    *[]net.Listener
	}{{&s.pushSocket, &socks.push}, {&s.readSocket, &socks.read}} {
		if unix.flags.path == "" {
			continue
		}
		l, err := unix.flags.listen()
		if err != nil {
			return socks, err
		}
		*unix.to = append(*unix.to, l)
	}
	if len(socks.all()) == 0 {
		return socks, &usageError{errors.New("--web.listen-address is empty and there is no socket: give an address, --web.metrics-socket or --push.socket")}
	}
	return socks, nil
}

// socketFlags are the flags of a unix socket.
type socketFlags struct {
	flag  string // the one with the path
	path  string
	mode  string // octal
	group string // name or number; empty for the default of the system
}

func (f *socketFlags) addFlags(cmd *kingpin.CmdClause, flag, help, mode string) {
	f.flag = flag
	cmd.Flag(flag, help).StringVar(&f.path)
	cmd.Flag(flag+"-mode", "Mode of --"+flag+".").Default(mode).StringVar(&f.mode)
	cmd.Flag(flag+"-group", "Group of --"+flag+", by name or number; default is that of the agent.").StringVar(&f.group)
}

// parse returns the mode and the group. They must be valid without a path as well.
func (f *socketFlags) parse() (mode fs.FileMode, gid int, err error) {
	bits, err := strconv.ParseUint(f.mode, 8, 32)
	if err != nil || bits > 0o777 {
		return 0, 0, &usageError{fmt.Errorf("--%s-mode: invalid mode %q: want e.g. 0660", f.flag, f.mode)}
	}
	if gid, err = groupNumber(f.group); err != nil {
		return 0, 0, fmt.Errorf("--%s-group: %w", f.flag, err)
	}
	return fs.FileMode(bits), gid, nil
}

func (f *socketFlags) listen() (net.Listener, error) {
	mode, gid, err := f.parse()
	if err != nil {
		return nil, err
	}
	if err := listen.CheckPath(f.path); err != nil {
		return nil, &usageError{fmt.Errorf("--%s: %w", f.flag, err)}
	}
	l, err := listen.Socket{Path: f.path, Mode: mode, GID: gid}.Listen()
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", f.flag, err)
	}
	return l, nil
}

func addresses(listeners []net.Listener) string {
	var all []string
	for _, l := range listeners {
		all = append(all, l.Addr().String())
	}
	return strings.Join(all, " ")
}

// ownership returns the rule for who can change which groups, or nil for none.
func (s *serveCommand) ownership(listeners []net.Listener) (*ingest.Ownership, error) {
	switch {
	case !s.ownerCheck && s.adminGroup != "":
		return nil, &usageError{errors.New("--push.admin-group is for --push.owner-check, which is not given")}
	case !s.ownerCheck:
		return nil, nil
	case !ingest.PeersAreKnown:
		return nil, &usageError{errors.New("--push.owner-check is for Linux only")}
	case !slices.ContainsFunc(listeners, func(l net.Listener) bool { return l.Addr().Network() == "unix" }):
		return nil, &usageError{errors.New("--push.owner-check needs --push.socket: over the network it is not known who pushes")}
	}
	gid, err := groupNumber(s.adminGroup)
	if err != nil {
		return nil, fmt.Errorf("--push.admin-group: %w", err)
	}
	return &ingest.Ownership{AdminGroup: gid}, nil
}

// groupNumber returns the number of a user group given by name or number, or -1 for
// none.
func groupNumber(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	found, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("no group %q: create it (groupadd --system), or use the name or number of another one", group)
	}
	return strconv.Atoi(found.Gid)
}
