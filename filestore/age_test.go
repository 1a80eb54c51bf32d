package filestore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

// aging is a store that runs the expiry, with a clock that the test sets.
type aging struct {
	*filestore.Store
	t      *testing.T
	offset atomic.Int64 // of the clock, in nanoseconds
	stop   func()

	mu     sync.Mutex
	events []string
}

func (a *aging) now() time.Time { return time.Now().Add(time.Duration(a.offset.Load())) }

func startAging(t *testing.T, dir string, offset time.Duration, l record.Lifetimes) *aging {
	t.Helper()
	a := &aging{t: t}
	a.offset.Store(int64(offset))
	a.Store = must1(filestore.Open(dir, &filestore.Options{Now: a.now, Lifetimes: l}))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		a.RunExpiry(ctx, func(x filestore.ExpiryEvent) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.events = append(a.events, fmt.Sprintf("%s %s %v", x.Stage, x.File, x.Err))
		})
	})
	a.stop = func() {
		cancel()
		group.Wait()
		must(t, a.Close())
	}
	return a
}

// after lets time pass and checks whether the payload is in the view and in the file.
func (a *aging) after(what string, d time.Duration, served, onDisk bool) {
	a.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if text := string(a.View().AppendTo(nil)); strings.Contains(text, "\nm{") != served || strings.Contains(text, "promspool_group_expired{") == served {
		a.t.Errorf("%s: the view has\n%s", what, text)
	}
	if text := read(a.t, filepath.Join(a.Path(), "job=j.prom")); strings.Contains(text, "\nm{") != onDisk {
		a.t.Errorf("%s: the file is\n%s", what, text)
	}
}

func TestRunExpiry(t *testing.T) {
	g := group(t, "job", "j")
	push := func(a *aging) {
		must(t, a.Replace(g, families(t, "# TYPE m gauge\nm 1\n"), record.PushOptions{TTL: ttl(time.Hour)}))
	}
	bubble := func(name string, f func(t *testing.T, dir string)) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { f(t, dir) })
		})
	}
	bubble("no jump", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{Retention: time.Hour})
		defer a.stop()
		push(a)
		a.after("just before the end", time.Hour-time.Second, true, true)
		push(a)
		a.after("pushed again", time.Hour-time.Second, true, true)
		a.after("at the end", time.Second, false, false)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := fmt.Sprint(a.events); got != "[withheld job=j.prom <nil> archived job=j.prom <nil>]" || a.View().File(g.FileName()) != nil {
			t.Errorf("the events are %s", got)
		}
	})
	bubble("a jump forward and back", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a)
		a.after("before the jump", 10*time.Minute, true, true)
		a.offset.Store(int64(1000 * time.Hour))
		a.after("after the jump", 4*time.Minute, true, true)
		a.offset.Store(0)
		a.after("after the jump back", 40*time.Minute, true, true)
		a.after("at the end", 7*time.Minute, false, false)
	})
	bubble("a permanent jump forward", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a)
		a.after("before the jump", 10*time.Minute, true, true)
		a.offset.Store(int64(1000 * time.Hour))
		a.after("after the jump", 4*time.Minute, true, true)
		a.after("confirmed", 2*time.Minute, false, false)
	})
	bubble("a start with a wrong clock", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		push(a)
		synctest.Wait()
		a.stop()
		a = startAging(t, dir, 1000*time.Hour, record.Lifetimes{})
		defer a.stop()
		a.after("after the start", time.Minute, false, true)
		a.offset.Store(0)
		a.after("corrected", time.Minute, true, true)
		a.after("at the end", time.Hour, false, false)
	})
	bubble("a start after the end", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		push(a)
		a.stop()
		time.Sleep(time.Hour)
		a = startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		a.after("at once", 0, false, true)
		a.after("stable clock", 6*time.Minute, false, false)
	})
	bubble("a locked directory", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a)
		other := must1(os.OpenFile(filepath.Join(dir, ".promspool.lock"), unix.O_NONBLOCK, 0))
		must(t, unix.Flock(int(other.Fd()), unix.LOCK_EX))
		a.after("at the end", time.Hour+time.Minute, false, true)
		must(t, other.Close())
		a.after("after a retry", 2*time.Minute, false, false)
		if len(a.events) < 2 || !strings.Contains(a.events[0], filestore.ErrBusy.Error()) {
			t.Errorf("the events are %q", a.events)
		}
	})
}

// TestShortLifetime expects that the end of a short lifetime is written to the file at
// once. The monotonic clock proves it, so the host's clock need not be stable.
func TestShortLifetime(t *testing.T) {
	g := group(t, "job", "j")
	push := func(a *aging, lifetime time.Duration) {
		t.Helper()
		must(t, a.Replace(g, families(t, "# TYPE m gauge\nm 1\n"), record.PushOptions{TTL: ttl(lifetime)}))
	}
	bubble := func(name string, f func(t *testing.T, dir string)) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { f(t, dir) })
		})
	}
	bubble("just after the start", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a, time.Second)
		a.after("just before the end", time.Second-1, true, true)
		a.after("at the end", 1, false, false)
		push(a, 10*time.Second)
		a.after("pushed again", 0, true, true)
		a.after("at the end of the second", time.Minute, false, false)
	})
	bubble("a rejected push in between", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a, 4*time.Second)
		time.Sleep(time.Second)
		must(t, a.Fail(g))
		a.after("after the rejected push", 3*time.Second-1, true, true)
		a.after("at the end", 1, false, false)
	})
	bubble("just after a jump of the clock", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		a.offset.Store(int64(-1000 * time.Hour))
		time.Sleep(time.Minute)
		push(a, time.Second)
		a.after("at the end", time.Second, false, false)
	})
	bubble("a file from before the start", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		push(a, 2*time.Second)
		a.stop()
		a = startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		a.after("at the end", 2*time.Second, false, true)
		a.after("clock not yet stable", 4*time.Minute, false, true)
		a.after("stable clock", 2*time.Minute, false, false)
	})
	bubble("a push by another process", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a, 10*time.Second)
		other := must1(filestore.Open(dir, &filestore.Options{Now: a.now}))
		defer other.Close()
		time.Sleep(time.Second)
		must(t, other.Replace(g, families(t, "# TYPE m gauge\nm 1\n"), record.PushOptions{TTL: ttl(2 * time.Second)}))
		must1(a.Rescan())
		a.after("at the end", 2*time.Second, false, true)
		a.after("stable clock", 6*time.Minute, false, false)
	})
	bubble("a locked directory", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a, time.Second)
		other := must1(os.OpenFile(filepath.Join(dir, ".promspool.lock"), unix.O_NONBLOCK, 0))
		must(t, unix.Flock(int(other.Fd()), unix.LOCK_EX))
		a.after("at the end", time.Second, false, true)
		time.Sleep(10 * time.Second)
		must(t, other.Close())
		a.after("after a retry", 2*time.Minute, false, false)
	})
}

// TestRewriteLimit repeats pushes that expire before the next one. Files are rewritten,
// but for fewer than half of the pushes.
func TestRewriteLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		groups, rounds int
		every          time.Duration
		young          bool // less than five minutes after the start
	}{
		"one group, every second":   {1, 300, time.Second, true},
		"one group, every 3 s":      {1, 100, 3 * time.Second, true},
		"one group, stable clock":   {1, 100, 3 * time.Second, false},
		"many groups, every 10 s":   {300, 4, 10 * time.Second, true},
		"many groups, stable clock": {300, 4, 10 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				a := startAging(t, dir, 0, record.Lifetimes{})
				defer a.stop()
				if !tt.young {
					time.Sleep(6 * time.Minute)
				}
				for range tt.rounds {
					for i := range tt.groups {
						must(t, a.Replace(group(t, "job", fmt.Sprint("j", i)), families(t, "# TYPE m gauge\nm 1\n"), record.PushOptions{TTL: ttl(time.Second)}))
					}
					time.Sleep(tt.every)
				}
				synctest.Wait()
				a.mu.Lock()
				n := len(a.events)
				a.mu.Unlock()
				if pushes := tt.groups * tt.rounds; n == 0 || 2*n > pushes {
					t.Errorf("%d rewrites for %d pushes, want some, and less than half as many", n, pushes)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				for i := range tt.groups {
					if text := read(t, filepath.Join(dir, fmt.Sprintf("job=j%d.prom", i))); !strings.Contains(text, "\n# promspool:expired ") {
						t.Errorf("a minute after the last push the file of group %d is\n%s", i, text)
					}
				}
			})
		})
	}
}
