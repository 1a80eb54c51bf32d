//go:build darwin || freebsd

package filestore

import "golang.org/x/sys/unix"

func statTimes(st *unix.Stat_t) (mtime, ctime int64) {
	return st.Mtim.Nano(), st.Ctim.Nano()
}

// writerAt would ask the kernel for a lease, which only Linux has.
func writerAt(int) (busy, known bool) { return false, false }
