package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/grouping"
)

// A Lock says that somebody is at work on what a group tells of, for as long as
// that takes: hours, where the lock of a commit is held for a moment. It is a lock
// of the kernel on a file beside the group's, so it ends with the last process
// that has the file open, however that ends. It keeps nobody from changing the
// group.
type Lock struct {
	store *Store
	name  string
	file  *os.File
}

// ErrLocked is what the error of Lock wraps when somebody else holds the lock.
var ErrLocked = errors.New("somebody else holds the lock")

// lockPerm keeps those out who may not write the spool either: who can open a
// file can lock it.
const lockPerm fs.FileMode = 0o640

func lockName(g grouping.Key) string {
	return "." + strings.TrimSuffix(g.FileName(), grouping.Suffix) + ".lock"
}

// Lock takes the lock of a group, or fails at once with ErrLocked. Several may
// have it if all of them share it. If nobody else has it, alone is called, unless
// it is nil, while nobody else can take it: what is said to be done under the lock
// at that moment is not. It may be called more than once.
func (s *Store) Lock(g grouping.Key, share bool, alone func()) (*Lock, error) {
	name := lockName(g)
	// Whoever looks whether the lock is held has it for the moment of the look.
	for try := 0; ; try++ {
		f, err := s.openLock(name, os.O_CREATE)
		if err != nil {
			return nil, disk.Wrap("opening the lock of group "+g.String(), err)
		}
		err = func() (err error) {
			locked := false
			defer func() {
				if !locked { // also if alone panics
					_ = f.Close()
				}
			}()
			err = s.lockFile(f, name, share, alone)
			locked = err == nil
			return err
		}()
		switch {
		case err == nil:
			return &Lock{s, name, f}, nil
		case err != disk.ErrRetry && err != unix.EWOULDBLOCK && err != unix.EINTR:
			return nil, fmt.Errorf("locking group %s: %w", g, err)
		case try >= 20:
			return nil, fmt.Errorf("locking group %s: %w", g, ErrLocked)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// lockFile locks the file, first alone to see whether anybody else has the lock.
// To share it then is not one step: somebody else may come in between.
func (s *Store) lockFile(f *os.File, name string, share bool, alone func()) error {
	fd := int(f.Fd())
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && !s.leadsTo(name, f) {
		return disk.ErrRetry // removed by the one before
	}
	if err == nil && alone != nil {
		alone()
	}
	if share {
		if err = unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err == nil && !s.leadsTo(name, f) {
			return disk.ErrRetry
		}
	}
	return err
}

// File returns the open file that the lock is on: a process that inherits it
// holds the lock as well. It belongs to the Lock.
func (l *Lock) File() *os.File { return l.file }

// Release ends the lock for all who hold it through this file, also for those
// who inherited it. If nobody else has it, and if clean is not nil and says so, the
// file is removed. It is asked while nobody else can take the lock.
func (l *Lock) Release(clean func() bool) {
	fd := int(l.file.Fd())
	defer func() {
		_ = unix.Flock(fd, unix.LOCK_UN)
		_ = l.file.Close()
	}()
	if clean == nil || unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil || !clean() {
		return
	}
	if d, err := l.store.spool.inUse(); err == nil {
		defer d.Release()
		if l.store.leadsTo(l.name, l.file) {
			_ = d.Root.Remove(l.name) // then it stays, which does no harm
		}
	}
}

// Locked reports whether somebody holds the lock of the group. It is not known if
// there is no file to lock, or none that we may open, or if the file system has no
// locks.
func (s *Store) Locked(g grouping.Key) (locked, known bool) {
	f, err := s.openLock(lockName(g), 0)
	if err != nil {
		return false, false
	}
	defer f.Close() //nolint:errcheck // only locked
	// Alone, because those who share it count as well.
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return err == unix.EWOULDBLOCK, err == nil || err == unix.EWOULDBLOCK
}

// Unlock removes the file of the lock if nobody holds it, and if clean says so, as
// in Release.
func (s *Store) Unlock(g grouping.Key, clean func() bool) {
	if locked, known := s.Locked(g); locked || !known {
		return
	}
	if l, err := s.Lock(g, false, nil); err == nil {
		l.Release(clean)
	}
}

func (s *Store) openLock(name string, create int) (*os.File, error) {
	d, err := s.spool.inUse()
	if err != nil {
		return nil, err
	}
	defer d.Release()
	f, err := d.Root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|create, lockPerm)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err == nil && create != 0 && fi.Mode().Perm()&lockPerm != lockPerm {
		_ = f.Chmod(lockPerm) // against the umask; another's file is as it is
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// leadsTo reports whether the name is still that of the open file.
func (s *Store) leadsTo(name string, f *os.File) bool {
	d, err := s.spool.inUse()
	if err != nil {
		return false
	}
	defer d.Release()
	there, err := d.Root.Lstat(name)
	if err != nil {
		return false
	}
	here, err := f.Stat()
	return err == nil && os.SameFile(here, there)
}

// LockHeld reports whether another process holds the lock of a spool for as long as
// patience lasts, which is longer than any commit needs. It is false where that
// cannot be asked.
func LockHeld(dir string, timeout time.Duration) bool { return disk.LockHeld(dir, timeout) }
