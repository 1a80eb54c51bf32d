package watcher

// White-box: these tests replace the kernel with made-up events and fake time, because a
// directory cannot produce them on demand.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

// A kernel opens watches on the directory /spool.
type kernel struct {
	mu      sync.Mutex
	events  chan fsnotify.Event // of the last watch
	errors  chan error
	opened  int
	closed  int
	openErr error // if set, opens of watches fail
	gone    error // if set, the directory was replaced
	partial string
	onOpen  func()
}

func (k *kernel) open(string) (*watch, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.openErr != nil {
		return nil, k.openErr
	}
	events, errs := make(chan fsnotify.Event), make(chan error)
	k.events, k.errors = events, errs
	k.opened++
	if k.onOpen != nil {
		k.onOpen()
	}
	return &watch{
		events:  events,
		errors:  errs,
		partial: k.partial,
		check: func() error {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.gone
		},
		close: func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.closed++
			if k.events == events { // else they are closed
				close(errs)
				close(events)
			}
		},
	}, nil
}

// set changes fields.
func (k *kernel) set(change func(*kernel)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k)
}

// write reports a write to the named file.
func (k *kernel) write(name string) {
	k.events <- fsnotify.Event{Name: "/spool/" + name, Op: fsnotify.Write}
}

// drop ends the watch without a call of close.
func (k *kernel) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.errors)
	close(k.events)
	k.errors, k.events = nil, nil
}

// A diary is a Target that records the time of its calls. Its fields set the results and
// the duration of calls.
type diary struct {
	mu      sync.Mutex
	start   time.Time
	entries []string

	again     func(name string) bool
	scanAgain []string
	reloadErr error
	rescanErr error
	takes     time.Duration // a call of either kind
}

func (d *diary) Reload(names ...string) (retry []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(names)
	d.note(strings.Join(names, " "))
	for _, name := range names {
		if d.again != nil && d.again(name) {
			retry = append(retry, name)
		}
	}
	return retry, d.reloadErr
}

func (d *diary) Rescan() (retry []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note("*")
	return d.scanAgain, d.rescanErr
}

func (d *diary) note(what string) {
	d.entries = append(d.entries, fmt.Sprintf("%v %s", time.Since(d.start), what))
	d.mu.Unlock()
	time.Sleep(d.takes)
	d.mu.Lock()
}

// set changes fields.
func (d *diary) set(change func(*diary)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// take waits until the output is complete, and removes and returns it.
func (d *diary) take() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	entries := d.entries
	d.entries = nil
	return entries
}

func (d *diary) want(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, d.take()); diff != "" {
		t.Errorf("calls of the target (-want +got):\n%s", diff)
	}
}

// running runs the test in a bubble of fake time, after a Watcher has started and done its
// first Rescan.
func running(t *testing.T, k *kernel, d *diary, cfg Config, test func(t *testing.T, w *Watcher)) {
	t.Helper()
	runningFor(t, k, d, d, cfg, test)
}

// runningFor is running for a Target that writes to the diary.
func runningFor(t *testing.T, k *kernel, target Target, d *diary, cfg Config, test func(t *testing.T, w *Watcher)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := newWatcher("/spool", cfg, k.open)
		if err != nil {
			t.Fatal(err)
		}
		d.start = time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx, target) }()
		synctest.Wait()
		test(t, w)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		if k.closed != k.opened {
			t.Errorf("%d of %d watches were closed", k.closed, k.opened)
		}
	})
}
