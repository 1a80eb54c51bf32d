package filestore_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/record"
)

const spoolLock = ".promspool.lock"

func TestReadersCannotLockSpool(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	reader, err := os.Open(dir)
	must(t, err)
	defer reader.Close()
	must(t, unix.Flock(int(reader.Fd()), unix.LOCK_EX))
	// These would fail after a wait for the lock.
	must(t, s.Replace(group(t, "job", "a"), families(t, "m 1\n"), record.PushOptions{}))
	must(t, s.Delete(group(t, "job", "a")))
	must(t, s.Drop("dropped", []byte("m 1\n"), false))
}

// TestLockPermissions expects that exactly the users who may write the spool can open its
// lock, whatever the umask.
func TestLockPermissions(t *testing.T) {
	needRoot(t, "becomes other users")
	const owner, member, stranger, group1 = 4001, 4002, 4003, 4100
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for _, tt := range []struct {
		mode                       fs.FileMode
		byOwner, byMember, byOther bool
	}{
		{0o755, true, false, false},
		{0o775, true, true, false},
		{0o775 | fs.ModeSetgid, true, true, false},
		{0o777 | fs.ModeSticky, true, true, true},
	} {
		t.Run(tt.mode.String(), func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Chmod(filepath.Dir(dir), 0o755))
			must(t, os.Chown(dir, owner, group1))
			must(t, os.Chmod(dir, tt.mode))
			must(t, open(t, dir, nil).Replace(group(t, "job", "a"), families(t, "m 1\n"), record.PushOptions{}))
			for name, user := range map[string]struct {
				uid, gid int
				may      bool
			}{"owner": {owner, owner, tt.byOwner}, "member": {member, group1, tt.byMember}, "stranger": {stranger, stranger, tt.byOther}} {
				as(user.uid, user.gid, func() {
					f, err := os.OpenFile(filepath.Join(dir, spoolLock), unix.O_NONBLOCK, 0)
					if err == nil {
						f.Close()
					}
					if (err == nil) != user.may {
						t.Errorf("open of the lock by %s: %v, want success: %v", name, err, user.may)
					}
					if user.may {
						return
					}
					// The error must name the missing permission for the spool, not the lock.
					err = open(t, dir, nil).Delete(group(t, "job", "a"))
					if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), spoolLock) {
						t.Errorf("deletion by %s: %v, want that permission is denied", name, err)
					}
				})
			}
		})
	}
}

func TestPushWaitsForLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	put := func() error {
		return s.Replace(group(t, "job", "a"), families(t, "m 1\n"), record.PushOptions{})
	}
	must(t, put())
	other, err := os.OpenFile(filepath.Join(dir, spoolLock), unix.O_NONBLOCK, 0)
	must(t, err)
	defer other.Close()
	must(t, unix.Flock(int(other.Fd()), unix.LOCK_EX))
	pushed := make(chan error, 1)
	go func() { pushed <- put() }()
	select {
	case err := <-pushed:
		t.Fatalf("a push ignored the lock: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	must(t, unix.Flock(int(other.Fd()), unix.LOCK_UN))
	must(t, <-pushed)

	// A deleted lock file locks nothing.
	must(t, unix.Flock(int(other.Fd()), unix.LOCK_EX))
	go func() { pushed <- put() }()
	must(t, os.Remove(filepath.Join(dir, spoolLock)))
	must(t, <-pushed)
}

// TestPlantedLock puts all kinds of files in place of the lock.
func TestPlantedLock(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Mkdir(outside, 0o700))
	file := filepath.Join(outside, "file")
	must(t, os.WriteFile(file, []byte("precious"), 0o600))
	for name, put := range map[string]func(path string) error{
		"file":         func(path string) error { return os.WriteFile(path, nil, 0o666) },
		"hard link":    func(path string) error { return os.Link(file, path) },
		"link":         func(path string) error { return os.Symlink(outside, path) },
		"link to file": func(path string) error { return os.Symlink(file, path) },
		"link nowhere": func(path string) error { return os.Symlink(path+".none", path) },
		"pipe":         func(path string) error { return unix.Mkfifo(path, 0o666) },
		"directory":    func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, put(filepath.Join(dir, spoolLock)))
			s := open(t, dir, nil)
			must(t, s.Replace(group(t, "job", "a"), families(t, "m 1\n"), record.PushOptions{}))
			if fi, err := os.Lstat(filepath.Join(dir, spoolLock)); err != nil || fi.Mode().Type() != fs.ModeNamedPipe {
				t.Errorf("the lock is %v, %v", fi.Mode(), err)
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file outside has %q, %v", b, err)
	}
	if fi, err := os.Stat(outside); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory outside has mode %v, %v", fi.Mode(), err)
	}
}

// TestLockThatCannotBeOpened expects an error that names the lock. A push must not ignore
// it.
func TestLockThatCannotBeOpened(t *testing.T) {
	needRoot(t, "makes a lock of another user")
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	lock := filepath.Join(dir, spoolLock)
	must(t, unix.Mkfifo(lock, 0o600))
	as(4001, 4001, func() {
		s := open(t, dir, nil)
		if err := s.Replace(group(t, "job", "a"), families(t, "m 1\n"), record.PushOptions{}); err == nil || !strings.Contains(err.Error(), spoolLock) {
			t.Errorf("a push without the lock: %v", err)
		}
	})
}
