package filestore

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReplacedFilesAreFreed expects that a replaced file is closed before the push
// returns. Then its space is free, and it does not prevent an unmount.
func TestReplacedFilesAreFreed(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func() (paths []string) {
		const dir = "/proc/self/fd"
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if to, err := os.Readlink(dir + "/" + e.Name()); err == nil && strings.HasPrefix(to, s.Path()+"/job=") || strings.HasPrefix(to, s.Path()+"/b.prom") || strings.Contains(to, "(deleted)") && strings.HasPrefix(to, s.Path()) {
				paths = append(paths, to)
			}
		}
		return paths
	}
	for i := range 200 {
		if err := pushedTo(t, s, groupOf(t, "a"), i); err != nil {
			t.Fatal(err)
		}
		if err := s.Drop("b", fmt.Appendf(nil, "b %d\n", i), false); err != nil {
			t.Fatal(err)
		}
		if paths := open(); len(paths) > 0 {
			t.Fatalf("still open: %q", paths)
		}
	}
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			for i := range 20 {
				if err := pushedTo(t, s, groupOf(t, fmt.Sprint("w", w%12)), i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if paths := open(); len(paths) > 0 {
		t.Errorf("still open after many writers: %q", paths)
	}
}

// TestReplaceWithOneFreeInode pushes repeatedly to a file system with room for one more
// file. It must not be busy after the last push.
func TestReplaceWithOneFreeInode(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=4"); err != nil { // itself, the lock, the group's file and the next
		if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
			t.Fatalf("mounting: %v", err)
		}
		t.Skipf("mounting: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // usually unmounted below
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := pushedTo(t, s, groupOf(t, "a"), i); err != nil {
			t.Fatalf("push %d: %v", i, err)
		}
	}
	// The directory stays open for a moment after the last push.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); unix.Unmount(dir, 0) != nil; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the file system is busy a minute after the last push")
		}
	}
}
