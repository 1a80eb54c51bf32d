//go:build darwin || freebsd

package disk

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// identify is not supported here; the directory stays open instead.
func identify(*os.File) (id identity, ok bool) { return identity{}, false }

func identifyPath(string) (id identity, ok bool, err error) { return identity{}, false, nil }

// StatTimes returns the times of the last write and of the last change, in
// nanoseconds.
func StatTimes(st *unix.Stat_t) (mtime, ctime int64) {
	return st.Mtim.Nano(), st.Ctim.Nano()
}

// HasWriter is not supported here; only Linux has leases.
func HasWriter(int) (busy, known bool) { return false, false }

// walkFlags are the flags to open a directory of a path.
const walkFlags = unix.O_RDONLY

// holdFlags are the flags to keep a file from being freed; not supported here.
const holdFlags = 0

// readLink returns the stat of a name and, for a symbolic link, its target. The error
// is ErrRetry if the link was replaced in between.
func readLink(at int, name string) (st unix.Stat_t, target string, err error) {
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return st, "", err
	}
	b := make([]byte, 4096)
	n, err := unix.Readlinkat(at, name, b)
	if err != nil {
		return st, "", err
	}
	var again unix.Stat_t
	if err := unix.Fstatat(at, name, &again, unix.AT_SYMLINK_NOFOLLOW); err != nil || !same(&again, &st) {
		return st, "", ErrRetry
	}
	return st, string(b[:n]), nil
}

// makePipe creates a named pipe. Not every system can do so relative to a descriptor.
func (d *Dir) makePipe(name string, perm uint32) error {
	return unix.Mkfifo(filepath.Join(d.Path, name), perm)
}

// same reports whether two stats are of the same unchanged file.
func same(a, b *unix.Stat_t) bool {
	am, ac := StatTimes(a)
	bm, bc := StatTimes(b)
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Size == b.Size && am == bm && ac == bc
}
