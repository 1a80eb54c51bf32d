package filestore_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
)

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte("m 1\n"), mode))
		must(t, os.Chmod(path, mode))
		must(t, os.Chtimes(path, time.Now(), time.Now().Add(-time.Hour)))
		return path
	}
	write("mine.prom", 0o600)
	write("mine.prom.tmp", 0o644)
	write(".hidden.prom", 0o644)
	write(".job=dead.prom1", 0o644)
	busy := write(".job=busy.prom2", 0o644)
	must(t, os.Chtimes(write(".job=young.prom3", 0o644), time.Now(), time.Now()))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "link.prom")))
	f, err := os.Open(busy)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	must(t, os.Chmod(dir, 0o2770|os.ModeSetgid))

	x, err := filestore.Inspect(dir, time.Now())
	must(t, err)
	if len(x.Files) != 2 || x.Files[0].Name != "link.prom" || x.Files[1].Name != "mine.prom" || x.Files[1].Mode != 0o600 || x.Files[1].UID != uint32(os.Getuid()) {
		t.Errorf("the files are %+v", x.Files)
	}
	if !slices.Equal(x.Leftovers, []string{".job=dead.prom1"}) || !slices.Equal(x.Unread, []string{"mine.prom.tmp"}) {
		t.Errorf("leftovers %q, unread %q", x.Leftovers, x.Unread)
	}
	if x.Dir.Mode&os.ModeSetgid == 0 || x.Dir.Mode.Perm() != 0o770 || !x.Writable || x.Free <= 0 || x.Free > x.Total {
		t.Errorf("the directory is %+v, writable %v, with %d of %d bytes free", x.Dir, x.Writable, x.Free, x.Total)
	}
	if age := time.Since(x.Files[1].ModTime); age < time.Hour || age > 2*time.Hour {
		t.Errorf("the file is %v old", age)
	}
	if _, err := filestore.Inspect(filepath.Join(dir, "none"), time.Now()); !os.IsNotExist(err) && err == nil {
		t.Errorf("a missing directory: %v", err)
	}
	if _, err := filestore.Inspect(filepath.Join(dir, "mine.prom"), time.Now()); err == nil {
		t.Error("a file is accepted as a directory")
	}
}
