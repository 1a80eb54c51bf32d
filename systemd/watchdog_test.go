package systemd_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/promspool/promspool/systemd"
)

// askForWatchdog sets the environment of WatchdogSec=10s.
func askForWatchdog(t *testing.T) {
	t.Helper()
	t.Setenv("WATCHDOG_USEC", strconv.Itoa(int((10*time.Second)/time.Microsecond)))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
}

// wantPings advances the time and checks the pings received meanwhile.
func wantPings(t *testing.T, m *manager, d time.Duration, want int) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	got := m.received()
	for _, datagram := range got {
		if datagram != "WATCHDOG=1" {
			t.Errorf("datagram = %q, want %q", datagram, "WATCHDOG=1")
		}
	}
	if len(got) != want {
		t.Errorf("after %v: %d pings, want %d", d, len(got), want)
	}
}

func TestWatchdogPingsAtHalfTheInterval(t *testing.T) {
	m := newManager(t)
	askForWatchdog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- systemd.Watchdog(ctx, func() error { return nil }) }()
		wantPings(t, m, time.Second, 1) // at once
		wantPings(t, m, 20*time.Second, 4)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watchdog() = %v, want nil", err)
		}
		wantPings(t, m, time.Minute, 0)
	})
}

func TestWatchdogIsSilentWhileTheCheckFails(t *testing.T) {
	m := newManager(t)
	askForWatchdog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var healthy atomic.Bool
		go systemd.Watchdog(ctx, func() error {
			if !healthy.Load() {
				return errors.New("spool is gone")
			}
			return nil
		})
		wantPings(t, m, 21*time.Second, 0)
		healthy.Store(true)
		wantPings(t, m, 20*time.Second, 4)
	})
}

func TestWatchdogIsSilentWhileTheCheckHangs(t *testing.T) {
	m := newManager(t)
	askForWatchdog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		calls := 0
		release := make(chan struct{})
		go func() {
			done <- systemd.Watchdog(ctx, func() error {
				calls++
				<-release
				return nil
			})
		}()
		wantPings(t, m, time.Minute, 0)
		if calls != 1 {
			t.Errorf("%d checks side by side, want 1", calls)
		}
		release <- struct{}{}
		wantPings(t, m, time.Second, 1) // late, but alive
		cancel()
		if err := <-done; err != nil { // although the second check hangs
			t.Errorf("Watchdog() = %v, want nil", err)
		}
		close(release)
		wantPings(t, m, time.Minute, 0)
	})
}

func TestWatchdogOfAnotherProcessIsNotOurs(t *testing.T) {
	newManager(t)
	askForWatchdog(t)
	t.Setenv("WATCHDOG_PID", "1")
	if err := systemd.Watchdog(t.Context(), func() error { panic("called") }); err != nil {
		t.Errorf("Watchdog() = %v, want nil", err)
	}
}

func TestMalformedWatchdogIsAnError(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "soon")
	if err := systemd.Watchdog(t.Context(), func() error { panic("called") }); err == nil {
		t.Error("Watchdog() = nil, want an error")
	}
}
