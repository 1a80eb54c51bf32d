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
// After a failed check there is no ping. After WatchdogSec= without a ping the manager
// restarts the process. A check that hangs has the same effect: Watchdog does not wait
// for it when ctx ends, and starts no second check meanwhile. The check logs its own
// errors. A ping that cannot be sent is retried at the next interval.
//
// If the unit has no watchdog, Watchdog returns nil and never calls check. An error
// means that the environment is invalid, and that there are no pings.
func Watchdog(ctx context.Context, check func() error) error {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	if timeout == 0 {
		return nil
	}
	turns := time.NewTicker(timeout / 2)
	defer turns.Stop()
	// check runs in its own goroutine, as it may hang. The channel is buffered, as its
	// result may come after Watchdog has returned.
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
		case <-turns.C:
			if !running {
				running = true
				go func() { result <- check() }()
			}
		}
	}
}
