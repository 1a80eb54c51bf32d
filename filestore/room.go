package filestore

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// roomFor decides whether a prepared file may be added to the spool, beside those
// that are going to be installed with it. A push that makes its group no larger
// always may, and so may what only notes something in a group.
func (s *Store) roomFor(p *prepared, with []*prepared) error {
	t := s.View().Totals() // the lock of the Store is held
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

// grows returns how many bytes a prepared file takes more than what it replaces.
func (p *prepared) grows() int64 {
	n := p.content.file.size
	if p.mine != nil {
		n -= p.mine.size
	}
	return n
}

// mayRecordFailure reports whether a refused push to an unknown group may make
// the group, to leave its record there.
func (s *Store) mayRecordFailure() bool {
	t := s.View().Totals()
	return t.Failed < s.opts.MaxFailedGroups &&
		(s.opts.MaxGroups <= 0 || t.Groups < s.opts.MaxGroups) &&
		(s.opts.MaxBytes <= 0 || t.GroupBytes < s.opts.MaxBytes)
}

// Space returns the size of the file system that the spool is on, and what of it
// the agent may still use, in bytes. Quotas of its user and group count where the
// kernel says them. It is 0 after a change that was refused for a quota, until a write
// succeeds.
func (s *Store) Space() (size, free uint64, err error) {
	d, err := s.spool.inUse()
	if err != nil {
		return 0, 0, err
	}
	defer d.done()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.dir.Fd()), &st); err != nil {
		return 0, 0, doing("asking for the free space of "+s.path, err)
	}
	block := uint64(st.Bsize)
	size, free = uint64(st.Blocks)*block, uint64(max(st.Bavail, 0))*block
	if s.refusal.Load() != nil {
		return size, 0, nil
	}
	var dir unix.Stat_t
	if err := unix.Fstat(int(d.dir.Fd()), &dir); err != nil {
		return size, free, nil
	}
	gid := uint32(os.Getegid())
	if dir.Mode&unix.S_ISGID != 0 {
		gid = dir.Gid
	}
	for _, q := range quotas(d.dir, uint32(os.Geteuid()), gid) {
		switch {
		case q.Inodes > 0 && q.InodesLeft == 0:
			free = 0
		case q.Bytes > 0:
			free = min(free, uint64(q.BytesLeft))
		}
	}
	return size, free, nil
}
