//go:build darwin || freebsd

package disk

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// identify would tell a directory by its time of birth; here it stays open
// instead.
func identify(*os.File) (id identity, ok bool) { return identity{}, false }

func identifyPath(string) (id identity, ok bool, err error) { return identity{}, false, nil }

// StatTimes returns the times of the last write and of the last change, in
// nanoseconds.
func StatTimes(st *unix.Stat_t) (mtime, ctime int64) {
	return st.Mtim.Nano(), st.Ctim.Nano()
}

// HasWriter would ask the kernel for a lease, which only Linux has.
func HasWriter(int) (busy, known bool) { return false, false }

// walkFlags open a directory to go on from.
const walkFlags = unix.O_RDONLY

// holdFlags would open a file for nothing but that it stays.
const holdFlags = 0

// readLink looks at a name and, if that is a symbolic link, returns its target.
// It asks to try again if the link was exchanged in between.
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

// makePipe makes a named pipe. Not every system can do so beside a descriptor.
func (d *Dir) makePipe(name string, perm uint32) error {
	return unix.Mkfifo(filepath.Join(d.Path, name), perm)
}

// same reports whether what was looked at twice has not changed.
func same(a, b *unix.Stat_t) bool {
	am, ac := StatTimes(a)
	bm, bc := StatTimes(b)
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Size == b.Size && am == bm && ac == bc
}
