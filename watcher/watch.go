package watcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// A watch is one watch of the kernel on one directory. If the directory or the watch
// fails, a new watch replaces it. This also leaves no registration on a directory
// that had the name before.
type watch struct {
	events <-chan fsnotify.Event
	errors <-chan error

	// partial is the type of the file system if it is known not to report
	// every change, else empty.
	partial string

	// writers tracks the writers in the directory; nil if that is not possible.
	writers *writers

	// check returns nil while the path leads to the watched directory and the kernel
	// has not dropped the watch.
	check func() error

	// close ends the watch and closes both channels. It does not wait for a reader.
	close func()
}

var (
	errReplaced = errors.New("the path leads to another directory")
	errDropped  = errors.New("the kernel has dropped the watch")
)

// A directoryError is an error of the directory, which is missing or unreadable, and
// not of the kernel's limits.
type directoryError struct{ err error }

func (e *directoryError) Error() string { return e.err.Error() }
func (e *directoryError) Unwrap() error { return e.err }

// ofDirectory wraps an error of opening the directory, unless the cause is a shortage
// of resources.
func ofDirectory(err error) error {
	if err == nil || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) {
		return err
	}
	return &directoryError{err}
}

// IsDirectoryError reports whether an error of [Probe] means that the directory is
// missing or unreadable. Other errors are limits of the kernel.
func IsDirectoryError(err error) bool {
	var d *directoryError
	return errors.As(err, &d) || isMissing(err) || errors.Is(err, fs.ErrPermission)
}

// openWatch watches dir. Reports about writers are collected for the files that
// match. Nothing is left open on an error.
func openWatch(dir string, match func(string) bool) (*watch, error) {
	// O_DIRECTORY is set because opening a FIFO would wait for a writer. The descriptor
	// is not kept, because it would prevent an unmount. The comparison in check is
	// correct without it: the kernel's watch pins the inode, so its number is not
	// reused before the watch ends, which check detects as well.
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, ofDirectory(err)
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return nil, ofDirectory(err)
	}
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	same := func() error {
		now, err := os.Stat(dir)
		if err == nil && !os.SameFile(info, now) {
			err = errReplaced
		}
		return ofDirectory(err)
	}
	var x *watch
	x = &watch{
		events:  fs.Events,
		errors:  fs.Errors,
		partial: partialFS(d),
		check: func() error {
			err := same()
			if err == nil && len(fs.WatchList()) == 0 {
				err = errDropped
			}
			return err
		},
		close: func() {
			if x.writers != nil {
				x.writers.close()
			}
			// fsnotify can block while it reports an error, with a lock that Close needs.
			go func() {
				for range fs.Errors {
				}
			}()
			fs.Close()
		},
	}
	if err := fs.Add(dir); err != nil {
		x.close()
		return nil, fmt.Errorf("adding a watch on %s: %w", dir, err)
	}
	// Without it only the end of a writer is detected later.
	if writers, err := watchWriters(dir, match); err == nil {
		x.writers = writers
	}
	// Add uses the path too. If the path was changed in between, the watch and the
	// descriptor may be on different directories.
	if err := same(); err != nil {
		x.close()
		return nil, fmt.Errorf("adding a watch on %s: %w", dir, err)
	}
	return x, nil
}

// Probe returns nil if the kernel can watch the directory for this process, within
// the limits of its user.
func Probe(dir string) error {
	w, err := openWatch(dir, func(string) bool { return false })
	if err != nil {
		return err
	}
	w.close()
	return nil
}
