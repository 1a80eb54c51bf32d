package watcher_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/promspool/promspool/watcher"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A mirror is a Target with a copy of the content of a directory.
type mirror struct {
	dir     string
	slow    time.Duration // duration of a Reload
	changed chan struct{} // has a value after each call

	mu      sync.Mutex
	files   map[string]string
	reloads map[string]int
	rescans int
}

func isProm(name string) bool { return strings.HasSuffix(name, ".prom") }

func (m *mirror) Reload(names ...string) ([]string, error) {
	defer m.signal()
	m.mu.Lock()
	defer m.mu.Unlock()
	time.Sleep(m.slow)
	for _, name := range names {
		m.reloads[name]++
		m.read(name)
	}
	return nil, nil
}

func (m *mirror) Rescan() ([]string, error) {
	defer m.signal()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rescans++
	clear(m.files)
	list, err := os.ReadDir(m.dir)
	for _, f := range list {
		if isProm(f.Name()) {
			m.read(f.Name())
		}
	}
	return nil, err
}

func (m *mirror) read(name string) {
	text, err := os.ReadFile(filepath.Join(m.dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		delete(m.files, name)
	case err != nil:
		m.files[name] = "unreadable"
	default:
		m.files[name] = string(text)
	}
}

func (m *mirror) signal() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// eventually waits until the condition is true and returns the duration.
func (m *mirror) eventually(t *testing.T, what func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for deadline := time.After(2 * time.Minute); ; {
		m.mu.Lock()
		ok := what()
		m.mu.Unlock()
		if ok {
			return time.Since(start)
		}
		select {
		case <-m.changed:
		case <-deadline:
			m.mu.Lock()
			defer m.mu.Unlock()
			t.Fatalf("waited too long; %d files, %d rescans, %d names reloaded", len(m.files), m.rescans, len(m.reloads))
		}
	}
}

// holds waits until the mirror has exactly these files (pairs of name and content).
func (m *mirror) holds(t *testing.T, pairs ...string) time.Duration {
	t.Helper()
	want := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		want[pairs[i]] = pairs[i+1]
	}
	return m.eventually(t, func() bool { return maps.Equal(m.files, want) })
}

// watch returns a mirror of dir that a Watcher updates until the test ends. The regular
// Rescan comes after an hour, so only events show changes.
func watch(t *testing.T, dir string) (*mirror, *watcher.Watcher, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	w, err := watcher.New(dir, watcher.Config{Match: isProm, Resync: time.Hour, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	return run(t, dir, w), w, reg
}

func run(t *testing.T, dir string, w *watcher.Watcher) *mirror {
	m := &mirror{dir: dir, changed: make(chan struct{}, 1), files: map[string]string{}, reloads: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx, m) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	m.eventually(t, func() bool { return m.rescans > 0 })
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file atomically, as a push does.
func put(t *testing.T, dir, name, text string) {
	t.Helper()
	temp := filepath.Join(dir, "."+name+".tmp")
	must(t, os.WriteFile(temp, []byte(text), 0o644))
	must(t, os.Rename(temp, filepath.Join(dir, name)))
}

// value is the sum of the samples of a metric with this name and cause.
func value(t *testing.T, reg *prometheus.Registry, name, cause string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.GetMetric() {
			if cause == "" || s.GetLabel()[0].GetValue() == cause {
				sum += s.GetCounter().GetValue() + s.GetGauge().GetValue()
			}
		}
	}
	return sum
}
