package disk

import (
	"os"
)

// A quota limits the space of a user, group or project on a file system. The free space
// of the file system does not include it, and not every system reports it (btrfs only
// to root). So a change that failed with EDQUOT is remembered until a write succeeds.

// A Quota is the limit of a user or group on the file system of the spool, and the
// rest of it. A limit of zero means none.
type Quota struct {
	Group              bool // of a group, not of a user
	ID                 uint32
	Bytes, BytesLeft   int64
	Inodes, InodesLeft int64
}

// Quotas returns the quotas for files that the agent writes to the directory, as far
// as they can be read.
func Quotas(dir *os.File, uid, gid uint32) []Quota {
	var list []Quota
	for _, q := range []Quota{{ID: uid}, {ID: gid, Group: true}} {
		if askQuota(dir, &q) && (q.Bytes > 0 || q.Inodes > 0) {
			list = append(list, q)
		}
	}
	return list
}

// limits sets the limits from the numbers of the kernel: the hard limit or, without
// one, the soft limit.
func (q *Quota) limits(hardBlocks, softBlocks, bytes, hardInodes, softInodes, inodes uint64) {
	const block = 1024 // for every file system
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
