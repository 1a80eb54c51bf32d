package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Watchdog pings the service manager as long as check returns nil, until ctx
// ends; then it returns nil. It runs check at once and then twice per
// WatchdogSec=, so that one late answer is not yet a missed ping.
//
// Silence is the alarm: after a check that fails there is no ping, and after
// WatchdogSec= of silence the manager ends the process and starts it again. A
// check that hangs is silence too; Watchdog neither waits for it when ctx ends
// nor starts a second one beside it. What was wrong is for check to log. A ping
// that cannot be sent is silence like any other and is tried again at the next turn.
//
// Where no watchdog is asked for Watchdog returns nil at once and never calls
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
	turns := time.NewTicker(timeout / 2)
	defer turns.Stop()
	// The check has a goroutine of its own because it may hang, and the channel
	// room for its result because then nobody may be left to take it.
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
