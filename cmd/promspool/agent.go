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
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"github.com/promspool/promspool/cmd/promspool/internal/listen"
	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/wording"
	"github.com/promspool/promspool/ingest"
	"github.com/promspool/promspool/systemd"
)

// run reads like the life of the agent: listeners, metrics, watch, scan,
// handlers, serve, and the way back.
func (s *serve) run() error {
	start := time.Now()
	logger := promslog.New(s.log)
	if err := s.check(); err != nil {
		return err
	}
	lifetimes, err := s.lifetimes.parse()
	if err != nil {
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
		logger.Warn("--persistence.file is ignored, and what it holds is not read: every push is in the spool before it is answered", "spool", s.spool)
	}
	signaled, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer release() // and not before: a second signal must not cut the stop short
	ctx, cancel := context.WithCancel(signaled)
	defer cancel()

	listeners, passed, err := s.listen(logger)
	if err != nil {
		return err
	}
	pushListeners, err := s.listenForPushes(passed)
	if err != nil {
		return err
	}
	for _, l := range pushListeners {
		defer l.Close() //nolint:errcheck // closed by the server, if it came to that
	}
	ownership, err := s.ownership(append(slices.Clone(listeners), pushListeners...))
	if err != nil {
		return err
	}
	reg, process, requests := newRegistry()
	var store *filestore.Store
	if s.nodeMetrics {
		reg.MustRegister(exporter.NewTextfileCollector(s.spool, func() *merge.View {
			if store == nil {
				return nil
			}
			return store.View()
		}))
	}
	own, err := exporter.OwnFamilies(prometheus.Gatherers{reg, process})
	if err != nil {
		return fmt.Errorf("describing the agent's own metrics: %w", err)
	}
	if s.nodeMetrics {
		maps.Copy(own, exporter.TextfileFamilies)
	}
	if created, err := createSpool(s.spool); err != nil {
		return err
	} else if created {
		logger.Info("Created the spool", "spool", s.spool)
	}
	if fi, err := os.Stat(s.spool); err == nil && fi.Mode().Perm()&0o002 != 0 && fi.Mode()&fs.ModeSticky == 0 {
		logger.Warn("Everybody may write to the spool, and remove and replace what others have put there", "spool", s.spool)
	}
	watch, err := watchDirectory(s.spool, s.resync, reg, logger)
	if err != nil {
		return fmt.Errorf("watching the spool: %w", err)
	}
	defer watch.Close() //nolint:errcheck // nothing to lose
	opts := s.pushLimits.store(own)
	opts.Settle, opts.Lifetimes = s.settle, lifetimes
	loadingRuntime()
	store, err = filestore.Open(s.spool, opts)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	store.UseReports(watch.Written)
	watch.Loaded(store.Unsettled()...)
	tuneRuntime()
	if err := store.Health(); errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return err
	} else if err != nil {
		logger.Error("The spool cannot be written; what is there is served", "err", err)
	}
	store.Observe(observers(reg))
	aged := newAgeTeller(reg, logger)
	reg.MustRegister(exporter.NewCollector(store.View))
	process.MustRegister(exporter.NewRoom(store.Space, s.maxGroups, int64(s.maxSpoolBytes)))
	report := newReporter(store, logger)
	more := &sources{patterns: s.textfiles, spool: s.spool, resync: s.resync, store: store, reporter: report, reg: reg, logger: logger}
	more.start()
	report.report()

	allowed := s.allowedHosts
	if u, err := url.Parse(s.externalURL); err == nil && u.Host != "" {
		allowed = append(allowed, u.Host)
	}
	push, err := ingest.New(ingest.Config{
		Store: store, Limits: s.limits, MaxBytes: int64(s.maxBytes), UTF8Names: s.utf8Names, Unchecked: s.unchecked,
		AllowRemote: s.allowRemote, AllowedHosts: allowed, Admin: s.admin, Ownership: ownership, Logger: logger, Registerer: reg, Requests: requests,
		Pings: s.pings, MaxSlugs: s.maxSlugs, Boot: s.bootID(),
	})
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	host, _ := os.Hostname() // the page is not about any other
	read := exporter.New(exporter.Config{
		View: store.View, Own: reg, Process: process, OwnFamilies: own, Health: store.Health, CORSOrigin: cors, Requests: requests, Logger: logger, CanWrite: push.MayWrite, Admin: s.admin,
		Info: exporter.Info{Build: buildInfo(), Start: start, Flags: s.flags(), Spool: s.spool, Host: host, MetricsPath: s.telemetryPath, Watch: watch.Mode},
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
	if len(pushListeners) > 0 {
		logger.Info("Taking pushes over a socket as well", "socket", addresses(pushListeners))
	}
	var group errgroup.Group
	running, stop := context.WithCancel(ctx)
	hosts := ingest.NewHostRule(allowed...)
	group.Go(func() error {
		defer stop()
		return s.serveHTTP(running, listeners, hosts.Handler(handler), logger, func(l net.Listener, srv *http.Server) error {
			return web.Serve(l, srv, s.web, logger)
		})
	})
	group.Go(func() error {
		err := s.serveHTTP(running, pushListeners, hosts.Handler(handler.onlyPushAndRead()), logger, func(l net.Listener, srv *http.Server) error {
			return srv.Serve(l) // the rights of the file stand for users and TLS
		})
		if err != nil {
			stop()
		}
		return err
	})
	group.Go(func() error { return watch.Run(running, reported{store, report}) })
	group.Go(func() error { more.run(running); return nil })
	group.Go(func() error {
		store.AlignHelp(running, func(err error) {
			logger.Warn("HELP texts in files of groups could not be aligned; retrying", "err", err)
		})
		return nil
	})
	group.Go(func() error { findLost(running, store, s.bootID(), s.jobsInterval, logger); return nil })
	group.Go(func() error { store.Age(running, aged.tell); return nil })
	group.Go(func() error {
		return systemd.Watchdog(running, func() error {
			_ = store.Health() // a disk that says no is answering; one that hangs is not
			return watch.Ping(running)
		})
	})
	status := statusLine(view, s.spool)
	if err := systemd.Ready(status); err != nil {
		logger.Warn("The service manager was not told that the agent is ready", "err", err)
	}
	group.Go(func() error {
		updateStatus(running, status, func() string { return statusLine(store.View().Totals(), s.spool) }, logger)
		return nil
	})
	err = group.Wait()
	logger.Info("Stopped")
	return err
}

// serveHTTP answers on the listeners until ctx ends, and then what is in flight.
func (s *serve) serveHTTP(ctx context.Context, listeners []net.Listener, handler http.Handler, logger *slog.Logger, serve func(net.Listener, *http.Server) error) error {
	return listen.Serve(ctx, listeners, listen.Config{
		Handler: handler, MaxConnections: s.maxConnections, ReadTimeout: s.readTimeout, ConnContext: ingest.WithPeer, Serve: serve,
		Stopping: func() { _ = systemd.Stopping() }, // only for a prettier status
		Logger:   logger,
	})
}

// statusInterval is the shortest time between two status lines.
const statusInterval = time.Minute

// statusLine returns the line that "systemctl status" shows.
func statusLine(t merge.Totals, spool string) string {
	return "Serving " + wording.Count(t.Groups, "group") + " and " + wording.Count(t.Dropped, "file") + " from " + spool
}

// updateStatus sends the status line again when it has changed, until ctx ends.
// Last is the line that the service manager has. A failure is retried after
// [statusInterval]; it is logged once.
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
			logger.Warn("The status line of the service manager could not be updated; retrying each minute", "err", err)
		}
		failed = err != nil
	}
}

// loadingRuntime sets up Go's runtime for the reading of a spool, and
// tuneRuntime for the work of an agent that has read it. What is set in the
// environment stays.
func loadingRuntime() {
	if os.Getenv("GOGC") == "" {
		// The heap grows to its size and little of it is garbage.
		debug.SetGCPercent(200)
	}
}

func tuneRuntime() {
	if os.Getenv("GOGC") == "" {
		new(collector).tune()
	}
	if n := runtime.GOMAXPROCS(0); os.Getenv("GOMAXPROCS") == "" && n == runtime.NumCPU() {
		// A goroutine that waits for a flush keeps its place among those that may
		// run until the runtime looks. With a place for each core and many pushes
		// at once the cores would be idle for a third of the time. Where a quota
		// leaves less than the cores Go follows the quota.
		runtime.GOMAXPROCS(n + min(n, 8))
	}
}

// A collector sets by how much the heap may grow between two collections: by two
// fifths of what is alive, since most of it is text without pointers and cheap to
// collect, but by so much at least that a small spool, in which the garbage of a
// few pushes is half of the heap, does not collect all the time.
type collector struct{ percent int }

const leastGrowth = 8 << 20

// tune sets it now and after each collection.
func (c *collector) tune() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := int(min(max(leastGrowth*100/max(live[0].Value.Uint64(), 1), 40), 400))
	if d := percent - c.percent; d < -c.percent/8 || d > c.percent/8 { // else it is not worth it
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	// The next collection finds this and tells.
	runtime.AddCleanup(&struct{ _ *collector }{}, (*collector).tune, c)
}
