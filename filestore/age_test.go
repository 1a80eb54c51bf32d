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

// aging is a store whose files age, with a clock that a test may set.
type aging struct {
	*filestore.Store
	t      *testing.T
	offset atomic.Int64 // of the clock, in nanoseconds
	stop   func()

	mu   sync.Mutex
	told []string
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
			a.told = append(a.told, fmt.Sprintf("%s %s %v", x.Stage, x.File, x.Err))
		})
	})
	a.stop = func() {
		cancel()
		group.Wait()
		must(t, a.Close())
	}
	return a
}

// after lets time pass and checks what is served, and what the directory says.
func (a *aging) after(what string, d time.Duration, served, onDisk bool) {
	a.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if text := string(a.View().AppendTo(nil)); strings.Contains(text, "\nm{") != served || strings.Contains(text, "promspool_group_expired{") == served {
		a.t.Errorf("%s: served is\n%s", what, text)
	}
	if text := read(a.t, filepath.Join(a.Path(), "job=j.prom")); strings.Contains(text, "\nm{") != onDisk {
		a.t.Errorf("%s: the file is\n%s", what, text)
	}
}

func TestAge(t *testing.T) {
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
	bubble("by time", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{Retention: time.Hour})
		defer a.stop()
		push(a)
		a.after("nearly", time.Hour-time.Second, true, true)
		push(a)
		a.after("pushed again", time.Hour-time.Second, true, true)
		a.after("its time", time.Second, false, false)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := fmt.Sprint(a.told); got != "[withheld job=j.prom <nil> archived job=j.prom <nil>]" || a.View().File(g.FileName()) != nil {
			t.Errorf("told %s", got)
		}
	})
	bubble("a jump forward and back", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a)
		a.after("before the jump", 10*time.Minute, true, true)
		a.offset.Store(int64(1000 * time.Hour))
		a.after("after it", 4*time.Minute, true, true)
		a.offset.Store(0)
		a.after("taken back", 40*time.Minute, true, true)
		a.after("its time", 7*time.Minute, false, false)
	})
	bubble("a jump forward that stays", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a)
		a.after("before the jump", 10*time.Minute, true, true)
		a.offset.Store(int64(1000 * time.Hour))
		a.after("after it", 4*time.Minute, true, true)
		a.after("believed", 2*time.Minute, false, false)
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
		a.after("set right", time.Minute, true, true)
		a.after("its time", time.Hour, false, false)
	})
	bubble("a start after its time", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		push(a)
		a.stop()
		time.Sleep(time.Hour)
		a = startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		a.after("at once", 0, false, true)
		a.after("steady", 6*time.Minute, false, false)
	})
	bubble("a directory that somebody has locked", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a)
		somebody := must1(os.OpenFile(filepath.Join(dir, ".promspool.lock"), unix.O_NONBLOCK, 0))
		must(t, unix.Flock(int(somebody.Fd()), unix.LOCK_EX))
		a.after("its time", time.Hour+time.Minute, false, true)
		must(t, somebody.Close())
		a.after("tried again", 2*time.Minute, false, false)
		if len(a.told) < 2 || !strings.Contains(a.told[0], filestore.ErrBusy.Error()) {
			t.Errorf("told %q", a.told)
		}
	})
}

// TestAShortLifetime is written to the file when it has ended, without waiting for
// the clock of the host: the monotonic clock proves it.
func TestAShortLifetime(t *testing.T) {
	g := group(t, "job", "j")
	push := func(a *aging, ends time.Duration) {
		t.Helper()
		must(t, a.Replace(g, families(t, "# TYPE m gauge\nm 1\n"), record.PushOptions{TTL: ttl(ends)}))
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
		a.after("nearly", time.Second-1, true, true)
		a.after("its time", 1, false, false)
		push(a, 10*time.Second)
		a.after("pushed again", 0, true, true)
		a.after("its time again", time.Minute, false, false)
	})
	bubble("a push that is amended and refused meanwhile", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a, 4*time.Second)
		time.Sleep(time.Second)
		must(t, a.Fail(g))
		a.after("refused", 3*time.Second-1, true, true)
		a.after("its time", 1, false, false)
	})
	bubble("a clock that has just jumped", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		a.offset.Store(int64(-1000 * time.Hour))
		time.Sleep(time.Minute)
		push(a, time.Second)
		a.after("its time", time.Second, false, false)
	})
	bubble("a file from before the start", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		push(a, 2*time.Second)
		a.stop()
		a = startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		a.after("its time", 2*time.Second, false, true)
		a.after("not yet steady", 4*time.Minute, false, true)
		a.after("steady", 2*time.Minute, false, false)
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
		a.after("its time", 2*time.Second, false, true)
		a.after("steady", 6*time.Minute, false, false)
	})
	bubble("a directory that another process has locked", func(t *testing.T, dir string) {
		a := startAging(t, dir, 0, record.Lifetimes{})
		defer a.stop()
		push(a, time.Second)
		other := must1(os.OpenFile(filepath.Join(dir, ".promspool.lock"), unix.O_NONBLOCK, 0))
		must(t, unix.Flock(int(other.Fd()), unix.LOCK_EX))
		a.after("its time", time.Second, false, true)
		time.Sleep(10 * time.Second)
		must(t, other.Close())
		a.after("tried again", 2*time.Minute, false, false)
	})
}

// TestRewritesAreFew pushes again and again what expires before the next push. Files
// are rewritten beside that, but by far not after each push.
func TestRewritesAreFew(t *testing.T) {
	for name, tt := range map[string]struct {
		groups, rounds int
		every          time.Duration
		young          bool // less than five minutes after the start
	}{
		"one group, each second":       {1, 300, time.Second, true},
		"one group, each three":        {1, 100, 3 * time.Second, true},
		"the same, with a sure clock":  {1, 100, 3 * time.Second, false},
		"many groups, each ten":        {300, 4, 10 * time.Second, true},
		"many groups and a sure clock": {300, 4, 10 * time.Second, false},
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
				n := len(a.told)
				a.mu.Unlock()
				if pushes := tt.groups * tt.rounds; n == 0 || 2*n > pushes {
					t.Errorf("%d rewrites beside %d pushes, want some, and less than half as many", n, pushes)
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
