package watcher

// White-box, see kernel_test.go.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestBusyFileIsNotStarved expects that the settle time counts from the first event.
func TestBusyFileIsNotStarved(t *testing.T) {
	k, d := &kernel{}, &diary{}
	running(t, k, d, Config{Settle: 22 * ms}, func(t *testing.T, w *Watcher) {
		d.want(t, "0s *")
		for range 12 {
			k.write("a.prom")
			time.Sleep(5 * ms)
		}
		time.Sleep(100 * ms)
		d.want(t, "22ms a.prom", "47ms a.prom", "72ms a.prom")
	})
}

func TestDueNamesComeTogether(t *testing.T) {
	k, d := &kernel{}, &diary{takes: 50 * ms}
	match := func(name string) bool { return strings.HasSuffix(name, ".prom") }
	running(t, k, d, Config{Match: match}, func(t *testing.T, w *Watcher) {
		time.Sleep(50 * ms) // the first Rescan
		k.write("a.prom")
		k.write(".a.prom123")
		time.Sleep(25 * ms)
		// The Reload runs from 70ms to 120ms.
		k.write("b.prom")
		time.Sleep(5 * ms)
		k.write("a.prom")
		k.write("c.prom")
		time.Sleep(200 * ms)
		d.want(t, "0s *", "70ms a.prom", "120ms a.prom b.prom c.prom")
	})
}

func TestUnsettledNamesAreRetried(t *testing.T) {
	busy := true
	k, d := &kernel{}, &diary{again: func(string) bool { return busy }}
	running(t, k, d, Config{}, func(t *testing.T, w *Watcher) {
		k.write("a.prom")
		time.Sleep(190 * ms)
		d.want(t, "0s *",
			"20ms a.prom", "22ms a.prom", "26ms a.prom", "34ms a.prom", "50ms a.prom",
			"82ms a.prom", "132ms a.prom", "182ms a.prom")

		time.Sleep(8 * time.Second) // finally once a second
		asked := d.take()
		if last, n := asked[len(asked)-1], len(asked); n < 40 || n > 50 {
			t.Errorf("%d retries in 8s, want about 45; last: %s", n, last)
		}
		time.Sleep(10 * time.Second)
		if n := len(d.take()); n != 10+1 {
			t.Errorf("%d calls in 10s, want 10 and a Rescan", n)
		}

		// An event can only make it earlier.
		k.write("a.prom")
		start := time.Since(d.start)
		time.Sleep(20 * ms)
		d.want(t, fmt.Sprint(start+20*ms, " a.prom"))

		d.set(func(*diary) { busy = false })
		time.Sleep(time.Second)
		d.take()
		time.Sleep(5 * time.Second)
		if got := strings.Join(d.take(), ","); strings.Contains(got, "a.prom") {
			t.Errorf("calls of the target: %q, want none", got)
		}
		if n := w.inbox.len(); n != 0 {
			t.Errorf("%d files pending, want 0", n)
		}
	})
}

func TestEventDoesNotDelayRetry(t *testing.T) {
	k, d := &kernel{}, &diary{again: func(string) bool { return true }}
	running(t, k, d, Config{}, func(t *testing.T, w *Watcher) {
		k.write("a.prom")
		time.Sleep(45 * ms)
		k.write("a.prom") // due at 65ms, but the retry of the file at 50ms
		time.Sleep(10 * ms)
		d.want(t, "0s *", "20ms a.prom", "22ms a.prom", "26ms a.prom", "34ms a.prom", "50ms a.prom")
	})
}

func TestRescanReturnsUnsettledNames(t *testing.T) {
	k, d := &kernel{}, &diary{scanAgain: []string{"a.prom"}}
	running(t, k, d, Config{}, func(t *testing.T, w *Watcher) {
		time.Sleep(time.Second)
		d.want(t, "0s *", "2ms a.prom")
	})
}

func TestFailedReloadIsRetried(t *testing.T) {
	k, d := &kernel{}, &diary{reloadErr: errors.New("reading a directory: too many open files")}
	running(t, k, d, Config{}, func(t *testing.T, w *Watcher) {
		k.write("a.prom")
		k.write("b.prom")
		time.Sleep(22 * ms)
		synctest.Wait()
		d.set(func(d *diary) { d.reloadErr = nil })
		time.Sleep(5 * time.Second)
		d.want(t, "0s *", "20ms a.prom b.prom", "22ms a.prom b.prom", "26ms a.prom b.prom")
	})
}

func TestTroubleCausesNewWatchAndRescan(t *testing.T) {
	for _, test := range []struct {
		name    string
		trouble func(*kernel)
		cause   cause
	}{
		{"overflow", func(k *kernel) { k.errors <- fsnotify.ErrEventOverflow }, causeOverflow},
		{"error", func(k *kernel) { k.errors <- errors.New("short read") }, causeError},
		{"channels closed", (*kernel).drop, causeError},
		{"directory removed", func(k *kernel) { k.events <- fsnotify.Event{Name: "/spool", Op: fsnotify.Remove} }, causeDirectory},
		{"directory moved", func(k *kernel) { k.events <- fsnotify.Event{Name: "/spool", Op: fsnotify.Rename} }, causeDirectory},
		{"directory changed mode", func(k *kernel) { k.events <- fsnotify.Event{Name: "/spool", Op: fsnotify.Chmod} }, causeDirectory},
		{"directory replaced silently", func(k *kernel) { k.set(func(k *kernel) { k.gone = errReplaced }) }, causeDirectory},
	} {
		t.Run(test.name, func(t *testing.T) {
			k, d := &kernel{}, &diary{}
			k.onOpen = func() { k.gone = nil }
			running(t, k, d, Config{Settle: time.Minute}, func(t *testing.T, w *Watcher) {
				d.take()
				k.write("a.prom") // stays marked
				time.Sleep(500 * ms)
				test.trouble(k)
				time.Sleep(1500 * ms)
				synctest.Wait()
				if k.opened != 2 {
					t.Errorf("%d watches were opened, want 2", k.opened)
				}
				if got := d.take(); len(got) != 1 || !strings.HasSuffix(got[0], "*") {
					t.Errorf("calls of the target: %q, want one Rescan", got)
				}
				if n := testutil.ToFloat64(w.metrics.rescans[test.cause]); n != 1 {
					t.Errorf("%v rescans were caused by %s, want 1", n, test.cause)
				}
				time.Sleep(59 * time.Second)
				if got := d.take(); !slices.Contains(got, "1m0s a.prom") {
					t.Errorf("calls of the target: %q, want 1m0s a.prom among them", got)
				}
			})
		})
	}
}

// TestTroubleRate expects that a watch that fails immediately each time does not use up a
// core.
func TestTroubleRate(t *testing.T) {
	k, d := &kernel{}, &diary{takes: 100 * ms}
	k.onOpen = func() {
		errs := k.errors
		go func() { errs <- errors.New("bad file descriptor") }()
	}
	running(t, k, d, Config{}, func(t *testing.T, w *Watcher) {
		time.Sleep(60 * time.Second)
		if n := len(d.take()); n < 30 || n > 70 {
			t.Errorf("%d passes of 100ms in 60s, want about 55: a tenth of the time", n)
		}
	})
}

func TestPollingWithoutWatch(t *testing.T) {
	k, d := &kernel{openErr: fmt.Errorf("starting: %w", syscall.EMFILE)}, &diary{}
	var log bytes.Buffer
	cfg := Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	running(t, k, d, cfg, func(t *testing.T, w *Watcher) {
		if got := w.Mode(); got != "polling" {
			t.Errorf("Mode() = %q, want polling", got)
		}
		time.Sleep(3500 * ms)
		d.want(t, "0s *", "1s *", "2s *", "3s *")
		time.Sleep(5 * time.Minute)
		d.take()

		k.set(func(k *kernel) { k.openErr = nil })
		time.Sleep(31 * time.Second)
		d.take()
		if got := w.Mode(); got != backend {
			t.Errorf("Mode() = %q, want %q", got, backend)
		}
		if n := testutil.ToFloat64(w.metrics.rescans[causeError]); n != 1 {
			t.Errorf("%v rescans after the watch existed, want 1", n)
		}
		time.Sleep(5 * time.Second)
		d.take()
		k.write("a.prom")
		start := time.Since(d.start)
		time.Sleep(20 * ms)
		d.want(t, fmt.Sprint(start+20*ms, " a.prom"))
	})
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("%d lines were logged, want one on the loss and one on the return:\n%s", got, &log)
	}
}

func TestDeletedDirectoryIsRescannedTwice(t *testing.T) {
	k, d := &kernel{}, &diary{}
	running(t, k, d, Config{}, func(t *testing.T, w *Watcher) {
		time.Sleep(500 * ms)
		d.want(t, "0s *")
		k.set(func(k *kernel) { k.openErr = syscall.ENOENT })
		k.events <- fsnotify.Event{Name: "/spool", Op: fsnotify.Remove}
		d.want(t, "500ms *")
		time.Sleep(1200 * ms)
		d.want(t, "1.5s *")
		k.set(func(k *kernel) { k.openErr = nil })
		time.Sleep(700 * ms)
		if n := len(d.take()); n != 1 {
			t.Errorf("%d calls on the return of the directory, want 1", n)
		}
		if n := testutil.ToFloat64(w.metrics.rescans[causeDirectory]); n != 2 {
			t.Errorf("%v rescans were caused by the directory, want 2", n)
		}
	})
}

func TestResync(t *testing.T) {
	for _, test := range []struct {
		name  string
		k     *kernel
		takes time.Duration
		want  []string
	}{
		{"watched", &kernel{}, 0, []string{"0s *", "10s *", "20s *", "30s *", "40s *"}},
		{
			"partly reported", &kernel{partial: "nfs"}, 0,
			[]string{"0s *", "5s *", "10s *", "15s *", "20s *", "25s *", "30s *", "35s *", "40s *"},
		},
		// The duration of the first pass is ignored.
		{"costly", &kernel{}, 200 * ms, []string{"0s *", "10.2s *", "30.4s *"}},
		{"too costly", &kernel{}, time.Minute, []string{"0s *"}},
		{
			"costly to poll", &kernel{openErr: syscall.ENOSPC}, 100 * ms,
			[]string{"0s *", "1.1s *", "11.2s *", "21.3s *", "31.4s *", "41.5s *"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &diary{takes: test.takes}
			running(t, test.k, d, Config{}, func(t *testing.T, w *Watcher) {
				time.Sleep(44 * time.Second)
				d.want(t, test.want...)
			})
		})
	}
}

// TestLoadedTarget expects no first Rescan after Loaded. Only files with events since New
// and the names to retry are reloaded, and later all files regularly.
func TestLoadedTarget(t *testing.T) {
	k, d := &kernel{}, &diary{}
	loaded := func(dir string) (*watch, error) {
		w, err := k.open(dir)
		go k.write("since.prom")
		return w, err
	}
	synctest.Test(t, func(t *testing.T) {
		w, err := newWatcher("/spool", Config{}, loaded)
		if err != nil {
			t.Fatal(err)
		}
		w.Loaded("unsettled.prom")
		d.start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
		defer cancel()
		if err := w.Run(ctx, d); err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		d.want(t, "2ms unsettled.prom", "20ms since.prom", "10s *")
	})
}

// TestLoadedTargetWithoutWatch expects that Run begins with a Rescan without a watch,
// because changes may have been missed.
func TestLoadedTargetWithoutWatch(t *testing.T) {
	k, d := &kernel{openErr: syscall.ENOSPC}, &diary{}
	synctest.Test(t, func(t *testing.T) {
		w, err := newWatcher("/spool", Config{}, k.open)
		if err != nil {
			t.Fatal(err)
		}
		w.Loaded()
		d.start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 100*ms)
		defer cancel()
		if err := w.Run(ctx, d); err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		d.want(t, "0s *")
	})
}

// TestFailedRescan expects that a failed Rescan is retried soon, and that only a new error
// is logged.
func TestFailedRescan(t *testing.T) {
	k, d := &kernel{}, &diary{rescanErr: errors.New("reading the spool: permission denied")}
	var log bytes.Buffer
	cfg := Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	running(t, k, d, cfg, func(t *testing.T, w *Watcher) {
		time.Sleep(1500 * ms)
		d.want(t, "0s *", "1s *")
		d.set(func(d *diary) { d.rescanErr = errors.New("reading the spool: input/output error") })
		time.Sleep(4 * time.Second)
		d.set(func(d *diary) { d.rescanErr = nil })
		time.Sleep(2 * time.Second)
		d.take()
		time.Sleep(8 * time.Second)
		d.want(t)
	})
	if got := strings.Count(log.String(), "\n"); got != 3 {
		t.Errorf("%d lines were logged, want two errors and a return:\n%s", got, &log)
	}
}

// TestStrangeEvents sends impossible events, which must do no harm.
func TestStrangeEvents(t *testing.T) {
	k, d := &kernel{}, &diary{}
	running(t, k, d, Config{}, func(t *testing.T, w *Watcher) {
		for _, name := range []string{"", "/", ".", "..", "\x00", "/spool/", "/spool//", "/spool/\xff\n", "/elsewhere/x"} {
			for _, op := range []fsnotify.Op{0, fsnotify.Create, fsnotify.Chmod, 1 << 31} {
				k.events <- fsnotify.Event{Name: name, Op: op}
			}
		}
		time.Sleep(20 * ms)
		d.want(t, "0s *", "20ms \x00 . .. / spool x \xff\n")
	})
}

// TestPingWaitsForRunningCall expects that Ping does not return while a call of the Target
// runs.
func TestPingWaitsForRunningCall(t *testing.T) {
	k, d := &kernel{}, &diary{takes: 50 * ms}
	running(t, k, d, Config{}, func(t *testing.T, w *Watcher) {
		time.Sleep(10 * ms) // the first Rescan runs
		short, cancel := context.WithTimeout(t.Context(), 20*ms)
		defer cancel()
		if err := w.Ping(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ping() of a busy loop = %v, want the end of the context", err)
		}
		if err := w.Ping(t.Context()); err != nil || time.Since(d.start) != 50*ms {
			t.Errorf("Ping() = %v after %v, want nil after 50ms", err, time.Since(d.start))
		}
		if err := w.Ping(t.Context()); err != nil || time.Since(d.start) != 50*ms {
			t.Errorf("Ping() of an idle loop = %v after %v, want nil at once", err, time.Since(d.start))
		}
		w.Close()
		if err := w.Ping(t.Context()); err != nil {
			t.Errorf("Ping() after Close() = %v, want nil", err)
		}
	})
}
