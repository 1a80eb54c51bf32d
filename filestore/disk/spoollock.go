package disk

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// SpoolLock is the named pipe in the spool whose lock prevents commits of other processes.
// Only users who may write the spool may open it. Any file that can be
// opened can be locked, so every reader could lock the directory itself. A pipe has no
// content, so other readers of the spool find only files of metrics.
//
// It is never deleted and is created again if missing. If it is deleted while a
// process waits for it, the lock protects nothing, so the name is checked again after
// locking.
const SpoolLock = ".promspool.lock"

// lockTimeout is how long a commit waits for another process.
const lockTimeout = 5 * time.Second

// Exclusion lets one change at a time rename or delete files of the spool, among all
// processes.
//
// It guards no fields. It is taken after the lock of a group and before the lock of
// the Store. The order is: a group in Store.groups, the turn, the lock between
// processes, Store.mu. So a wait for another process delays other changes only:
// scrapes, rescans and reloads take Store.mu alone.
//
// Changes that wait share one wait. The first one has the turn and waits; when it
// gives up, each change that had begun by then tries once and gives up as well.
type Exclusion struct {
	turn   chan struct{}             // full while a change has the turn
	failed atomic.Pointer[time.Time] // end of the last wait that failed
}

// NewExclusion returns an Exclusion that no change holds.
func NewExclusion() Exclusion { return Exclusion{turn: make(chan struct{}, 1)} }

// exclusive is an Exclusion that a change holds.
type exclusive struct {
	x    *Exclusion
	d    *Dir
	lock *os.File
}

// Exclude takes the turn and then the lock between processes. The directory must be
// acquired. A change that began before the end of a failed wait does not wait again.
func (x *Exclusion) Exclude(d *Dir, since time.Time) (h exclusive, err error) {
	x.turn <- struct{}{}
	defer func() {
		if h.lock == nil {
			<-x.turn
		}
	}()
	timeout := lockTimeout
	if x.SharedFailure(since) {
		timeout = 0
	}
	f, err := d.lock(timeout)
	switch {
	case err == nil:
		return exclusive{x, d, f}, nil
	case d.CheckPath() != nil:
		return exclusive{}, ErrReplaced
	case timeout > 0 && errors.Is(err, ErrBusy):
		now := time.Now()
		x.failed.Store(&now)
	}
	return exclusive{}, err
}

// SharedFailure reports whether a wait has failed after a change began.
func (x *Exclusion) SharedFailure(since time.Time) bool {
	failed := x.failed.Load()
	return failed != nil && !since.After(*failed)
}

// Release ends the exclusion.
func (h exclusive) Release() {
	// Closing is not enough, because a child that is being started has the file open.
	_ = unix.Flock(int(h.lock.Fd()), unix.LOCK_UN)
	if h.lock != h.d.lockFile {
		_ = h.lock.Close()
	}
	<-h.x.turn
}

// lock prevents commits of other processes until the returned file is unlocked. A
// commit holds it during a rename. If another process holds it for longer than the
// timeout, the error is ErrBusy. The directory must be acquired.
func (d *Dir) lock(timeout time.Duration) (*os.File, error) {
	deadline := time.Now().Add(timeout)
	for {
		f, err := d.keptLock()
		if err != nil {
			return nil, err
		}
		err = flockUntil(f, deadline, func() error {
			switch {
			case !d.leadsTo(f.Name(), &d.lockID):
				return ErrRetry // deleted: the lock protects nothing
			case d.CheckPath() != nil:
				return ErrReplaced
			}
			return nil
		})
		if err == nil && !d.leadsTo(f.Name(), &d.lockID) {
			err = ErrRetry
		}
		if errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) {
			err = nil // a file system without locks supports only one process
		}
		if err == nil {
			return f, nil
		}
		d.dropLock(f)
		switch {
		case err != ErrRetry:
			return nil, err
		case !time.Now().Before(deadline):
			return nil, ErrBusy
		}
	}
}

// LockHeld reports whether a process holds the lock of a spool for the whole timeout,
// which is longer than any commit. It is false if the lock cannot be opened.
func LockHeld(dir string, timeout time.Duration) bool {
	f, err := os.OpenFile(filepath.Join(dir, SpoolLock), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // releases the lock
	return errors.Is(flockUntil(f, time.Now().Add(timeout), func() error { return nil }), ErrBusy)
}

// flockUntil locks the file, or fails with ErrBusy at the deadline. While it waits it
// calls check, and returns its error.
func flockUntil(f *os.File, deadline time.Time, check func() error) error {
	fd := int(f.Fd())
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	for wait := time.Millisecond; err == unix.EWOULDBLOCK || err == unix.EINTR; wait = min(2*wait, 20*time.Millisecond) {
		if !time.Now().Before(deadline) {
			return ErrBusy
		}
		time.Sleep(wait)
		if err := check(); err != nil {
			return err
		}
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	return err
}

// keptLock returns the open lock, which stays open as long as the directory. The
// directory that is locked instead on a full disk is not kept. The caller has the turn.
func (d *Dir) keptLock() (*os.File, error) {
	if d.lockFile != nil {
		return d.lockFile, nil
	}
	f, err := d.OpenLock()
	if err != nil {
		return nil, err
	}
	if err := unix.Fstat(int(f.Fd()), &d.lockID); err != nil {
		_ = f.Close()
		return nil, err
	}
	if f.Name() == SpoolLock {
		d.open.Lock()
		defer d.open.Unlock()
		d.lockFile = f
	}
	return f, nil
}

// dropLock closes the lock, so the next change opens it again.
func (d *Dir) dropLock(f *os.File) {
	d.open.Lock()
	defer d.open.Unlock()
	if d.lockFile == f {
		d.lockFile = nil
	}
	_ = f.Close() // nothing was written
}

// leadsTo reports whether the name still leads to the open file.
func (d *Dir) leadsTo(name string, here *unix.Stat_t) bool {
	var there unix.Stat_t
	err := unix.Fstatat(int(d.File.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && here.Dev == there.Dev && here.Ino == there.Ino
}

// OpenLock opens the pipe for the lock, and creates it if missing. Anything else with
// its name is deleted if that is permitted. A pipe is used as it is, because another
// process may hold its lock.
func (d *Dir) OpenLock() (*os.File, error) {
	at := int(d.File.Fd())
	for range 20 {
		f, err := d.openPipe(SpoolLock)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, unix.ENOENT):
			switch err = d.makeSpoolLock(); {
			case err == nil, errors.Is(err, unix.EEXIST):
			case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
				return d.OpenPlain(".") // groups can be deleted on a full disk
			default:
				return nil, Wrap("making the lock "+SpoolLock+" of the spool", err)
			}
		case errors.Is(err, errOtherKind), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
			if unix.Unlinkat(at, SpoolLock, 0) != nil && unix.Unlinkat(at, SpoolLock, unix.AT_REMOVEDIR) != nil {
				return nil, errBadLock
			}
		case errors.Is(err, unix.EACCES) && unix.Faccessat(at, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil:
			return nil, unix.EACCES // the spool is not writable
		case errors.Is(err, unix.EACCES):
			// Another process is creating it, or it is not meant to be a lock. Only the
			// owner of the spool can be sure that no process uses it as a lock.
			var spool unix.Stat_t
			if unix.Fstat(at, &spool) != nil || int(spool.Uid) != os.Geteuid() || unix.Unlinkat(at, SpoolLock, 0) != nil {
				time.Sleep(5 * time.Millisecond)
			}
		default:
			return nil, Wrap("opening the lock "+SpoolLock+" of the spool", err)
		}
	}
	return nil, errBadLock
}

var errBadLock = errors.New("the lock " + SpoolLock + " of the spool is not a pipe that we may open: remove it")

var errOtherKind = errors.New("it is of another kind")

// openPipe opens a named pipe, and no other file. It does not wait for its other end.
func (d *Dir) openPipe(name string) (*os.File, error) {
	f, err := d.openAs(name, unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = errOtherKind
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// OpenPlain opens a directory of that name, and no other file.
func (d *Dir) OpenPlain(name string) (*os.File, error) { return d.openAs(name, unix.O_DIRECTORY) }

// openAs opens the file with that name for reading. It does not follow a link.
func (d *Dir) openAs(name string, how int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(d.File.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|how, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if err != unix.EINTR {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// makeSpoolLock creates the pipe for the lock. It sets the group to that of the spool,
// as root also the owner, and the mode regardless of the umask. So all users who may
// write the spool can open it.
func (d *Dir) makeSpoolLock() error {
	var spool, made unix.Stat_t
	if err := unix.Fstat(int(d.File.Fd()), &spool); err != nil {
		return err
	}
	perm := uint32(0o600)
	if spool.Mode&0o020 != 0 {
		perm |= 0o060
	}
	if spool.Mode&0o002 != 0 {
		perm |= 0o006
	}
	if err := d.makePipe(SpoolLock, perm); err != nil {
		return err
	}
	f, err := d.openPipe(SpoolLock)
	if err != nil {
		return nil // another process has replaced it
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if err := unix.Fstat(int(f.Fd()), &made); err != nil || int(made.Uid) != os.Geteuid() {
		return err
	}
	if uid := os.Geteuid(); uid == 0 && (made.Uid != spool.Uid || made.Gid != spool.Gid) {
		err = unix.Fchown(int(f.Fd()), int(spool.Uid), int(spool.Gid))
	} else if made.Gid != spool.Gid {
		_ = unix.Fchown(int(f.Fd()), -1, int(spool.Gid)) // without permission the group stays
	}
	if err == nil && uint32(made.Mode)&perm != perm {
		err = unix.Fchmod(int(f.Fd()), perm)
	}
	return err
}
