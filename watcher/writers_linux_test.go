package watcher_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/watcher"
)

// TestWritten runs through the operations of writers. It need not wait, because Written
// includes all earlier reports.
func TestWritten(t *testing.T) {
	dir := t.TempDir()
	w, err := watcher.New(dir, watcher.Config{Match: isProm})
	must(t, err)
	defer w.Close()
	path := filepath.Join(dir, "a.prom")
	open := func(flags int) *os.File {
		t.Helper()
		f, err := os.OpenFile(path, flags, 0o644)
		must(t, err)
		return f
	}
	write := func(f *os.File) {
		t.Helper()
		_, err := f.WriteString("a 1\n")
		must(t, err)
	}
	var last uint64
	const none, open1, truncated, closed, renamed = "none", "open", "truncated", "closed", "renamed"
	check := func(what, want string) {
		t.Helper()
		serial, isClosed, isRenamed, isOpened := w.Written("a.prom", 0)
		got := none
		switch {
		case isRenamed && isClosed:
			got = renamed
		case isRenamed:
			got = "renamed and open"
		case isClosed:
			got = closed
		case isOpened:
			got = open1
		case serial > 0:
			got = truncated
		}
		if isOpened && isClosed {
			got += ", opened"
		}
		if got != want {
			t.Errorf("%s: Written() = %s, want %s", what, got, want)
		}
		if serial != 0 && serial == last {
			t.Errorf("%s: the serial is still %d", what, serial)
		}
		last = serial
		if again, _, _, _ := w.Written("a.prom", 0); again != serial {
			t.Errorf("%s: the serial went from %d to %d without a change", what, serial, again)
		}
	}

	check("before all", none)
	f := open(os.O_CREATE | os.O_WRONLY)
	check("created", none)
	write(f)
	check("written to", open1)
	must(t, f.Close())
	check("closed", closed)
	reader := open(os.O_RDONLY)
	last = 0 // reads report nothing about the content
	check("opened by a reader", closed+", opened")
	must(t, reader.Close())
	f = open(os.O_WRONLY | os.O_TRUNC)
	check("opened and truncated", open1)
	write(f)
	must(t, f.Close())
	check("closed again", closed)
	put(t, dir, "a.prom", "1")
	check("renamed", renamed)
	f = open(os.O_WRONLY | os.O_APPEND)
	write(f)
	check("appended to", open1)
	must(t, f.Close())
	check("appended to and closed", closed)
	must(t, os.Truncate(path, 2))
	check("truncated", truncated)
	must(t, os.Truncate(path, 1))
	check("truncated again", truncated)
	reader = open(os.O_RDONLY)
	serial, _, _, opened := w.Written("a.prom", last)
	if serial != last || opened {
		t.Errorf("after an open by the caller: Written() = serial %d, opened %v, want %d, false", serial, opened, last)
	}
	last = 0
	check("truncated, and read by the caller", truncated)
	must(t, reader.Close())
	reader = open(os.O_RDONLY)
	last = 0
	check("truncated, and read by another", open1)
	must(t, reader.Close())
	put(t, dir, "a.prom", "1")
	reader = open(os.O_RDONLY)
	check("renamed, and read by another", renamed+", opened")
	must(t, os.Truncate(path, 0))
	check("read by another, then truncated", open1)
	must(t, reader.Close())

	temp := filepath.Join(dir, ".a.prom.tmp")
	early, err := os.Create(temp)
	must(t, err)
	write(early)
	must(t, os.Rename(temp, path))
	check("renamed while open", renamed)
	must(t, early.Close())
	check("renamed, then closed", renamed)
	must(t, os.Remove(path))
	check("removed", none)
	put(t, dir, "a.txt", "1")
	must(t, os.Link(filepath.Join(dir, "a.txt"), path))
	check("linked", none)
	if serial, _, _, _ := w.Written("a.txt", 0); serial != 0 {
		t.Error("there is a report about a file that does not match")
	}
	put(t, dir, "a.prom", "1")
	check("renamed once more", renamed)
	must(t, w.Close())
	check("after Close", none)
}

// TestWrittenWithTwoPaths watches a directory by two paths, for which the kernel has one
// watch.
func TestWrittenWithTwoPaths(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(dir, link))
	one, err := watcher.New(dir, watcher.Config{})
	must(t, err)
	defer one.Close()
	two, err := watcher.New(link, watcher.Config{})
	must(t, err)
	defer two.Close()
	both := func(want bool) {
		t.Helper()
		put(t, dir, "a.prom", "1")
		if _, _, renamed, _ := one.Written("a.prom", 0); renamed != want {
			t.Errorf("by the first path: %v, want %v", renamed, want)
		}
		if _, _, renamed, _ := two.Written("a.prom", 0); !renamed {
			t.Error("by the second path: no report")
		}
	}
	both(true)
	must(t, one.Close())
	both(false)
}

// TestWrittenAfterReplacedDirectory expects that the reports of the old directory do not
// apply to the files of the new one.
func TestWrittenAfterReplacedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.Mkdir(dir, 0o755))
	m, w, _ := watch(t, dir)
	put(t, dir, "a.prom", "1")
	m.holds(t, "a.prom", "1")
	if _, _, renamed, _ := w.Written("a.prom", 0); !renamed {
		t.Error("no report before")
	}
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Link(filepath.Join(dir+".old", "a.prom"), filepath.Join(dir, "b.prom")))
	m.holds(t, "b.prom", "1")
	if serial, _, _, _ := w.Written("a.prom", 0); serial != 0 {
		t.Error("the report about a file of the old directory still exists")
	}
	put(t, dir, "b.prom", "2")
	m.holds(t, "b.prom", "2")
	if _, _, renamed, _ := w.Written("b.prom", 0); !renamed {
		t.Error("no report after")
	}
}

// TestMemoryMap writes through a memory map, where only the close is reported.
func TestMemoryMap(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.prom", "a 1\n")
	m, _, _ := watch(t, dir)
	m.holds(t, "a.prom", "a 1\n")
	f, err := os.OpenFile(filepath.Join(dir, "a.prom"), os.O_RDWR, 0)
	must(t, err)
	b, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	b[2] = '2'
	must(t, unix.Munmap(b))
	must(t, f.Close())
	m.holds(t, "a.prom", "a 2\n")
}

// TestArmedWithoutDirectory expects that promspool_watch_armed stays 1 if the path does
// not lead to a directory, because watching does not fail.
func TestArmedWithoutDirectory(t *testing.T) {
	dir := t.TempDir()
	file, pipe, loop := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "loop")
	must(t, os.WriteFile(file, nil, 0o644))
	must(t, unix.Mkfifo(pipe, 0o644))
	must(t, os.Symlink(loop, loop))
	for _, path := range []string{filepath.Join(dir, "none"), file, pipe, loop, filepath.Join(file, "below")} {
		m, w, reg := watch(t, path)
		m.eventually(t, func() bool { return m.rescans > 1 || w.Mode() != "polling" })
		if got := value(t, reg, "promspool_watch_armed", ""); got != 1 {
			t.Errorf("promspool_watch_armed of %s = %v, want 1", filepath.Base(path), got)
		}
	}
}

// TestCloseUnregistersMetrics expects that another watch of the directory is possible
// after Close.
func TestCloseUnregistersMetrics(t *testing.T) {
	m, w, reg := watch(t, t.TempDir())
	m.eventually(t, func() bool { return m.rescans > 0 })
	must(t, w.Close())
	if families, err := reg.Gather(); err != nil || len(families) > 0 {
		t.Errorf("after Close there are %d metrics (%v)", len(families), err)
	}
	again, err := watcher.New(t.TempDir(), watcher.Config{Registerer: reg, Resync: time.Hour})
	must(t, err)
	must(t, again.Close())
}
