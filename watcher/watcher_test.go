package watcher_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/watcher"
)

func TestMetricsExistFromStart(t *testing.T) {
	reg := prometheus.NewRegistry()
	w, err := watcher.New(t.TempDir(), watcher.Config{Registerer: reg})
	must(t, err)
	defer w.Close()
	families, err := reg.Gather()
	must(t, err)
	got := make(map[string]int)
	for _, f := range families {
		got[f.GetName()] = len(f.GetMetric())
	}
	want := map[string]int{
		"promspool_rescan_duration_seconds": 1,
		"promspool_watch_armed":             1,
		"promspool_watch_events_total":      1,
		"promspool_watch_overflows_total":   1,
		"promspool_watch_pending_files":     1,
		"promspool_watch_rescans_total":     6,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series per metric (-want +got):\n%s", diff)
	}
}

func TestInvalidConfig(t *testing.T) {
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	first, err := watcher.New(dir, watcher.Config{Registerer: reg})
	must(t, err)
	defer first.Close()
	for _, test := range []struct {
		name string
		dir  string
		cfg  watcher.Config
		want string
	}{
		{"no name", "", watcher.Config{}, "name is empty"},
		{"negative settle time", dir, watcher.Config{Settle: -1}, "settle time -1ns is negative"},
		{"negative resync time", dir, watcher.Config{Resync: -1}, "resync time -1ns is negative"},
		{"registered twice", dir, watcher.Config{Registerer: reg}, "registering the metrics"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := watcher.New(test.dir, test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New() = %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestCloseEndsRun(t *testing.T) {
	dir := t.TempDir()
	w, err := watcher.New(dir, watcher.Config{})
	must(t, err)
	m := run(t, dir, w)
	if err := w.Run(t.Context(), m); err == nil {
		t.Error("a second Run returned no error")
	}
	must(t, w.Close()) // run's cleanup waits for the end
	must(t, w.Close())
}

func TestCloseWithoutRun(t *testing.T) {
	w, err := watcher.New(t.TempDir(), watcher.Config{})
	must(t, err)
	must(t, w.Close())
	if err := w.Run(t.Context(), nil); err == nil {
		t.Error("Run after Close returned no error")
	}
}
