package watcher_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mount mounts a file system and unmounts it at the end of the test. Without permission
// the test is skipped.
func mount(t *testing.T, source, dir, kind, options string) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, 0, options); err != nil {
		if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
			t.Fatalf("mounting a %s: %v", kind, err)
		}
		t.Skipf("mounting a %s: %v", kind, err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// TestMounts mounts on the directory and unmounts, which the kernel does not report.
func TestMounts(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "below.prom", "1")
	m, _, _ := watch(t, dir)
	m.holds(t, "below.prom", "1")

	mount(t, "tmpfs", dir, "tmpfs", "size=1m")
	t.Log("noticed the mount after", m.holds(t))
	put(t, dir, "above.prom", "2")
	m.holds(t, "above.prom", "2")

	must(t, unix.Unmount(dir, unix.MNT_DETACH))
	t.Log("noticed the unmount after", m.holds(t, "below.prom", "1"))
	put(t, dir, "below.prom", "3")
	m.holds(t, "below.prom", "3")
}

func TestOverlayIsAlsoPolled(t *testing.T) {
	parent := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "spool"} {
		must(t, os.Mkdir(filepath.Join(parent, name), 0o755))
	}
	dir := filepath.Join(parent, "spool")
	mount(t, "overlay", dir, "overlay",
		fmt.Sprintf("lowerdir=%s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", parent))
	m, w, _ := watch(t, dir)
	if got, want := w.Mode(), "inotify and polling"; got != want {
		t.Errorf("Mode() = %q, want %q", got, want)
	}
	put(t, dir, "a.prom", "1")
	m.holds(t, "a.prom", "1")
}
