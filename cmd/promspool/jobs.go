package main

import (
	"context"
	"log/slog"
	"time"
	"weak"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/ingest/job"
)

// jobsInterval is how often the agent looks whether runs were lost. That nobody
// holds a lock any more is nothing that the kernel would report.
const jobsInterval = 10 * time.Second

// findLost records lost runs until ctx ends, those from before the agent started
// at once.
func findLost(ctx context.Context, store *filestore.Store, boot string, interval time.Duration, logger *slog.Logger) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last weak.Pointer[merge.View] // a view that is held keeps the text of its time
	var going []grouping.Key          // of the last view, those with runs that go on
	for {
		if v := store.View(); weak.Make(v) != last {
			last, going = weak.Make(v), going[:0]
			for f := range v.Files() {
				if job.Running(f) {
					going = append(going, f.Group())
				}
			}
		}
		for _, g := range going {
			lost, err := job.Look(store, g, time.Now(), boot)
			switch {
			case err != nil && ctx.Err() == nil:
				logger.Error("Cannot record that a run of a job is lost, trying again", "group", g.String(), "err", err)
			case lost > 0:
				logger.Warn("A run of a job is lost: it ended without telling how", "group", g.String(), "runs", lost)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// recordLost has a command look once before it says which jobs are running. That
// it may not write is no fault of its, and for the agent to see.
func recordLost(store *filestore.Store, boot string) {
	for f := range store.View().Files() {
		if job.Running(f) {
			_, _ = job.Look(store, f.Group(), time.Now(), boot)
		}
	}
}
