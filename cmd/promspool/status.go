package main

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/systemd"
)

// statusInterval is the shortest time between two status lines.
const statusInterval = time.Minute

// statusLine returns the line that "systemctl status" shows.
func statusLine(t merge.Totals, spool string) string {
	return "Serving " + quantity(t.Groups, "group") + " and " + quantity(t.Dropped, "file") + " from " + spool
}

// quantity returns a number with its noun in the singular or plural.
func quantity(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// updateStatus sends the status line again when it has changed, until ctx ends.
// Last is the line that the service manager has. A failure is retried after
// [statusInterval]; it is logged once.
func updateStatus(ctx context.Context, last string, line func() string, logger *slog.Logger) {
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := line()
		if now == last {
			continue
		}
		err := systemd.Status(now)
		if err == nil {
			last = now
		} else if !failed {
			logger.Warn("The status line of the service manager could not be updated; retrying each minute", "err", err)
		}
		failed = err != nil
	}
}
