package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/promspool/promspool/filestore"
)

// stateDirectory is where the package, the unit and the image keep the state.
const stateDirectory = "/var/lib/promspool"

// spoolMode lets the members of the group drop files and gives these its group.
const spoolMode = fs.ModeSetgid | 0o775

// defaultSpool returns the spool that commands take if none is given.
// It depends on the state directory alone: an empty volume there is where pushes
// go, and not the current directory of a container.
func defaultSpool(state string) string {
	if _, err := os.Lstat(state); errors.Is(err, fs.ErrNotExist) {
		return "./spool"
	}
	return filepath.Join(state, "spool")
}

// openSpool opens an existing spool. Only the agent creates one.
func openSpool(dir string, opts *filestore.Options) (*filestore.Store, error) {
	store, err := filestore.Open(dir, opts)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: say with --spool.directory or PROMSPOOL_SPOOL_DIRECTORY where the spool is", err)
	}
	return store, err
}

// createSpool creates the spool if it does not exist, and reports whether it did.
func createSpool(dir string) (created bool, err error) {
	dir = filepath.Clean(dir)
	fi, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if created, err = true, makeSpool(dir); errors.Is(err, fs.ErrExist) { // made by another process
			created = false
			fi, err = os.Stat(dir)
		}
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("creating the spool: %w: create it with \"install -d -m 2775 -o %d -g %d %s\", or set --spool.directory or PROMSPOOL_SPOOL_DIRECTORY",
			err, os.Geteuid(), os.Getegid(), dir)
	case !created && !fi.IsDir():
		return false, fmt.Errorf("the spool %s is not a directory: set --spool.directory or PROMSPOOL_SPOOL_DIRECTORY", dir)
	}
	return created, nil
}

// makeSpool makes the directory with all its parents. The error is fs.ErrExist if
// it is there.
func makeSpool(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return errors.New(err.Error()) // a parent that is there and is no directory is not fs.ErrExist
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	err := handOver(dir)
	if err != nil {
		_ = os.Remove(dir) // it is empty
	}
	return err
}

// handOver gives a directory that was just made the owner of its parent, and its
// mode. Only root can give it to another user; for others it keeps theirs.
// It works on a descriptor: the owner of the parent may put a link in its place.
func handOver(dir string) error {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	parent, err := os.Stat(filepath.Dir(dir))
	if err != nil {
		return err
	}
	if owner, ok := parent.Sys().(*syscall.Stat_t); ok {
		switch {
		case int(owner.Uid) == os.Geteuid():
			_ = f.Chown(-1, int(owner.Gid)) // permitted to members of the group, and to root
		case os.Geteuid() == 0:
			if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
				return err
			}
		}
	}
	// Under RestrictSUIDSGID= of a unit only the mode without the bit is permitted.
	if err = f.Chmod(spoolMode); errors.Is(err, fs.ErrPermission) {
		err = f.Chmod(spoolMode.Perm())
	}
	return err
}
