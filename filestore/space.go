package filestore

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
)

// quotaRetry is the interval at which the health check repeats a write of the size
// that failed with EDQUOT.
const quotaRetry = 30 * time.Second

// quotaRefusal is a write that failed with EDQUOT.
type quotaRefusal struct {
	size  int64
	tried atomic.Pointer[time.Time] // time of the last attempt
}

// noteWrite records the result of a write of that size.
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

// overQuota returns an error if a write failed with EDQUOT and none has succeeded since.
// After a while it tries one. The caller holds probeMu.
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

// roomFor checks the limits of the spool for a prepared file, together with those that
// are installed with it. A change that does not make the group larger is always
// allowed, and so is a record without a push.
func (s *Store) roomFor(p *pendingCommit, with []*pendingCommit) error {
	t := s.View().Totals() // the caller holds Store.mu
	groups, bytes := t.Groups, t.GroupBytes
	for _, o := range with {
		if o.mine == nil {
			groups++
		}
		bytes += o.grows()
	}
	if p.mine == nil && s.opts.MaxGroups > 0 && groups >= s.opts.MaxGroups {
		return fmt.Errorf("the spool holds %d groups, and has --spool.max-groups=%d: %w", groups, s.opts.MaxGroups, ErrFull)
	}
	if by := p.grows(); p.check && by > 0 && s.opts.MaxBytes > 0 && bytes+by > s.opts.MaxBytes {
		return fmt.Errorf("the groups in the spool take %d bytes, and with this push would take %d, more than --spool.max-bytes=%d: %w", bytes, bytes+by, s.opts.MaxBytes, ErrFull)
	}
	return nil
}

// grows returns the difference in size of a prepared file and the one it replaces.
func (p *pendingCommit) grows() int64 {
	n := p.content.File.Size()
	if p.mine != nil {
		n -= p.mine.Size()
	}
	return n
}

// hasRoomForFailure reports whether a rejected push may create its group, for the
// record of the failure.
func (s *Store) hasRoomForFailure() bool {
	t := s.View().Totals()
	return t.Failed < s.opts.MaxFailedGroups &&
		(s.opts.MaxGroups <= 0 || t.Groups < s.opts.MaxGroups) &&
		(s.opts.MaxBytes <= 0 || t.GroupBytes < s.opts.MaxBytes)
}

// Space returns the size of the spool's file system and the space that the agent may
// still use, in bytes. The latter includes the quotas of its user and group if the
// kernel reports them. It is 0 after a write that failed with EDQUOT, until one
// succeeds.
func (s *Store) Space() (size, free uint64, err error) {
	d, err := s.spool.inUse()
	if err != nil {
		return 0, 0, err
	}
	defer d.Release()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.File.Fd()), &st); err != nil {
		return 0, 0, disk.Wrap("asking for the free space of "+s.path, err)
	}
	block := uint64(st.Bsize)
	size, free = uint64(st.Blocks)*block, uint64(max(st.Bavail, 0))*block
	if s.refusal.Load() != nil {
		return size, 0, nil
	}
	var dir unix.Stat_t
	if err := unix.Fstat(int(d.File.Fd()), &dir); err != nil {
		return size, free, nil
	}
	gid := uint32(os.Getegid())
	if dir.Mode&unix.S_ISGID != 0 {
		gid = dir.Gid
	}
	for _, q := range disk.Quotas(d.File, uint32(os.Geteuid()), gid) {
		switch {
		case q.Inodes > 0 && q.InodesLeft == 0:
			free = 0
		case q.Bytes > 0:
			free = min(free, uint64(q.BytesLeft))
		}
	}
	return size, free, nil
}
