package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// identify returns the identity of an open directory, if the file system supports it.
func identify(f *os.File) (id identity, ok bool) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, identityMask, &st); err != nil {
		return identity{}, false
	}
	return identityOf(&st)
}

// identifyPath returns the identity of the file at the path.
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

// HasWriter reports whether a process has the file open for writing. The kernel
// rejects a read lease on such a file. The lease is released at once, so no writer
// waits. known is false if leases are not available: they need the file's owner or
// CAP_LEASE, and support by the file system.
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

// walkFlags are the flags to open a directory of a path, which need not be readable.
const walkFlags = unix.O_PATH

// holdFlags are the flags to keep a file from being freed.
const holdFlags = unix.O_PATH

// readLink returns the stat of a name and, for a symbolic link, its target. Both are
// of the same inode.
func readLink(at int, name string) (st unix.Stat_t, target string, err error) {
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return st, "", err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
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

// makePipe creates a named pipe.
func (d *Dir) makePipe(name string, perm uint32) error {
	return unix.Mkfifoat(int(d.File.Fd()), name, perm)
}
