package disk

import (
	"golang.org/x/sys/unix"
)

// A rename over a file also frees that file if it is not open: its blocks, its inode
// and, with online discard, a request to the disk. That takes as long as the rename or
// longer, and would happen under the lock that all commits share. So a commit keeps
// the replaced file open, and closes it during the fsync of the directory. The space
// is free before the push is answered.

// OldFile is an open file whose name was replaced. The zero value is none.
type OldFile struct {
	fd   int // opened without access to the content
	open bool
}

// hold opens the file with that name, if there is one, so that it is not freed before
// Release.
func (d *Dir) hold(name string) OldFile {
	if holdFlags == 0 {
		return OldFile{}
	}
	fd, err := unix.Openat(int(d.File.Fd()), name, holdFlags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return OldFile{fd, err == nil} // if not, the rename frees it
}

// Release starts to free the file. The returned function waits until that is done.
func (r OldFile) Release() (wait func()) {
	if !r.open {
		return func() {}
	}
	freed := make(chan struct{})
	go func() {
		_ = unix.Close(r.fd) // nothing was read or written
		close(freed)
	}()
	return func() { <-freed }
}
