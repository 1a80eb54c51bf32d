package disk

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// SpoolLock is the named pipe in the spool whose lock keeps other processes from
// committing. Only users who may write the spool may open it: a file that can be
// opened can be locked, so a lock on the spool itself, which everybody may read,
// could be held by any user. It is a pipe because a pipe has no content, so other
// readers of the spool find nothing but files of metrics.
//
// It stays in place and is created anew if it is missing. The lock of a pipe that
// has been deleted protects nothing, so the name is checked again after locking.
const SpoolLock = ".promspool.lock"

// lockPatience is how long a commit waits for another process.
const lockPatience = 5 * time.Second

// Exclusion lets one change at a time rename or delete files of the spool, in this
// process and beside others.
//
// It guards no fields. It is taken after the lock of a group and before the lock of
// the Store. The order is: a group in Store.groups, the turn, the lock between
// processes, Store.mu. So a wait for another process holds up other changes only:
// scrapes, looks and reloads take Store.mu alone.
//
// Changes that wait share one wait. The first one has the turn and waits; when it
// gives up, each change that had begun by then tries once and gives up as well.
type Exclusion struct {
	turn   chan struct{}             // full while a change has the turn
	failed atomic.Pointer[time.Time] // the end of the last wait that failed
}

// NewExclusion returns an Exclusion that no change has.
func NewExclusion() Exclusion { return Exclusion{turn: make(chan struct{}, 1)} }

// exclusive is the exclusion while a change has it.
type exclusive struct {
	x    *Exclusion
	d    *Dir
	lock *os.File
}

// Exclude takes the turn and then the lock between processes. The directory is in
// use. A change that began before the end of a failed wait does not wait again.
func (x *Exclusion) Exclude(d *Dir, since time.Time) (h exclusive, err error) {
	x.turn <- struct{}{}
	defer func() {
		if h.lock == nil {
			<-x.turn
		}
	}()
	patience := lockPatience
	if x.SharedFailure(since) {
		patience = 0
	}
	f, err := d.lock(patience)
	switch {
	case err == nil:
		return exclusive{x, d, f}, nil
	case d.CheckPath() != nil:
		return exclusive{}, ErrReplaced
	case patience > 0 && errors.Is(err, ErrBusy):
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
	// Not by closing alone: a child that is about to be started has the file open, too.
	_ = unix.Flock(int(h.lock.Fd()), unix.LOCK_UN)
	if h.lock != h.d.lockFile {
		_ = h.lock.Close()
	}
	<-h.x.turn
}

// lock keeps other processes from committing until the returned file is unlocked. A
// commit holds it for the moment of a rename. If another process holds it for longer
// than patience, the error is errBusy. The directory is in use.
func (d *Dir) lock(patience time.Duration) (*os.File, error) {
	deadline := time.Now().Add(patience)
	for {
		f, err := d.keptLock()
		if err != nil {
			return nil, err
		}
		err = flockUntil(f, deadline, func() error {
			switch {
			case !d.leadsTo(f.Name(), &d.lockID):
				return ErrRetry // removed: it locks nothing any more
			case d.CheckPath() != nil:
				return ErrReplaced
			}
			return nil
		})
		if err == nil && !d.leadsTo(f.Name(), &d.lockID) {
			err = ErrRetry
		}
		if errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) {
			err = nil // a file system without locks: then one process has to do
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

// LockHeld reports whether somebody holds the lock of a spool for as long as
// patience lasts, which is longer than any commit needs. Where that cannot be asked
// it is false.
func LockHeld(dir string, patience time.Duration) bool {
	f, err := os.OpenFile(filepath.Join(dir, SpoolLock), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // lets go of it as well
	return errors.Is(flockUntil(f, time.Now().Add(patience), func() error { return nil }), ErrBusy)
}

// flockUntil locks the file, or fails with errBusy at the deadline. While it waits
// it asks whether the wait still makes sense, and returns an error that says no.
func flockUntil(f *os.File, deadline time.Time, sensible func() error) error {
	fd := int(f.Fd())
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	for wait := time.Millisecond; err == unix.EWOULDBLOCK || err == unix.EINTR; wait = min(2*wait, 20*time.Millisecond) {
		if !time.Now().Before(deadline) {
			return ErrBusy
		}
		time.Sleep(wait)
		if err := sensible(); err != nil {
			return err
		}
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	return err
}

// keptLock returns the open lock, which stays open as long as the directory. What is
// locked in place of it on a full disk does not stay. The caller has the turn.
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

// dropLock closes the lock, so that the next change opens it anew.
func (d *Dir) dropLock(f *os.File) {
	d.open.Lock()
	defer d.open.Unlock()
	if d.lockFile == f {
		d.lockFile = nil
	}
	_ = f.Close() // only locked
}

// leadsTo reports whether the name is still that of what was opened.
func (d *Dir) leadsTo(name string, here *unix.Stat_t) bool {
	var there unix.Stat_t
	err := unix.Fstatat(int(d.File.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && here.Dev == there.Dev && here.Ino == there.Ino
}

// OpenLock opens what is to be locked, and makes it if it is not there. What
// somebody has put there instead is removed where we may. A pipe is taken as it is,
// since another process may hold its lock.
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
				return d.OpenPlain(".") // a full disk does not keep groups from being deleted
			default:
				return nil, Wrap("making the lock "+SpoolLock+" of the spool", err)
			}
		case errors.Is(err, errOtherKind), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
			if unix.Unlinkat(at, SpoolLock, 0) != nil && unix.Unlinkat(at, SpoolLock, unix.AT_REMOVEDIR) != nil {
				return nil, errBadLock
			}
		case errors.Is(err, unix.EACCES) && unix.Faccessat(at, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil:
			return nil, unix.EACCES // it is the spool that we may not write to
		case errors.Is(err, unix.EACCES):
			// Somebody is about to make it, or it is not meant to be a lock. Only the
			// owner of the spool is sure that nobody who may commit has it.
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

// openPipe opens a named pipe, and nothing else. It does not wait for whoever may
// have its other end.
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

// OpenPlain opens a directory of that name, and nothing else.
func (d *Dir) OpenPlain(name string) (*os.File, error) { return d.openAs(name, unix.O_DIRECTORY) }

// openAs opens what has that name for reading, if it is no link.
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

// makeSpoolLock makes the pipe for the lock. Its group is that of the spool, and so
// is its owner if root makes it, so that whoever may write the spool may open it,
// whatever the umask.
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
		return nil // another one by now
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if err := unix.Fstat(int(f.Fd()), &made); err != nil || int(made.Uid) != os.Geteuid() {
		return err
	}
	if uid := os.Geteuid(); uid == 0 && (made.Uid != spool.Uid || made.Gid != spool.Gid) {
		err = unix.Fchown(int(f.Fd()), int(spool.Uid), int(spool.Gid))
	} else if made.Gid != spool.Gid {
		_ = unix.Fchown(int(f.Fd()), -1, int(spool.Gid)) // whoever is in the group may
	}
	if err == nil && uint32(made.Mode)&perm != perm {
		err = unix.Fchmod(int(f.Fd()), perm)
	}
	return err
}
