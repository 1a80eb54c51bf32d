package watcher

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// A watch is one watch of the kernel on one directory, from the day it is
// opened to the day the directory or the watch goes bad. It is not mended: a new
// one takes its place, which also leaves no registration behind on a directory
// that used to have the name.
type watch struct {
	events <-chan fsnotify.Event
	errors <-chan error

	// partial is the type of the file system if it is known not to report
	// every change, else empty.
	partial string

	// check returns nil while the path leads to the very directory that is
	// watched and the kernel has not dropped the watch.
	check func() error

	// close ends the watch and closes both channels. It needs nobody to read them.
	close func()
}

var (
	errReplaced = errors.New("the path leads to another directory")
	errDropped  = errors.New("the kernel has dropped the watch")
)

// openWatch watches dir. Nothing is left open on an error.
func openWatch(dir string) (*watch, error) {
	// Opened with O_DIRECTORY, because opening a FIFO would wait for a writer. It
	// is not kept: a descriptor would keep the file system from being unmounted.
	// The comparison in check is sound without it, because the kernel's watch
	// pins the inode: its number is not given to another directory before the
	// watch is gone, which check sees as well.
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return nil, err
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
		return err
	}
	x := &watch{
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
			// fsnotify can be stuck telling an error with a lock held that Close needs.
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
	// Add goes by the path too. If the path has been turned in between, the
	// watch and the descriptor may be on different directories.
	if err := same(); err != nil {
		x.close()
		return nil, fmt.Errorf("adding a watch on %s: %w", dir, err)
	}
	return x, nil
}

// Probe reports why the kernel would not watch the directory for this process,
// nil if it would: its limits are those of the user.
func Probe(dir string) error {
	w, err := openWatch(dir)
	if err != nil {
		return err
	}
	w.close()
	return nil
}
