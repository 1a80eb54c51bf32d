package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// RestoreArchived brings the file that moved to the archive last under that name
// back into the spool, and serves it again. A group keeps its push times and does
// not expire again until its next push; a dropped file counts as changed now. If
// there is a file of the name in the spool the error wraps fs.ErrExist, if there
// is none in the archive fs.ErrNotExist; if what it holds contradicts another file
// it is a *Conflict.
func (s *Store) RestoreArchived(name string) error {
	err := s.restoreArchived(name)
	var clash *Conflict
	if errors.As(err, &clash) {
		return err
	}
	return doing("restoring "+name+" from the archive", err)
}

func (s *Store) restoreArchived(name string) error {
	d, err := s.spool.inUse()
	if err != nil {
		return err
	}
	defer d.done()
	dir, err := s.archive(d, false)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only read
	list, err := listArchive(dir)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(a Aged) bool { return a.File == name })
	if i < 0 {
		return fmt.Errorf("it is not there: %w", fs.ErrNotExist)
	}
	from := name + "." + list[i].Since.Format(archiveStamp)
	data, err := s.archivedText(dir, from)
	if err != nil {
		return err
	}
	c := parseFile(name, data)
	unlock := s.groups.lock(name)
	defer unlock()
	if c.file.group.IsZero() {
		return s.restoreDropped(d, dir, name, from)
	}
	at, err := s.commit(c.file.group, true, func(old *content) (*content, error) {
		if old != nil {
			return nil, fmt.Errorf("the group is in the spool again: %w", fs.ErrExist)
		}
		return revived(c)
	})
	if err == nil {
		err = s.flush(at)
	}
	if err == nil {
		err = unix.Unlinkat(int(dir.Fd()), from, 0)
	}
	return err
}

// archivedText reads a file of the archive, or nothing of a link: that is a dropped
// file's, and the spool decides whether it is followed.
func (s *Store) archivedText(dir *os.File, name string) ([]byte, error) {
	at := int(dir.Fd())
	var seen unix.Stat_t
	if err := unix.Fstatat(at, name, &seen, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if seen.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil, nil
	}
	w := walk{at: at}
	fd, st, err := w.open(name, &seen)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	if st.Size > s.opts.MaxFileBytes {
		return nil, fmt.Errorf("larger than --spool.max-file-bytes=%d", s.opts.MaxFileBytes)
	}
	return readAll(fd, int(st.Size))
}

func (s *Store) restoreDropped(d *directory, dir *os.File, name, from string) error {
	at, now := int(dir.Fd()), unix.NsecToTimespec(s.opts.Now().UnixNano())
	if err := unix.UtimesNanoAt(at, from, []unix.Timespec{now, now}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Linkat(at, from, int(d.dir.Fd()), name, 0); err != nil { // and not over another one
		return err
	}
	in, err := s.spool.inUse()
	if err != nil {
		return err
	}
	if err := s.flush(placed{d: in}); err != nil {
		return err
	}
	if err := unix.Unlinkat(at, from, 0); err != nil {
		return err
	}
	_, err = s.Reload(name)
	return err
}
