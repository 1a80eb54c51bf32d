package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/wording"
	"github.com/promspool/promspool/systemd"
)

// statusInterval is the shortest time between two status lines.
const statusInterval = time.Minute

// statusLine returns the line that "systemctl status" shows.
func statusLine(t merge.Totals, spool string) string {
	return "Serving " + wording.Count(t.Groups, "group") + " and " + wording.Count(t.Dropped, "file") + " from " + spool
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
