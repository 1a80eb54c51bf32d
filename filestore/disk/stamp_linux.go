package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// identify returns the identity of an open directory, if the file system has
// what it takes.
func identify(f *os.File) (id identity, ok bool) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, identityMask, &st); err != nil {
		return identity{}, false
	}
	return identityOf(&st)
}

// identifyPath returns the identity of what the path leads to.
func identifyPath(path string) (id identity, ok bool, err error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, identityMask, &st); err != nil {
		return identity{}, false, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	id, ok = identityOf(&st)
	return id, ok, nil
}

const identityMask = unix.STATX_INO | unix.STATX_BTIME | unix.STATX_MNT_ID

func identityOf(st *unix.Statx_t) (identity, bool) {
	return identity{
		dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino, mount: st.Mnt_id,
		birth: st.Btime.Sec*1e9 + int64(st.Btime.Nsec),
	}, st.Mask&unix.STATX_BTIME != 0
}

// StatTimes returns the times of the last write and of the last change of a file,
// in nanoseconds.
func StatTimes(st *unix.Stat_t) (mtime, ctime int64) {
	return st.Mtim.Nano(), st.Ctim.Nano()
}

// HasWriter asks the kernel whether anybody has the file open for writing: it
// refuses a read lease on such a file. The lease is given back at once, so no
// writer ever waits. known is false where we may not ask: the lease needs the
// file's owner or CAP_LEASE, and a file system that has leases.
func HasWriter(fd int) (busy, known bool) {
	switch _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err {
	case nil:
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return false, true
	case unix.EAGAIN:
		return true, true
	}
	return false, false
}

// walkFlags open a directory to go on from, for which it need not be readable.
const walkFlags = unix.O_PATH

// holdFlags open a file for nothing but that it stays.
const holdFlags = unix.O_PATH

// readLink looks at a name and, if that is a symbolic link, returns its target.
// Both are of one and the same inode.
func readLink(at int, name string) (st unix.Stat_t, target string, err error) {
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return st, "", err
	}
	defer unix.Close(fd) //nolint:errcheck // only looked at
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return st, "", err
	}
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	if err != nil {
		return st, "", err
	}
	return st, string(b[:n]), nil
}

// makePipe makes a named pipe.
func (d *Dir) makePipe(name string, perm uint32) error {
	return unix.Mkfifoat(int(d.File.Fd()), name, perm)
}
