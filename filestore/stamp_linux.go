package filestore

import "golang.org/x/sys/unix"

func statTimes(st *unix.Stat_t) (mtime, ctime int64) {
	return st.Mtim.Nano(), st.Ctim.Nano()
}

// writerAt asks the kernel whether anybody has the file open for writing: it
// refuses a read lease on such a file. The lease is given back at once, so no
// writer ever waits. known is false where we may not ask: the lease needs the
// file's owner or CAP_LEASE, and a file system that has leases.
func writerAt(fd int) (busy, known bool) {
	switch _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err {
	case nil:
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return false, true
	case unix.EAGAIN:
		return true, true
	}
	return false, false
}
