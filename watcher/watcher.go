// Package watcher watches a directory and requests reloads or rescans.
//
// The kernel's events are only hints. They are merged and overflow. Some file
// systems, memory maps and hard links have none. A replaced directory still reports
// under a name that now belongs to another one. So each event leads to
// one of two requests: read these names again (Reload), or read everything again
// (Rescan). Both read the directory itself, so an unnecessary request is harmless.
//
// The rules of the package follow from that:
//
//   - Watch first, then scan: New arms the watch, and Run begins with a Rescan. The
//     kernel queues events meanwhile.
//   - One goroutine receives events from the kernel and only marks names; another
//     one calls the Target. A slow Target never makes the kernel's queue overflow.
//   - A marked name is due a fixed time after its first event, so a busy writer
//     cannot postpone the reading.
//   - Every trouble is handled the same way. After an overflow, an error, or a
//     directory that is deleted, replaced, covered by a mount or unmounted, the
//     package creates a new watch and then requests a Rescan.
//   - A Rescan is also requested at a regular interval. Where the kernel reports
//     no events, the package polls.
package watcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Target reads the directory on request. All calls come from the goroutine of Run,
// one at a time.
type Target interface {
	// Reload reads the named files again. They may be new, changed, deleted or
	// unchanged. It returns the names to retry: a writer still has the file open, or a
	// valid file has just become invalid. The first retry comes after 2 ms, later ones
	// less often, down to once a second. After an error all names are retried.
	//
	// The names are base names without duplicates, in no order. The slice belongs to
	// the Target.
	Reload(names ...string) (retry []string, err error)

	// Rescan reads the whole directory again. The names that it returns are retried
	// through Reload. After an error it is called again in about a second. It is
	// called when the directory disappears, to drop its files, and when it returns.
	Rescan() (retry []string, err error)
}

// A Follower is a Target that has symbolic links, whose targets the kernel does
// not report.
type Follower interface {
	Target

	// Follow reads the targets of all symbolic links again. The names that it returns
	// are retried through Reload. It is called soon after each event in the directory,
	// because other links may lead through the changed name, and each second, for
	// targets elsewhere. It is called less often if the calls would take over 1 % of a
	// core. A Target without links returns at once.
	Follow() (retry []string, err error)
}

// Config configures a Watcher. The zero value is ready to use.
type Config struct {
	// Match reports whether a file with this base name is watched; nil means all. It
	// is called for every report of the kernel, also while the Target runs, so it
	// must be fast and must not wait for the Target.
	Match func(name string) bool

	// Settle is the time from the first report about a name to its Reload.
	// Zero means 20 ms.
	Settle time.Duration

	// Resync is the regular interval of Rescans; zero means 10 s. It bounds the
	// delay of changes that the kernel does not report. The interval is shorter
	// without a watch or on a file system that does not report everything, and
	// longer if passes would otherwise take over 1 % of a core.
	Resync time.Duration

	// Logger receives messages for operators; nil discards them.
	Logger *slog.Logger

	// Registerer receives the metrics of this Watcher; nil means none. Two
	// Watchers on one Registerer need a distinguishing label each, see
	// prometheus.WrapRegistererWith.
	Registerer prometheus.Registerer
}

const (
	defaultSettle = 20 * time.Millisecond
	defaultResync = 10 * time.Second
)

// A Watcher watches one directory. New creates it, and it runs once.
// Ping, Mode and Close are safe for concurrent use, also while Run runs.
type Watcher struct {
	dir     string
	cfg     Config
	metrics *metrics
	inbox   *inbox
	open    func(dir string) (*watch, error)

	first    *watch // the watch of New, nil after an error; owned by the caller of claim
	firstErr error  // the error of New
	claimed  atomic.Bool
	mode     atomic.Value // string
	writers  atomic.Pointer[writers]

	loaded bool // the target has read the directory since New

	pings   chan struct{}
	closing sync.Once
	closed  chan struct{}
}

// New starts to watch dir. The kernel queues events until Run reads them.
//
// dir need not exist. Without a watch the Watcher polls and retries; Mode and a
// metric report that. An error means that the Config or dir is invalid, or that its
// metrics are already registered. A Watcher that does not run must be closed.
func New(dir string, cfg Config) (*Watcher, error) {
	match := cfg.Match
	if match == nil {
		match = func(string) bool { return true }
	}
	return newWatcher(dir, cfg, func(dir string) (*watch, error) { return openWatch(dir, match) })
}

func newWatcher(dir string, cfg Config, open func(string) (*watch, error)) (*Watcher, error) {
	switch {
	case dir == "":
		return nil, errors.New("watching a directory: its name is empty")
	case cfg.Settle < 0:
		return nil, fmt.Errorf("watching %s: settle time %v is negative", dir, cfg.Settle)
	case cfg.Resync < 0:
		return nil, fmt.Errorf("watching %s: resync time %v is negative", dir, cfg.Resync)
	}
	if cfg.Match == nil {
		cfg.Match = func(string) bool { return true }
	}
	if cfg.Settle == 0 {
		cfg.Settle = defaultSettle
	}
	if cfg.Resync == 0 {
		cfg.Resync = defaultResync
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}

	w := &Watcher{
		dir:    filepath.Clean(dir), // the form that fsnotify reports
		cfg:    cfg,
		open:   open,
		pings:  make(chan struct{}),
		closed: make(chan struct{}),
	}
	w.inbox = newInbox(w.dir, cfg.Match, cfg.Settle)
	w.metrics = newMetrics(w.inbox)
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(w.metrics); err != nil {
			return nil, fmt.Errorf("registering the metrics of the watch on %s: %w", dir, err)
		}
	}
	w.first, w.firstErr = open(w.dir)
	w.setMode(w.first, w.firstErr)
	return w, nil
}

// Loaded declares that the Target has read the whole directory since New, except for
// the given names to retry. Run then does not begin with a Rescan, unless it has no
// watch. It must not be called after Run.
func (w *Watcher) Loaded(retry ...string) {
	w.loaded = true
	for _, name := range retry {
		w.inbox.retry(name, 1)
	}
}

// Run calls t until ctx ends or the Watcher is closed. It waits for a running call of
// t, releases everything and returns nil. It does not return because of the
// directory. A Watcher runs only once: a second Run returns an error at once, as
// does one after Close.
func (w *Watcher) Run(ctx context.Context, t Target) error {
	if !w.claimed.CompareAndSwap(false, true) {
		return fmt.Errorf("running the watch on %s: it has been run or closed", w.dir)
	}
	l := newLoop(w, t)
	defer l.end()
	l.start()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-w.closed:
		case <-w.pings:
			continue
		case <-w.inbox.wake:
		case <-timer.C:
		}
		// Checked once more, because select picks any ready case.
		if ctx.Err() != nil || w.isClosed() {
			return nil
		}
		l.step()
		timer.Reset(time.Until(l.next()))
	}
}

// Ping returns nil as soon as Run is between two steps, which shows that no call of
// the Target hangs. Before Run it waits. After Close it returns nil at once. It
// returns an error only when ctx ends.
func (w *Watcher) Ping(ctx context.Context) error {
	select {
	case w.pings <- struct{}{}:
		return nil
	case <-w.closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the watch on %s: %w", w.dir, ctx.Err())
	}
}

// Close releases the watch and unregisters the metrics. A running Run returns soon after,
// and a later one fails. A second Close does nothing.
func (w *Watcher) Close() error {
	w.closing.Do(func() {
		close(w.closed)
		if w.claimed.CompareAndSwap(false, true) && w.first != nil {
			w.first.close()
		}
		if w.cfg.Registerer != nil {
			w.cfg.Registerer.Unregister(w.metrics)
		}
	})
	return nil
}

func (w *Watcher) isClosed() bool {
	select {
	case <-w.closed:
		return true
	default:
		return false
	}
}

// Mode returns how changes are detected at the moment. It is "inotify" ("kqueue" outside
// Linux) if the kernel reports them. It is "inotify and polling" on file systems that do
// not report all changes (network file systems, FUSE, overlays), which are read at least
// every 5 s. Without a watch it is "polling".
func (w *Watcher) Mode() string {
	return w.mode.Load().(string)
}

// setMode records the kind of watch, or the error that prevents one.
func (w *Watcher) setMode(x *watch, err error) {
	if x == nil {
		w.writers.Store(nil)
	} else {
		w.writers.Store(x.writers)
	}
	switch {
	case x == nil && IsDirectoryError(err) && !errors.Is(err, fs.ErrPermission):
		// A missing directory, or a file in its place, is not a failure to watch.
		w.mode.Store("polling")
		w.metrics.armed.Set(1)
	case x == nil:
		w.mode.Store("polling")
		w.metrics.armed.Set(0)
	case x.partial != "":
		w.mode.Store(backend + " and polling")
		w.metrics.armed.Set(1)
	default:
		w.mode.Store(backend)
		w.metrics.armed.Set(1)
	}
}
