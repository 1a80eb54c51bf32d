package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
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

// quotaRetry is how long after a refusal the health check tries a write itself. That
// is of the size that was refused, so not more often either.
const quotaRetry = 30 * time.Second

// quotaRefusal is a write that was refused for a quota.
type quotaRefusal struct {
	size  int64
	tried atomic.Pointer[time.Time] // when it was tried last
}

// noteWrite notes what a write of so many bytes came to.
func (s *Store) noteWrite(size int64, err error) {
	switch {
	case errors.Is(err, unix.EDQUOT):
		r := &quotaRefusal{size: size}
		now := time.Now()
		r.tried.Store(&now)
		s.refusal.Store(r)
	case err == nil && s.refusal.Load() != nil:
		s.refusal.Store(nil)
	}
}

// overQuota returns an error if a write was refused for a quota and none has
// succeeded since. After a while it tries one. The caller has probeMu.
func (s *Store) overQuota() error {
	r := s.refusal.Load()
	if r == nil {
		return nil
	}
	if now := time.Now(); now.Sub(*r.tried.Load()) >= quotaRetry {
		r.tried.Store(&now)
		if s.probe(r.size) == nil {
			s.refusal.CompareAndSwap(r, nil)
			return nil
		}
	}
	return fmt.Errorf("a write of %d bytes was refused and none has succeeded since, raise the quota or delete groups: %w", r.size, unix.EDQUOT)
}

// quotas returns the quotas that count for a user who writes into the directory, as
// far as they can be asked for.
func quotas(dir *os.File, uid, gid uint32) []Quota {
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

// nameless takes the path out of an error of the file system, so that no answer and
// no log shows the name of a temporary file.
func nameless(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
