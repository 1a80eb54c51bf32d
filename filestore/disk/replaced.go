package disk

import (
	"golang.org/x/sys/unix"
)

// A rename over a file also frees that file if nobody has it open: its blocks, its
// inode and, where the file system tells the disk what is unused, a request to the
// disk. That takes as long as the rename or longer, and it would happen under the
// lock that all commits share. So whoever renames holds open what is replaced,
// and it is let go of beside the flush of the directory, before the answer: then
// the room is there again, and nothing of ours is open that need not be.

// OldFile is a file that has lost its name. The zero value is none.
type OldFile struct {
	fd   int // gives no right to the file
	held bool
}

// hold keeps what has the name, if anything has, from being freed until letGo.
func (d *Dir) hold(name string) OldFile {
	if holdFlags == 0 {
		return OldFile{}
	}
	fd, err := unix.Openat(int(d.File.Fd()), name, holdFlags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return OldFile{fd, err == nil} // if not, the rename frees it
}

// Release begins to free the file and returns what waits for the end of that.
func (r OldFile) Release() (wait func()) {
	if !r.held {
		return func() {}
	}
	freed := make(chan struct{})
	go func() {
		_ = unix.Close(r.fd) // nothing was read or written
		close(freed)
	}()
	return func() { <-freed }
}
