package watcher_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/watcher"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "old.prom", "1")
	m, w, reg := watch(t, dir)
	m.holds(t, "old.prom", "1")
	if got := w.Mode(); got == "polling" {
		t.Errorf("Mode() = %q in a watched directory", got)
	}

	path := filepath.Join(dir, "a.prom")
	must(t, os.WriteFile(path, []byte("2"), 0o644))
	m.holds(t, "old.prom", "1", "a.prom", "2")
	put(t, dir, "a.prom", "3")
	m.holds(t, "old.prom", "1", "a.prom", "3")
	must(t, os.WriteFile(path, []byte("4"), 0o644))
	m.holds(t, "old.prom", "1", "a.prom", "4")
	must(t, os.Rename(path, filepath.Join(dir, "b.prom")))
	m.holds(t, "old.prom", "1", "b.prom", "4")
	must(t, os.Link(filepath.Join(dir, "b.prom"), filepath.Join(dir, "c.prom")))
	m.holds(t, "old.prom", "1", "b.prom", "4", "c.prom", "4")
	must(t, os.Remove(filepath.Join(dir, "old.prom")))
	must(t, os.Remove(filepath.Join(dir, "c.prom")))
	m.holds(t, "b.prom", "4")

	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.reloads {
		if !isProm(name) {
			t.Errorf("Reload got %q, which does not match", name)
		}
	}
	if m.rescans != 1 || value(t, reg, "promspool_watch_rescans_total", "start") != 1 {
		t.Errorf("%d rescans, want the first one only", m.rescans)
	}
}

func TestChmodIsAChange(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.prom", "1")
	m, _, _ := watch(t, dir)
	must(t, os.Chmod(filepath.Join(dir, "a.prom"), 0o600))
	m.eventually(t, func() bool { return m.reloads["a.prom"] > 0 })
}

func TestOddNames(t *testing.T) {
	dir := t.TempDir()
	m, _, _ := watch(t, dir)
	var want []string
	for _, name := range []string{
		".prom", "..prom", "-rf.prom", "a b\tc.prom", "line\nbreak.prom", "\xff\xfe.prom", `back\slash.prom`,
		"*.prom", "%2e%2f.prom", strings.Repeat("x", 250) + ".prom",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("1"), 0o644); err != nil {
			t.Logf("%q is not possible here: %v", name, err)
			continue
		}
		want = append(want, name, "1")
	}
	m.holds(t, want...)
}

func TestRemovedAndRecreatedAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.Mkdir(dir, 0o755))
	put(t, dir, "a.prom", "1")
	m, _, reg := watch(t, dir)
	for i := range 5 {
		must(t, os.RemoveAll(dir))
		must(t, os.Mkdir(dir, 0o755))
		put(t, dir, "b.prom", fmt.Sprint(i))
		t.Log("detected after", m.holds(t, "b.prom", fmt.Sprint(i)))
	}
	put(t, dir, "c.prom", "2") // through the new watch
	m.holds(t, "b.prom", "4", "c.prom", "2")
	if value(t, reg, "promspool_watch_rescans_total", "directory") == 0 {
		t.Error("no rescan has the cause directory")
	}
}

func TestMovedAwayAndRecreated(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.Mkdir(dir, 0o755))
	put(t, dir, "a.prom", "1")
	m, _, _ := watch(t, dir)
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Mkdir(dir, 0o755))
	put(t, dir, "b.prom", "2")
	t.Log("detected after", m.holds(t, "b.prom", "2"))

	put(t, dir+".old", "a.prom", "3")
	put(t, dir, "c.prom", "4")
	m.holds(t, "b.prom", "2", "c.prom", "4")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reloads["a.prom"] != 0 {
		t.Error("Reload got a file of the moved directory")
	}
}

func TestSymlinkRetargeted(t *testing.T) {
	parent := t.TempDir()
	one, two, link := filepath.Join(parent, "1"), filepath.Join(parent, "2"), filepath.Join(parent, "spool")
	must(t, os.Mkdir(one, 0o755))
	must(t, os.Mkdir(two, 0o755))
	put(t, one, "a.prom", "1")
	put(t, two, "b.prom", "2")
	must(t, os.Symlink(one, link))
	m, _, _ := watch(t, link)
	m.holds(t, "a.prom", "1")

	must(t, os.Symlink(two, link+".new"))
	must(t, os.Rename(link+".new", link))
	t.Log("detected after", m.holds(t, "b.prom", "2")) // the kernel reports nothing, so the check must detect it
	put(t, two, "c.prom", "3")
	m.holds(t, "b.prom", "2", "c.prom", "3")
}

func TestRemovedTemporarily(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.Mkdir(dir, 0o755))
	put(t, dir, "a.prom", "1")
	m, w, reg := watch(t, dir)
	must(t, os.RemoveAll(dir))
	m.eventually(t, func() bool { return m.rescans > 1 })
	m.holds(t)
	m.eventually(t, func() bool { return w.Mode() == "polling" && m.rescans > 2 })
	if got := value(t, reg, "promspool_watch_armed", ""); got != 1 {
		t.Errorf("promspool_watch_armed = %v without a directory, want 1: watching does not fail", got)
	}

	must(t, os.Mkdir(dir, 0o755))
	m.eventually(t, func() bool { return w.Mode() != "polling" })
	put(t, dir, "b.prom", "2")
	m.holds(t, "b.prom", "2")
	if got := value(t, reg, "promspool_watch_armed", ""); got != 1 {
		t.Errorf("promspool_watch_armed = %v, want 1", got)
	}
}

func TestMissingAtStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	m, w, _ := watch(t, dir)
	if got := w.Mode(); got != "polling" {
		t.Errorf("Mode() = %q without a directory, want polling", got)
	}
	must(t, os.MkdirAll(dir, 0o755))
	put(t, dir, "a.prom", "1")
	m.holds(t, "a.prom", "1")
	m.eventually(t, func() bool { return w.Mode() != "polling" })
	put(t, dir, "a.prom", "2")
	m.holds(t, "a.prom", "2")
}

// TestPipeInPlaceOfDirectory expects that the open does not wait for a writer.
func TestPipeInPlaceOfDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	must(t, syscall.Mkfifo(path, 0o644))
	m, w, _ := watch(t, path)
	if got := w.Mode(); got != "polling" {
		t.Errorf("Mode() = %q on a pipe, want polling", got)
	}
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o755))
	put(t, path, "a.prom", "1")
	m.holds(t, "a.prom", "1")
}

func TestManyEventsWithSlowTarget(t *testing.T) {
	const files, rounds = 1000, 5 // four events each, far more than the kernel keeps
	dir := t.TempDir()
	m, _, reg := watch(t, dir)
	m.mu.Lock()
	m.slow = 200 * time.Millisecond
	m.mu.Unlock()
	want := make(map[string]string)
	for round := range rounds {
		for i := range files {
			name, text := fmt.Sprintf("%d.prom", i), fmt.Sprint(round)
			put(t, dir, name, text)
			want[name] = text
		}
	}
	m.eventually(t, func() bool { return maps.Equal(m.files, want) })
	if n := value(t, reg, "promspool_watch_overflows_total", ""); n != 0 {
		t.Errorf("%v overflows, want none while there is a listener", n)
	}
}

// TestOverflow fills the kernel's queue before Run listens.
func TestOverflow(t *testing.T) {
	if _, err := os.Stat("/proc/sys/fs/inotify/max_queued_events"); err != nil {
		t.Skip("only inotify has a queue")
	}
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	w, err := watcher.New(dir, watcher.Config{Match: isProm, Resync: time.Hour, Registerer: reg})
	must(t, err)
	a, b := filepath.Join(dir, "a.prom"), filepath.Join(dir, "b.prom")
	must(t, os.WriteFile(a, []byte("1"), 0o644))
	for range 10000 {
		must(t, os.Rename(a, b))
		must(t, os.Rename(b, a))
	}
	m := run(t, dir, w)
	m.eventually(t, func() bool { return m.rescans > 1 })
	if n := value(t, reg, "promspool_watch_overflows_total", ""); n != 1 {
		t.Errorf("%v overflows, want 1", n)
	}
	if n := value(t, reg, "promspool_watch_rescans_total", "overflow"); n != 1 {
		t.Errorf("%v rescans were caused by the overflow, want 1", n)
	}
	put(t, dir, "c.prom", "2")
	m.holds(t, "a.prom", "1", "c.prom", "2")
}
