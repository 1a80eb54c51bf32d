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

// A Lock marks a group whose job is running, which can take hours. It is a kernel lock
// on a file next to the group's file, so it ends with the last process that has that
// file open. It does not prevent changes of the group.
type Lock struct {
	store *Store
	name  string
	file  *os.File
}

// ErrLocked is wrapped by the error of Lock if another process holds the lock.
var ErrLocked = errors.New("another process holds the lock")

// lockPerm excludes users who may not write the spool, because a file that can be
// opened can be locked.
const lockPerm fs.FileMode = 0o640

func lockName(g grouping.Key) string {
	return "." + strings.TrimSuffix(g.FileName(), grouping.Suffix) + ".lock"
}

// Lock takes the lock of a group, or fails at once with ErrLocked. Processes can share
// it if all of them set share. If no other process has the lock, alone is called
// while none can take it: a run that is recorded as running was lost. alone may be nil
// and may be called more than once.
func (s *Store) Lock(g grouping.Key, share bool, alone func()) (*Lock, error) {
	name := lockName(g)
	// A process that checks the lock holds it for a moment.
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

// lockFile locks the file. It takes an exclusive lock first, which shows whether another
// process has it. The change to a shared lock is not atomic: another process may take
// the lock in between.
func (s *Store) lockFile(f *os.File, name string, share bool, alone func()) error {
	fd := int(f.Fd())
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && !s.leadsTo(name, f) {
		return disk.ErrRetry // deleted by the previous holder
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

// File returns the open file with the lock. A process that inherits it holds the lock
// as well. The Lock closes it.
func (l *Lock) File() *os.File { return l.file }

// Release ends the lock for all processes that hold it through this file, also
// inherited. The file is deleted if no other process has the lock and clean, if not
// nil, returns true. clean is called while no other process can take the lock.
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
			_ = d.Root.Remove(l.name) // a remaining file is harmless
		}
	}
}

// Locked reports whether a process holds the lock of the group. known is false if the
// file does not exist or cannot be opened, or if the file system has no locks.
func (s *Store) Locked(g grouping.Key) (locked, known bool) {
	f, err := s.openLock(lockName(g), 0)
	if err != nil {
		return false, false
	}
	defer f.Close() //nolint:errcheck // only locked
	// Exclusive, to detect shared locks as well.
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return err == unix.EWOULDBLOCK, err == nil || err == unix.EWOULDBLOCK
}

// Unlock deletes the file of the lock if no process holds it and clean returns true, as
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
		_ = f.Chmod(lockPerm) // regardless of the umask; fails for a file of another user
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

// LockHeld reports whether another process holds the lock of a spool for the whole
// timeout, which is longer than any commit. It is false if the lock cannot be opened.
func LockHeld(dir string, timeout time.Duration) bool { return disk.LockHeld(dir, timeout) }
