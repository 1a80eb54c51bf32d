// Package disk gives atomic, durable access to a directory that other processes
// change at the same time.
//
// A [Dir] is bound to the directory that was found, even if its path leads to another
// one later. A file is written under a temporary name, synced and renamed. A rename is
// durable after a sync of the directory, which all waiting changes share. A failed sync
// puts all earlier unsynced renames in doubt. An [Exclusion] serializes renames and
// deletions across processes.
//
// Files are opened without blocking and checked after the open. Only regular files are
// read, and symbolic links only if their owners may read the target. The package does
// not depend on metrics.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// ErrRetry reports that a file or the directory changed after it was read.
var ErrRetry = errors.New("changed meanwhile")

// A Dir is the directory of a spool or of another source. It stays the same directory
// if its path leads to another one later. File names are relative to it.
//
// It is open only while it is in use and for a moment after that, because an open
// directory prevents an unmount. While it is closed, device, inode and time of birth
// identify it. On file systems without a time of birth it stays open, which reserves
// the inode number.
type Dir struct {
	Path   string
	id     identity
	pinned bool

	// A sync has failed. All earlier unsynced renames are in doubt, because the kernel
	// may have dropped their pages and reports later syncs as successful (ext4). New
	// changes open the directory anew.
	failed atomic.Bool
	doubt  bool // opened anew after a failed sync

	open sync.Mutex // guards user, idle and whether Root and File are open
	user int
	keep bool        // stay open for a moment after the last use
	idle *time.Timer // closes the directory after that
	Root *os.Root
	File *os.File // the same directory, to sync and stat it

	owner uint32 // owner of the directory when it was opened
	mode  uint32 // its permissions then

	lockFile *os.File     // lock of the spool while the directory is open; used by the current change
	lockID   unix.Stat_t  // identity of lockFile
	checked  atomic.Int64 // time of the last successful CheckPath, in Unix nanoseconds
	permOK   atomic.Bool  // the umask gives new files the mode filePerm

	mu      sync.Mutex
	next    *flush     // sync that new callers join; nil if none waits
	flushes sync.Mutex // held during a sync
}

// identity identifies a directory. It is comparable.
type identity struct {
	dev, ino, mount uint64
	birth           int64 // nanoseconds
}

// flush is a sync of the directory that all waiting callers share.
type flush struct {
	done chan struct{}
	err  error
}

// Open finds the directory at the path. It is in use on return.
func Open(path string) (*Dir, error) {
	d := &Dir{Path: path}
	if err := d.openAt(); err != nil {
		return nil, err
	}
	var ok bool
	if d.id, ok = identify(d.File); !ok {
		d.pinned = true
		d.user++ // never released
	}
	d.user++
	return d, nil
}

func (d *Dir) openAt() error {
	// OpenRoot would block on a named pipe, and it has its own error for a file that
	// is not a directory.
	if fi, err := os.Stat(d.Path); err != nil {
		return err
	} else if !fi.IsDir() {
		return &fs.PathError{Op: "open", Path: d.Path, Err: unix.ENOTDIR}
	}
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return err
	}
	dir, err := root.Open(".")
	if err != nil {
		_ = root.Close()
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		_, _ = dir.Close(), root.Close() // only opened
		return err
	}
	d.Root, d.File, d.owner, d.mode = root, dir, st.Uid, uint32(st.Mode)
	return nil
}

// keepOpen is the time that a directory stays open after its last use. Opening it takes
// more system calls than the rest of a push.
const keepOpen = 100 * time.Millisecond

// Acquire begins a use of the directory, which Release ends. It opens a closed directory.
// Then it is an error if the path now leads to another directory or to none, because
// writes would be lost. For an open directory the caller checks that with CheckPath.
func (d *Dir) Acquire() error {
	if d.failed.Load() {
		return ErrReplaced
	}
	d.open.Lock()
	defer d.open.Unlock()
	if d.File == nil {
		if err := d.openAt(); err != nil {
			return err
		}
		if id, ok := identify(d.File); !ok || id != d.id {
			d.shut()
			return ErrReplaced
		}
	}
	d.user++
	return nil
}

// Release ends a use.
func (d *Dir) Release() {
	d.open.Lock()
	defer d.open.Unlock()
	switch d.user--; {
	case d.user > 0:
		return
	case !d.keep:
		d.shut()
		return
	}
	if d.idle == nil {
		d.idle = time.AfterFunc(keepOpen, d.shutIfIdle)
	} else {
		d.idle.Reset(keepOpen)
	}
}

// shutIfIdle closes the directory unless it is in use.
func (d *Dir) shutIfIdle() {
	d.open.Lock()
	defer d.open.Unlock()
	if d.user == 0 && d.File != nil {
		d.shut()
	}
}

// Follow records that the directory was opened again after old.
func (d *Dir) Follow(old *Dir) {
	d.doubt = old != nil && (old.doubt || old.failed.Load()) && old.id == d.id
}

// IsStill reports whether the path leads to the directory that it led to before.
func (d *Dir) IsStill(old *Dir) bool { return old != nil && !d.pinned && old.id == d.id }

// Retire releases the resources of a directory that is not in use. d may be nil.
func (d *Dir) Retire() {
	if d == nil {
		return
	}
	if d.pinned {
		d.Release()
	}
	d.shutIfIdle()
}

// Keep makes the directory stay open for a moment after each use. It must be called during
// the first use.
func (d *Dir) Keep() { d.keep = true }

// Users returns the number of current uses.
func (d *Dir) Users() int {
	d.open.Lock()
	defer d.open.Unlock()
	return d.user
}

func (d *Dir) shut() {
	if d.lockFile != nil {
		_ = d.lockFile.Close() // only locked
		d.lockFile = nil
	}
	_, _ = d.File.Close(), d.Root.Close() // only read and synced
	d.File, d.Root = nil, nil
}

// CheckPath returns an error if the path now leads to another directory or to none. The
// directory is in use.
func (d *Dir) CheckPath() error {
	if !d.pinned {
		id, ok, err := identifyPath(d.Path)
		switch {
		case err != nil:
			return err
		case !ok || id != d.id:
			return ErrReplaced
		}
		d.checked.Store(time.Now().UnixNano())
		return nil
	}
	here, err := d.File.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(d.Path)
	if err != nil {
		return err
	}
	if !os.SameFile(here, there) {
		return ErrReplaced
	}
	return nil
}

// CheckPathLately is CheckPath, except that a success is valid for a moment. It is for
// reads, which are repeated, and not for changes.
func (d *Dir) CheckPathLately() error {
	if age := time.Now().UnixNano() - d.checked.Load(); age >= 0 && age < int64(50*time.Millisecond) {
		return nil
	}
	return d.CheckPath()
}

// ErrReplaced reports that the path now leads to another directory.
var ErrReplaced = errors.New("the spool directory was replaced by another")

// Sync makes all renames and deletions so far durable. Callers that arrive during a sync
// share the next one.
func (d *Dir) Sync() error {
	d.mu.Lock()
	f := d.next
	if f != nil {
		d.mu.Unlock()
		<-f.done
		return f.err
	}
	f = &flush{done: make(chan struct{})}
	d.next = f
	d.mu.Unlock()

	d.flushes.Lock()
	defer func() {
		d.flushes.Unlock()
		close(f.done)
	}()
	d.mu.Lock()
	d.next = nil
	d.mu.Unlock()
	f.err = errNotFlushed // stays after a panic below
	f.err = d.recordSyncError(d.File.Sync())
	if f.err == nil && d.failed.Load() {
		f.err = errFailedBefore
	}
	return f.err
}

var errNotFlushed = errors.New("the flush was not done")

var errFailedBefore = errors.New("another flush has failed meanwhile")

// recordSyncError records a failed sync of the directory or of a file in it. A lack of
// space affects only one file and is not recorded.
func (d *Dir) recordSyncError(err error) error {
	if err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		d.failed.Store(true)
	}
	return err
}

// filePerm lets programs of other users read the files.
const filePerm fs.FileMode = 0o644

// Prepare writes and syncs a temporary file in the directory. Its name begins with a
// dot and does not end in .prom, so no reader serves it. The caller renames it with
// Install or deletes it with Discard. The open file is locked, which protects it from
// Sweep.
//
// A time other than zero becomes the modification time of the file.
func (d *Dir) Prepare(name string, data []byte, mtime time.Time) (*Pending, error) {
	f, err := d.temp(name)
	if err != nil {
		return nil, err
	}
	// On failure a Sweep is deleting the file, and the commit is retried.
	_ = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	_, err = f.Write(data)
	if err == nil && !mtime.IsZero() {
		err = d.Root.Chtimes(tempName(f), mtime, mtime)
	}
	if err == nil {
		// No retry: after a failure the kernel regards the pages as clean, and a
		// second sync would succeed.
		err = d.recordSyncError(f.Sync())
	}
	if err != nil {
		_ = f.Cleanup()
		return nil, nameless(err)
	}
	return &Pending{d, f}, nil
}

// Pending is a file that is written and synced under a temporary name.
type Pending struct {
	dir  *Dir
	file *renameio.PendingFile
}

// Discard deletes the file unless it is installed.
func (p *Pending) Discard() { _ = p.file.Cleanup() }

// temp creates a temporary file for a file of that name, with the final mode regardless of
// the umask. renameio would leave the file behind if the mode could not be set.
func (d *Dir) temp(name string) (*renameio.PendingFile, error) {
	f, err := renameio.NewPendingFile(name, renameio.WithRoot(d.Root), renameio.WithPermissions(filePerm))
	if err != nil {
		return nil, nameless(err)
	}
	if d.permOK.Load() {
		return f, nil
	}
	if fi, err := f.Stat(); err != nil {
		_ = f.Cleanup()
		return nil, nameless(err)
	} else if fi.Mode().Perm() != filePerm {
		if err := f.Chmod(filePerm); err != nil {
			_ = f.Cleanup()
			return nil, nameless(err)
		}
	} else {
		d.permOK.Store(true)
	}
	return f, nil
}

// DirectoryError returns the error of a directory in place of a file, which is not
// replaced or deleted.
func DirectoryError(name string) error { return fmt.Errorf("%q is a directory: delete it", name) }

// Install renames a prepared file to its name. It returns the stat of the file, and the
// file that had the name before. It does not use renameio, which would sync the file
// again.
func (p *Pending) Install(name string) (at unix.Stat_t, old OldFile, err error) {
	d, f := p.dir, p.file
	old = d.hold(name)
	// Both are names in the directory, so a check by os.Root is not needed.
	err = unix.Renameat(int(d.File.Fd()), tempName(f), int(d.File.Fd()), name)
	switch {
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY):
		return at, old, DirectoryError(name)
	case err != nil:
		return at, old, nameless(err)
	}
	// By descriptor, since another process may have replaced the name.
	if err := unix.Fstat(int(f.Fd()), &at); err != nil {
		return at, old, err
	}
	_ = f.File.Close() // already synced
	return at, old, nil
}

func tempName(f *renameio.PendingFile) string {
	name := f.Name()
	for i := len(name) - 1; i >= 0; i-- {
		if os.IsPathSeparator(name[i]) {
			return name[i+1:]
		}
	}
	return name
}

// Leftover matches the temporary names of commits.
var Leftover = regexp.MustCompile(`^\.job=.*\.prom[0-9]+$`)

// Sweep deletes temporary files of killed processes: those with names of commits
// whose lock no process holds. A writer that has created its file and not yet locked
// it retries.
func (d *Dir) Sweep(names []string) (removed int) {
	for _, name := range names {
		if !Leftover.MatchString(name) {
			continue
		}
		f, err := d.Root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if d.Root.Remove(name) == nil {
				removed++
			}
		}
		_ = f.Close()
	}
	return removed
}

// Names lists the directory.
func (d *Dir) Names() ([]string, error) {
	dir, err := d.Root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // only read
	return dir.Readdirnames(-1)
}

// VerifyWritable returns an error if a sync has failed and the directory is still not
// writable. It writes a file, because a failed file system reports syncs of unchanged
// files as successful.
func (d *Dir) VerifyWritable() error {
	if !d.doubt {
		return nil
	}
	err := d.Probe(0)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return nil
	}
	return err
}

// Probe returns an error if a file of that size cannot be written, or of a page if that
// is more. Only a larger one is synced.
func (d *Dir) Probe(size int64) error {
	f, err := d.temp("job=probe.prom")
	if err != nil {
		return err
	}
	const page = 4096
	_, err = f.Write(make([]byte, max(size, page)))
	if err == nil && size > page {
		err = f.Sync() // some file systems allocate only then
	}
	if cleanup := f.Cleanup(); err == nil {
		err = cleanup
	}
	return nameless(err)
}

// Wrap adds the failed action to an error of the file system.
func Wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, nameless(err)) // the path is the spool's and is named by what
}

// ErrBusy is the cause if another process held the lock of the spool for too long, or
// kept changing the same file. The spool is unchanged.
var ErrBusy = errors.New("another process holds the lock of the spool")

// nameless removes the path from an error of the file system, so that no response or log
// shows the name of a temporary file.
func nameless(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

// PlainError returns the text of an error of the operating system alone.
func PlainError(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
