package disk

import (
	"os"
)

// A quota bounds what one user, group or project may have of a file system. What is
// left of it is not in the free space of the file system, and not every kernel or
// file system says it (btrfs says it to root alone). So a change that was refused for
// a quota is remembered until a write succeeds.

// A Quota is the limit of a user or group on the file system of the spool, and what
// is left of it. A limit of zero is none.
type Quota struct {
	Group              bool // of a group, not of a user
	ID                 uint32
	Bytes, BytesLeft   int64
	Inodes, InodesLeft int64
}

// Quotas returns the quotas that count for a user who writes into the directory, as
// far as they can be asked for.
func Quotas(dir *os.File, uid, gid uint32) []Quota {
	var list []Quota
	for _, q := range []Quota{{ID: uid}, {ID: gid, Group: true}} {
		if askQuota(dir, &q) && (q.Bytes > 0 || q.Inodes > 0) {
			list = append(list, q)
		}
	}
	return list
}

// limits sets what the numbers of the kernel come to: the hard limit or, without one,
// the soft limit.
func (q *Quota) limits(hardBlocks, softBlocks, bytes, hardInodes, softInodes, inodes uint64) {
	const block = 1024 // whatever the file system has
	limit := func(hard, soft, unit uint64) int64 {
		if hard == 0 {
			hard = soft
		}
		const most = 1 << 62
		if hard > most/unit {
			return most
		}
		return int64(hard * unit)
	}
	left := func(limit int64, used uint64) int64 {
		if used > uint64(limit) {
			return 0
		}
		return limit - int64(used)
	}
	q.Bytes = limit(hardBlocks, softBlocks, block)
	q.BytesLeft = left(q.Bytes, bytes)
	q.Inodes = limit(hardInodes, softInodes, 1)
	q.InodesLeft = left(q.Inodes, inodes)
}
