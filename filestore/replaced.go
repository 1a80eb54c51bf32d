package filestore

import "golang.org/x/sys/unix"

// A rename over a file also frees that file if nobody has it open: its blocks, its
// inode and, where the file system tells the disk what is unused, a request to the
// disk. That takes as long as the rename or longer, and it would happen under the
// lock that all commits share. So a commit holds open what it is about to replace,
// and lets go of it beside the flush that follows.

// replaced is a descriptor of a file that is about to lose its name. It gives no
// right to the file, so it stands in nobody's way.
type replaced int

// hold keeps what has the name, if anything has, from being freed until letGo.
func (d *directory) hold(name string) replaced {
	if holdFlags == 0 {
		return -1
	}
	fd, err := unix.Openat(int(d.dir.Fd()), name, holdFlags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1 // then the rename frees it
	}
	return replaced(fd)
}

// freedAtOnce is how many files of a directory are freed beside its commits. One
// more is freed by its own commit, which so waits for the disk to keep up.
const freedAtOnce = 32

// letGo frees a file without waiting for it.
func (d *directory) letGo(r replaced) {
	if r < 0 {
		return
	}
	free := func() error { return unix.Close(int(r)) }
	if !d.freeing.TryGo(free) {
		_ = free() // nothing was read or written
	}
}
