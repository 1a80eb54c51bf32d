package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Watchdog pings the service manager as long as check returns nil. It returns nil when
// ctx ends. It runs check at once and then twice per WatchdogSec=, so that one late
// result is not a missed ping.
//
// A check that fails sends no ping, and after WatchdogSec= without one the manager
// restarts the process. A check that hangs sends no ping either;
// Watchdog does not wait for it when ctx ends and does not start a second one
// meanwhile. The check logs its own errors. A ping that cannot be sent is retried
// at the next interval.
//
// Without a watchdog in the unit, Watchdog returns nil at once and never calls
// check. An error means that the environment is malformed, and that there will
// be no pings.
func Watchdog(ctx context.Context, check func() error) error {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	if timeout == 0 {
		return nil
	}
	ticker := time.NewTicker(timeout / 2)
	defer ticker.Stop()
	// The check runs in its own goroutine because it may hang. The channel is
	// buffered because Watchdog may have returned before the result.
	result := make(chan error, 1)
	running := true
	go func() { result <- check() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-result:
			running = false
			if err == nil && ctx.Err() == nil {
				_ = notify(daemon.SdNotifyWatchdog)
			}
		case <-ticker.C:
			if !running {
				running = true
				go func() { result <- check() }()
			}
		}
	}
}
