package main

import (
	"cmp"
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
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"github.com/promspool/promspool/cmd/promspool/internal/agents"
	"github.com/promspool/promspool/cmd/promspool/internal/listen"
	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/wording"
	"github.com/promspool/promspool/ingest"
	"github.com/promspool/promspool/systemd"
	"github.com/promspool/promspool/watcher"
)

// An agent serves one spool: the store of its directory, the watcher of that
// directory, the metrics and the HTTP handlers. close ends everything it started.
type agent struct {
	*serveCommand
	set    settings
	logger *slog.Logger
	start  time.Time

	reg, process *prometheus.Registry
	requests     *prometheus.CounterVec
	own          map[string]merge.Own // families of these registries

	mark   *agents.Mark
	others []string // that the log has; used by one goroutine at a time
	watch  *watcher.Watcher
	store  *filestore.Store
	report *reporter
	more   *sources
	aged   *expiryReporter
	hosts  *ingest.HostRule
	router *router

	quitting context.Context // ends when the agent is asked to stop over HTTP
	quit     context.CancelFunc
}

// run starts the agent and blocks until it stops.
func (s *serveCommand) run() error {
	start := time.Now()
	logger := promslog.New(s.log)
	set, err := s.settings()
	if err != nil {
		return err
	}
	if s.persistenceFile != "" {
		logger.Warn("--persistence.file is ignored and not read: every push is stored in the spool before the response", "spool", s.spool)
	}
	if _, note, _ := parseExternalURL(s.externalURL); note != "" {
		logger.Warn("--web.external-url is not a plain URL, and only its path is used: "+note, "url", s.externalURL, "prefix", set.prefix)
	}
	signaled, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer release() // only now: a second signal must not interrupt the shutdown
	socks, err := s.listen(logger)
	defer socks.close()
	if err == nil {
		set.ownership, err = s.ownership(slices.Concat(socks.web, socks.push))
	}
	if err != nil {
		return err
	}
	loadingRuntime()
	a, err := newAgent(s, set, start, logger)
	if err != nil {
		return err
	}
	defer a.close()
	tuneRuntime()
	return a.serve(signaled, socks)
}

// newAgent creates the spool if it does not exist, and reads it. It serves nothing
// yet. The caller closes the agent.
func newAgent(s *serveCommand, set settings, start time.Time, logger *slog.Logger) (_ *agent, err error) {
	a := &agent{serveCommand: s, set: set, logger: logger, start: start}
	a.quitting, a.quit = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	a.reg, a.process, a.requests = newRegistry()
	if s.nodeMetrics {
		a.reg.MustRegister(exporter.NewTextfileCollector(s.spool, func() *merge.View {
			if a.store == nil {
				return nil
			}
			return a.store.View()
		}))
	}
	a.own, err = exporter.OwnFamilies(prometheus.Gatherers{a.reg, a.process})
	if err != nil {
		return nil, fmt.Errorf("describing the agent's own metrics: %w", err)
	}
	if s.nodeMetrics {
		maps.Copy(a.own, exporter.TextfileFamilies)
	}
	if err := a.open(); err != nil {
		return nil, err
	}
	a.store.Observe(observers(a.reg))
	a.aged = newExpiryReporter(a.reg, logger)
	a.reg.MustRegister(exporter.NewCollector(a.store.View))
	a.process.MustRegister(exporter.NewRoom(a.store.Space, s.maxGroups, int64(s.maxSpoolBytes)))
	a.report = newReporter(a.store, logger)
	a.more = &sources{patterns: s.textfiles, spool: s.spool, resync: s.resync, store: a.store, reporter: a.report, reg: a.reg, logger: logger}
	a.more.start()
	a.report.report()
	return a, a.route()
}

// open creates the spool if necessary, watches it, then reads it.
func (a *agent) open() error {
	if created, err := createSpool(a.spool); err != nil {
		return err
	} else if created {
		a.logger.Info("Created the spool", "spool", a.spool)
	}
	a.spool = plainPath(a.spool)
	if err := a.lifetimes.checkArchive(a.spool); err != nil {
		return err
	}
	if fi, err := os.Stat(a.spool); err == nil && fi.Mode().Perm()&0o002 != 0 && fi.Mode()&fs.ModeSticky == 0 {
		a.logger.Warn("The spool is world-writable: every user can replace and delete its files", "spool", a.spool)
	}
	a.mark = agents.New(a.spool)
	a.reportOthers()
	var err error
	if a.watch, err = watchDirectory(a.spool, a.resync, a.reg, a.logger); err != nil {
		return fmt.Errorf("watching the spool: %w", err)
	}
	opts := a.pushLimits.store(a.own)
	opts.Settle, opts.Lifetimes = a.settle, a.set.lifetimes
	if a.store, err = filestore.Open(a.spool, opts); err != nil {
		return err
	}
	a.store.UseReports(a.watch.Written)
	a.watch.Loaded(a.store.Unsettled()...)
	if err := a.store.Health(); errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return err
	} else if err != nil {
		a.logger.Error("The spool is not writable; its files are served", "err", err)
	}
	return nil
}

// route creates the handlers.
func (a *agent) route() error {
	allowed := slices.Clone(a.allowedHosts)
	if u, err := url.Parse(a.externalURL); err == nil && u.Host != "" {
		allowed = append(allowed, u.Host)
	}
	a.hosts = ingest.NewHostRule(allowed...)
	push, err := ingest.New(ingest.Config{
		Store: a.store, Limits: a.limits, MaxBytes: int64(a.maxBytes), UTF8Names: a.utf8Names, StartTime: a.startTime, Unchecked: a.unchecked,
		AllowRemote: a.allowRemote, AllowedHosts: allowed, Admin: a.admin, Ownership: a.set.ownership, Logger: a.logger, Registerer: a.reg, Requests: a.requests,
		Pings: a.pings, MaxSlugs: a.maxSlugs, Boot: a.bootID(),
	})
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	host, _ := os.Hostname() // shown in the page's title
	read := exporter.New(exporter.Config{
		View: a.store.View, Own: a.reg, Process: a.process, OwnFamilies: a.own, Health: a.store.Health, CORSOrigin: a.set.cors, Requests: a.requests, Logger: a.logger, CanWrite: func(r *http.Request) bool { return !isReadOnly(r) && push.MayWrite(r) }, Admin: a.admin, OpenMetrics: a.openMetrics,
		Info: exporter.Info{Build: buildInfo(), Start: a.start, Flags: a.flags(), Spool: a.spool, Host: host, MetricsPath: a.telemetryPath, Watch: a.watch.Mode, Others: a.otherAgents},
	})
	a.router = &router{prefix: a.set.prefix, metrics: a.telemetryPath, push: push, read: read, lifecycle: a.lifecycle, quit: a.quit}
	if a.pprof {
		a.router.profiles = profiles(a.set.prefix)
	}
	return nil
}

// handler returns the handler of all addresses of the agent.
func (a *agent) handler() http.Handler { return a.hosts.Handler(a.router) }

// serve answers requests and keeps the view current until ctx ends or the agent is
// asked to stop. Requests in progress are still answered. It closes the sockets.
func (a *agent) serve(ctx context.Context, socks sockets) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(a.quitting, stop)()

	view := a.store.View().Totals()
	a.logger.Info("Serving", "spool", a.spool, "groups", view.Groups, "files", view.Dropped, "series", view.Series,
		"on", cmp.Or(addresses(socks.web), "sockets only"), "metrics", a.set.prefix+a.telemetryPath, "version", version.Version)
	if len(socks.push) > 0 {
		a.logger.Info("Accepting pushes on a unix socket", "socket", addresses(socks.push))
	}
	if len(socks.read) > 0 {
		a.logger.Info("Serving reads on a unix socket", "socket", addresses(socks.read))
	}
	var group errgroup.Group
	serve := func(listeners []net.Listener, handler http.Handler, how func(net.Listener, *http.Server) error) {
		if len(listeners) == 0 {
			return // the agent stops when one of them ends
		}
		group.Go(func() error {
			defer stop()
			return a.answer(running, listeners, handler, how)
		})
	}
	serve(socks.web, a.handler(), func(l net.Listener, srv *http.Server) error {
		return web.Serve(l, srv, a.web, a.logger)
	})
	// The rights of the file stand for users and TLS.
	serve(socks.push, a.hosts.Handler(a.router.onlyPushAndRead()), nil)
	serve(socks.read, a.hosts.Handler(a.router.onlyRead()), nil)
	group.Go(func() error { return a.watch.Run(running, markedSpool{reported{a.store, a.report}, a.mark}) })
	group.Go(func() error {
		return systemd.Watchdog(running, func() error {
			_ = a.store.Health() // only a hanging disk fails the watchdog; one that returns errors does not
			return a.watch.Ping(running)
		})
	})
	status := statusLine(view, a.spool)
	for _, work := range []func(){
		func() { a.more.run(running) },
		func() {
			a.store.AlignHelp(running, func(err error) {
				a.logger.Warn("Cannot align the HELP texts in group files; retrying", "err", err)
			})
		},
		func() { findLost(running, a.store, a.bootID(), a.jobsInterval, a.logger) },
		func() { a.store.RunExpiry(running, a.aged.report) },
		func() { a.watchOthers(running) },
		func() {
			updateStatus(running, status, func() string { return statusLine(a.store.View().Totals(), a.spool) }, a.logger)
		},
	} {
		group.Go(func() error { work(); return nil })
	}
	if err := systemd.Ready(status); err != nil {
		a.logger.Warn("Cannot notify the service manager that the agent is ready", "err", err)
	}
	err := group.Wait()
	a.logger.Info("Stopped")
	return err
}

// answer serves HTTP on the listeners until ctx ends.
func (a *agent) answer(ctx context.Context, listeners []net.Listener, handler http.Handler, serve func(net.Listener, *http.Server) error) error {
	return listen.Serve(ctx, listeners, listen.Config{
		Handler: handler, MaxConnections: a.maxConnections, ReadTimeout: a.readTimeout, ConnContext: ingest.WithPeer, Serve: serve,
		Stopping: func() { _ = systemd.Stopping() }, // cosmetic: only the status line depends on it
		Logger:   a.logger,
	})
}

// close ends everything that newAgent started. It loses nothing, as every push is
// on disk before the response.
func (a *agent) close() {
	a.quit()
	if a.mark != nil {
		a.mark.Close()
	}
	if a.more != nil {
		a.more.close()
	}
	if a.store != nil {
		_ = a.store.Close()
	}
	if a.watch != nil {
		_ = a.watch.Close()
	}
}

// othersInterval is the time between two searches for other agents for the log.
const othersInterval = time.Minute

// watchOthers reports agents that start to serve the same spool, until ctx ends.
func (a *agent) watchOthers(ctx context.Context) {
	tick := time.NewTicker(othersInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.reportOthers()
	}
}

// reportOthers logs the other agents of the spool if they have changed.
func (a *agent) reportOthers() {
	others, _ := a.otherAgents()
	switch {
	case slices.Equal(others, a.others):
	case len(others) == 0:
		a.logger.Info("No other agent serves the spool any more", "spool", a.spool)
	default:
		a.logger.Warn("Another agent serves the same spool: stop one of them, or give it another --spool.directory", "spool", a.spool, "other", strings.Join(others, ", "))
	}
	a.others = others
}

// otherAgents describes and counts the other agents that serve the spool.
func (a *agent) otherAgents() (names []string, n int) {
	others := a.mark.Others()
	return agents.Names(others), len(others)
}

// statusInterval is the minimum time between two status lines.
const statusInterval = time.Minute

// statusLine returns the line that "systemctl status" shows.
func statusLine(t merge.Totals, spool string) string {
	return "Serving " + wording.Count(t.Groups, "group") + " and " + wording.Count(t.Dropped, "file") + " from " + spool
}

// updateStatus sends the status line whenever it has changed, until ctx ends. last
// is the line that was sent before. A failure is logged once and retried after
// [statusInterval].
func updateStatus(ctx context.Context, last string, line func() string, logger *slog.Logger) {
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := line()
		if now == last {
			continue
		}
		err := systemd.Status(now)
		if err == nil {
			last = now
		} else if !failed {
			logger.Warn("Cannot update the status line of the service manager; retrying each minute", "err", err)
		}
		failed = err != nil
	}
}

// loadingRuntime tunes Go's runtime for reading a spool, and tuneRuntime for serving
// it. Environment variables override both.
func loadingRuntime() {
	if os.Getenv("GOGC") == "" {
		// The heap is growing and contains little garbage.
		debug.SetGCPercent(200)
	}
}

func tuneRuntime() {
	if os.Getenv("GOGC") == "" {
		new(collector).tune()
	}
	if n := runtime.GOMAXPROCS(0); os.Getenv("GOMAXPROCS") == "" && n == runtime.NumCPU() {
		// A goroutine that waits for fsync keeps its P until the runtime's monitor
		// takes it away. With one P per core and many concurrent pushes, a third of
		// the CPU time would be idle. A CPU quota below the number of cores is kept.
		runtime.GOMAXPROCS(n + min(n, 8))
	}
}

// A collector sets GOGC. The heap may grow by two fifths between collections, since
// most of it is text without pointers and cheap to collect. It may grow by
// leastGrowth at least: in a small spool the garbage of a few pushes is half of the heap.
type collector struct{ percent int }

const leastGrowth = 8 << 20

// tune sets GOGC now and after each collection.
func (c *collector) tune() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := int(min(max(leastGrowth*100/max(live[0].Value.Uint64(), 1), 40), 400))
	if d := percent - c.percent; d < -c.percent/8 || d > c.percent/8 { // ignore small changes
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	// The next collection runs this cleanup.
	runtime.AddCleanup(&struct{ _ *collector }{}, (*collector).tune, c)
}
