package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
	"golang.org/x/sync/errgroup"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
	"github.com/promspool/promspool/systemd"
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

	emptyInstance bool
	allowRemote   bool
	unchecked     bool
	utf8Names     bool
	maxBytes      int64
	limits        filestore.Limits

	textfiles    []string
	nodeMetrics  bool
	maxGroups    int
	maxFailed    int
	maxFileBytes int64
	settle       time.Duration
	resync       time.Duration

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
	cmd.Flag("web.enable-admin-api", "Allow to delete all groups by a PUT to /api/v1/admin/wipe.").BoolVar(&s.admin)
	cmd.Flag("web.enable-pprof", "Serve profiles of the agent under /debug/pprof/ to this host.").BoolVar(&s.pprof)
	cmd.Flag("web.cors.origin", "Regular expression of the origins whose pages may read the JSON API.").StringVar(&s.corsOrigin)
	cmd.Flag("web.allowed-host", "A further name by which browsers may address this host; repeatable.").StringsVar(&s.allowedHosts)
	cmd.Flag("web.read-timeout", "How long a request may take to arrive.").Default("10s").DurationVar(&s.readTimeout)
	cmd.Flag("push.empty-instance-label", `Give pushed metrics without an instance the label instance="", as Pushgateway does.`).BoolVar(&s.emptyInstance)
	cmd.Flag("push.allow-remote", "Accept pushes and deletions from other hosts.").BoolVar(&s.allowRemote)
	cmd.Flag("push.disable-consistency-check", "Accept pushes that contradict others; what contradicts is left out of the scrape.").BoolVar(&s.unchecked)
	cmd.Flag("push.enable-utf8-names", "Accept names outside of [a-zA-Z_:][a-zA-Z0-9_:]*. node_exporter refuses the files of such groups.").BoolVar(&s.utf8Names)
	cmd.Flag("push.max-bytes", "Size up to which the body of a push is taken, decompressed.").Default("16777216").Int64Var(&s.maxBytes)
	cmd.Flag("push.max-series", "Number of samples up to which a push is taken.").Default("100000").IntVar(&s.limits.Series)
	cmd.Flag("push.max-labels", "Number of labels that a sample or a grouping key may have.").Default("64").IntVar(&s.limits.Labels)
	cmd.Flag("push.max-label-name-bytes", "Length up to which a label name is taken.").Default("256").IntVar(&s.limits.LabelName)
	cmd.Flag("push.max-label-value-bytes", "Length up to which a label value is taken.").Default("16384").IntVar(&s.limits.LabelValue)
	cmd.Flag("push.max-failed-groups", "Number of groups up to which refused pushes leave a record of their failure in a group of their own.").Default("1000").IntVar(&s.maxFailed)
	cmd.Flag("spool.textfile-directory", "A further directory of .prom files, which is only read; a glob pattern, repeatable.").StringsVar(&s.textfiles)
	cmd.Flag("spool.node-exporter-metrics", "Also expose node_textfile_mtime_seconds and node_textfile_scrape_error, for alerts written for node_exporter.").BoolVar(&s.nodeMetrics)
	cmd.Flag("spool.max-groups", "Number of groups up to which pushes may create new ones; 0 for any.").Default("0").IntVar(&s.maxGroups)
	cmd.Flag("spool.max-file-bytes", "Size up to which a file is read.").Default("16777216").Int64Var(&s.maxFileBytes)
	cmd.Flag("spool.settle", "How long a dropped file has to rest before a change of it is read, for writers that close it half-way.").Default("0s").DurationVar(&s.settle)
	cmd.Flag("spool.resync", "How often the directory is compared with what is served, whatever the kernel reports.").Default("10s").DurationVar(&s.resync)
	cmd.Flag("persistence.file", "Accepted for Pushgateway's sake and ignored: every push is on disk.").StringVar(&s.persistenceFile)
	cmd.Flag("persistence.interval", "Accepted for Pushgateway's sake and ignored.").Default("5m").DurationVar(&s.persistenceInterval)
	commands[cmd.FullCommand()] = s.run
}

// run reads like the life of the agent: listeners, metrics, watch, scan,
// handlers, serve, and the way back.
func (s *serve) run() error {
	start := time.Now()
	logger := promslog.New(s.log)
	if os.Getenv("GOGC") == "" {
		// Most of the heap is text without pointers: collecting it more often costs little.
		debug.SetGCPercent(50)
	}
	if err := s.check(); err != nil {
		return err
	}
	prefix, err := s.prefix()
	if err != nil {
		return err
	}
	var cors *regexp.Regexp
	if s.corsOrigin != "" {
		if cors, err = regexp.Compile("^(?:" + s.corsOrigin + ")$"); err != nil {
			return fmt.Errorf("--web.cors.origin: %w", err)
		}
	}
	if s.persistenceFile != "" {
		logger.Warn("--persistence.file is ignored: every push is on disk before it is answered", "spool", s.spool)
	}
	signaled, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer release() // and not before: a second signal must not cut the stop short
	ctx, cancel := context.WithCancel(signaled)
	defer cancel()

	listeners, err := s.listen()
	if err != nil {
		return err
	}
	reg, requests := newRegistry()
	var store *filestore.Store
	if s.nodeMetrics {
		reg.MustRegister(exporter.NewTextfileCollector(s.spool, func() *filestore.View {
			if store == nil {
				return nil
			}
			return store.View()
		}))
	}
	own, err := exporter.OwnFamilies(reg)
	if err != nil {
		return fmt.Errorf("describing the agent's own metrics: %w", err)
	}
	if s.nodeMetrics {
		maps.Copy(own, exporter.TextfileFamilies)
	}
	if err := os.MkdirAll(s.spool, 0o755); err != nil {
		return fmt.Errorf("creating the spool: %w", err)
	}
	watch, err := watchDirectory(s.spool, s.resync, reg, logger)
	if err != nil {
		return fmt.Errorf("watching the spool: %w", err)
	}
	defer watch.Close() //nolint:errcheck // nothing to lose
	store, err = filestore.Open(s.spool, &filestore.Options{
		Own: own, EmptyInstance: s.emptyInstance, Unchecked: s.unchecked, MaxGroups: s.maxGroups, MaxFailedGroups: s.maxFailed, MaxFileBytes: s.maxFileBytes, Settle: s.settle,
	})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	if err := store.Health(); errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return err
	} else if err != nil {
		logger.Error("The spool cannot be written; what is there is served", "err", err)
	}
	store.Observe(observers(reg))
	reg.MustRegister(exporter.NewCollector(store.View))
	report := newReporter(store, logger)
	more := &sources{patterns: s.textfiles, spool: s.spool, resync: s.resync, store: store, reporter: report, reg: reg, logger: logger}
	more.start()
	report.report()

	allowed := s.allowedHosts
	if u, err := url.Parse(s.externalURL); err == nil && u.Host != "" {
		allowed = append(allowed, u.Host)
	}
	push, err := ingest.New(ingest.Config{
		Store: store, Limits: s.limits, MaxBytes: s.maxBytes, UTF8Names: s.utf8Names, Unchecked: s.unchecked,
		AllowRemote: s.allowRemote, AllowedHosts: allowed, Admin: s.admin, Logger: logger, Registerer: reg, Requests: requests,
	})
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	read := exporter.New(exporter.Config{
		View: store.View, Own: reg, OwnFamilies: own, Health: store.Health, CORSOrigin: cors, Requests: requests, Logger: logger,
		Info: exporter.Info{Build: buildInfo(), Start: start, Flags: s.flags(), Spool: s.spool, MetricsPath: prefix + s.telemetryPath, Watch: watch.Mode},
	})
	handler := &router{prefix: prefix, metrics: s.telemetryPath, push: push, read: read, quit: func() {}}
	if s.pprof {
		handler.profiles = profiles(prefix)
	}
	if s.lifecycle {
		handler.quit, handler.lifecycle = cancel, true
	}

	view := store.View().Totals()
	logger.Info("Serving", "spool", s.spool, "groups", view.Groups, "files", view.Dropped, "series", view.Series,
		"on", addresses(listeners), "metrics", prefix+s.telemetryPath, "version", version.Version)
	var group errgroup.Group
	running, stop := context.WithCancel(ctx)
	group.Go(func() error {
		defer stop()
		return s.serveHTTP(running, listeners, ingest.NewHostRule(allowed...).Handler(handler), logger)
	})
	group.Go(func() error { return watch.Run(running, reported{store, report}) })
	group.Go(func() error { more.run(running); return nil })
	group.Go(func() error { settleHelp(running, store, logger); return nil })
	group.Go(func() error {
		return systemd.Watchdog(running, func() error {
			_ = store.Health() // a disk that says no is answering; one that hangs is not
			return nil
		})
	})
	if err := systemd.Ready(fmt.Sprintf("Serving %d groups and %d files from %s", view.Groups, view.Dropped, s.spool)); err != nil {
		logger.Warn("The service manager was not told that the agent is ready", "err", err)
	}
	err = group.Wait()
	logger.Info("Stopped")
	return err
}

// check looks at what the flags say before anything is opened.
func (s *serve) check() error {
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

// listen opens the sockets first of all: a port that is taken is told at once,
// and what connects while the spool is read waits and is answered then.
func (s *serve) listen() ([]net.Listener, error) {
	var all []net.Listener
	if *s.web.WebSystemdSocket {
		named, err := systemd.Listeners()
		if err != nil {
			return nil, fmt.Errorf("taking the sockets of the service manager: %w", err)
		}
		for _, ls := range named {
			all = append(all, ls...)
		}
		if len(all) == 0 {
			return nil, errors.New("--web.systemd-socket is given, but the service manager has passed no socket")
		}
		return all, nil
	}
	for _, address := range *s.web.WebListenAddresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w", address, plainCause(err))
		}
		all = append(all, l)
	}
	return all, nil
}

// plainCause is the error below the address, which the sentence has already.
func plainCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func addresses(listeners []net.Listener) string {
	var all []string
	for _, l := range listeners {
		all = append(all, l.Addr().String())
	}
	return strings.Join(all, " ")
}

// shutdownPatience is how long requests in flight have to end after a signal.
const shutdownPatience = 15 * time.Second

// serveHTTP answers on all listeners until ctx ends, and then what is in flight.
func (s *serve) serveHTTP(ctx context.Context, listeners []net.Listener, handler http.Handler, logger *slog.Logger) error {
	var group errgroup.Group
	done, stop := context.WithCancel(ctx)
	defer stop()
	for _, l := range listeners {
		// One server for each: the toolkit wraps its handler.
		srv := &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: min(s.readTimeout, 10*time.Second),
			ReadTimeout:       s.readTimeout,
			WriteTimeout:      s.readTimeout + time.Minute,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    256 << 10,
			ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		}
		group.Go(func() error {
			defer stop()
			if err := web.Serve(l, srv, s.web, logger); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving on %s: %w", l.Addr(), err)
			}
			return nil
		})
		group.Go(func() error {
			<-done.Done()
			_ = systemd.Stopping() // only for a prettier status
			ctx, cancel := context.WithTimeout(context.Background(), shutdownPatience)
			defer cancel()
			if err := srv.Shutdown(ctx); err != nil {
				return fmt.Errorf("stopping: requests were still in flight after %s", shutdownPatience)
			}
			return nil
		})
	}
	return group.Wait()
}

// settleHelp lets changed HELP texts through, off the path of pushes.
func settleHelp(ctx context.Context, store *filestore.Store, logger *slog.Logger) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := store.SettleHelp(ctx); err != nil && ctx.Err() == nil {
				logger.Warn("HELP texts could not be settled, trying again", "err", err)
			}
		}
	}
}

// newRegistry returns the registry of the agent's own metrics and the counter of
// its answers.
func newRegistry() (*prometheus.Registry, *prometheus.CounterVec) {
	reg := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promspool_http_requests_total",
		Help: "Requests answered, by handler, status code and method.",
	}, []string{"handler", "code", "method"})
	requests.WithLabelValues("push", "200", "put") // there from the start, so that it is known as ours
	reg.MustRegister(
		requests,
		legacyCounter{requests},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("promspool"),
	)
	return reg, requests
}

// observers registers histograms of how long the steps of a commit take.
func observers(reg prometheus.Registerer) filestore.Observers {
	buckets := prometheus.ExponentialBuckets(0.0001, 2.5, 12)
	flush := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "promspool_flush_duration_seconds", Help: "How long it took to flush a file or the directory to the disk.", Buckets: buckets,
	})
	commit := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "promspool_commit_duration_seconds", Help: "How long it took to make a push durable, from the first byte written.", Buckets: buckets,
	})
	reg.MustRegister(flush, commit)
	return filestore.Observers{Flush: flush.Observe, Commit: commit.Observe}
}

func buildInfo() map[string]string {
	return map[string]string{
		"version": version.Version, "revision": version.Revision, "branch": version.Branch,
		"buildUser": version.BuildUser, "buildDate": version.BuildDate, "goVersion": runtime.Version(),
	}
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
