package disk

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// askQuota asks the kernel for a quota on the file system of the directory. It
// reports false if there is none, or if the kernel does not permit the query.
func askQuota(dir *os.File, q *Quota) bool {
	// linux/quota.h: struct if_dqblk, Q_GETQUOTA, USRQUOTA and GRPQUOTA
	var block struct {
		hardBlocks, softBlocks, bytes    uint64
		hardInodes, softInodes, inodes   uint64
		blocksGraceTime, inodesGraceTime uint64
		valid                            uint32
	}
	const getQuota = 0x800007
	kind := uintptr(0)
	if q.Group {
		kind = 1
	}
	// By directory, because the device may be hidden or, as for tmpfs, missing.
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, dir.Fd(), getQuota<<8|kind, uintptr(q.ID), uintptr(unsafe.Pointer(&block)), 0, 0)
	if errno != 0 {
		return false
	}
	q.limits(block.hardBlocks, block.softBlocks, block.bytes, block.hardInodes, block.softInodes, block.inodes)
	return true
}
