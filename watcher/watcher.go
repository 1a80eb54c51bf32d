// Package watcher turns what happens in a directory into two verbs.
//
// What the kernel reports about a directory is a hint and never the truth:
// reports are merged, they overflow, they are missing altogether for some file
// systems, for memory maps and hard links, and a directory that was replaced
// keeps reporting under a name that now belongs to another. So nothing is
// concluded from a report. Whatever happens ends in one of two requests: look
// at these names again (Reload), or look at everything again (Rescan). Both ask
// the directory itself, so an extra one is never wrong, only a missing one is.
//
// From that follow the rules of the package:
//
//   - Watch first, then scan: New arms the watch, and the first thing that Run
//     does is a Rescan. What happens in between waits in the kernel.
//   - One goroutine takes reports from the kernel and only marks names; another
//     one calls the Target. A slow Target never makes the kernel's queue overflow.
//   - A marked name is due a fixed time after its first report. Waiting for
//     quiet instead would let a busy writer postpone the reading for ever.
//   - Every trouble has one cure: after an overflow, an error, or a directory
//     that is removed, replaced, covered by a mount or unmounted, a new watch is
//     made, and then comes a Rescan.
//   - A Rescan comes from time to time in any case. It is all there is where
//     there are no reports, and then the package polls. It never gives up.
package watcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Target is told what may have changed. All calls come from one goroutine,
// the one in Run, one at a time.
type Target interface {
	// Reload brings the named files up to date: they may have appeared,
	// changed or gone, or nothing may have happened to them. It returns the
	// names that it could not settle yet (a writer still has the file open, or
	// what was good has just turned bad); they are asked for again soon, at
	// first after 2 ms, later less often, at last once a second. An error
	// means that nothing is settled: all the names are asked for again.
	//
	// The names are base names, each of them once, in no useful order. The
	// slice belongs to the Target.
	Reload(names ...string) (again []string, err error)

	// Rescan brings everything up to date. The names that it returns are asked
	// for again through Reload. After an error it is called again in about a
	// second. A directory that is not there is no reason to keep what it held:
	// Rescan is called when the directory goes and when it comes back.
	Rescan() (again []string, err error)
}

// A Follower is a Target that has symbolic links, whose targets the kernel does
// not report.
type Follower interface {
	Target

	// Follow brings all symbolic links up to date. The names that it returns are
	// asked for again through Reload. It is called soon after anything was
	// reported in the directory, since that may be a link that others lead over,
	// and each second, for targets elsewhere; less often where the calls would
	// otherwise take over 1 % of a core. A Target without links returns at once.
	Follow() (again []string, err error)
}

// Config says what to watch for. The zero value is ready to use.
type Config struct {
	// Match reports whether the file of this base name matters; nil means that
	// all do. It is called for every report of the kernel, also while the
	// Target runs, so it must be quick and must not wait for the Target.
	Match func(name string) bool

	// Settle is the time from the first report about a name to its Reload.
	// Zero means 20 ms.
	Settle time.Duration

	// Resync is the time from one Rescan to the next where nothing else asks
	// for one; zero means 10 s. It is the age up to which a change can go
	// unnoticed that the kernel does not report. A shorter one is used where
	// there is no watch or the file system is known not to report everything, a
	// longer one where passes would otherwise take over 1 % of a core.
	Resync time.Duration

	// Logger receives what an operator should know; nil discards it.
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

// A Watcher watches one directory. It is made by New and used up by one Run.
// Ping, Mode and Close are safe for concurrent use, also while Run runs.
type Watcher struct {
	dir     string
	cfg     Config
	metrics *metrics
	inbox   *inbox
	open    func(dir string) (*watch, error)

	first    *watch // the watch that New made, nil if it could not; belongs to who claims
	firstErr error  // why it could not
	claimed  atomic.Bool
	mode     atomic.Value // string
	writers  atomic.Pointer[writers]

	loaded bool // the target has read the directory since New

	pings   chan struct{}
	closing sync.Once
	closed  chan struct{}
}

// New starts to watch dir. The kernel keeps what it reports until Run reads it,
// so nothing is lost in between.
//
// It does not matter whether dir can be watched now, or exists: without a watch
// the Watcher polls and tries again from time to time; Mode and a metric tell.
// An error means that the Config or dir is of no use, or that its metrics are
// registered already. A Watcher that is not run must be closed.
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
		dir:    filepath.Clean(dir), // as fsnotify will call it
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

// Loaded says that the target has read the whole directory since New, but for
// the names in again, which it could not settle. Run then does not begin with a
// Rescan, unless there is no watch: what has changed since is reported. It must
// not be called after Run.
func (w *Watcher) Loaded(again ...string) {
	w.loaded = true
	for _, name := range again {
		w.inbox.again(name, 1)
	}
}

// Run tells t what may have changed until ctx ends or the Watcher is closed,
// and then returns nil with everything released; a call of t that is under way
// is waited for. It returns for no other reason, whatever happens to the
// directory. A Watcher runs only once: a second Run returns an error at once,
// as does one after Close.
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
		// Asked here once more, since select picks any of several.
		if ctx.Err() != nil || w.isClosed() {
			return nil
		}
		l.step()
		timer.Reset(time.Until(l.next()))
	}
}

// Ping returns nil as soon as Run is between two pieces of work, and not before
// there is a Run: that it returns shows that no call of the Target hangs. After
// Close it returns nil at once. It returns an error only when ctx ends.
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

// Close releases the watch and unregisters the metrics. A Run under way returns soon after; where there was
// none, there cannot be one any more. A second Close does nothing.
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

// Mode says in a word or three how changes are noticed at this moment:
// "inotify" ("kqueue" outside Linux) if the kernel reports them, "inotify and
// polling" if the file system is one that does not report all of them (network
// file systems, FUSE, overlays), so that everything is read at least every 5 s,
// and "polling" if there is no watch.
func (w *Watcher) Mode() string {
	return w.mode.Load().(string)
}

// setMode notes which watch there is, or why there is none.
func (w *Watcher) setMode(x *watch, err error) {
	if x == nil {
		w.writers.Store(nil)
	} else {
		w.writers.Store(x.writers)
	}
	switch {
	case x == nil && IsDirectoryError(err):
		// There is nothing to watch, which is no failure of watching.
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
