package filestore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Content returns the bytes that a file of the spool holds now, whether or not
// they are served. It is refused where a Store does not read either: what is no
// regular file, is larger than the limit, or is a symbolic link that is not
// followed. Files of other sources have no content here.
func (s *Store) Content(f *File) ([]byte, error) {
	name := f.Name()
	data, err := func() ([]byte, error) {
		if f.id.kind == otherKind {
			return nil, errors.New("not in the spool")
		}
		d, err := s.spool.inUse()
		if err != nil {
			return nil, err
		}
		defer d.done()
		return s.content(d, name)
	}()
	return data, doing("reading "+fmt.Sprintf("%q", PrintableName(name)), err)
}

func (s *Store) content(d *directory, name string) ([]byte, error) {
	_, link, err := d.stat(name)
	if err != nil {
		return nil, err
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	isLink := link.Mode&unix.S_IFMT == unix.S_IFLNK
	var st unix.Stat_t
	if !isLink {
		st, flags = *link, flags|unix.O_NOFOLLOW
	} else if err := unix.Fstatat(int(d.dir.Fd()), name, &st, 0); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG { // opening a device may do something
		return nil, errors.New("not a regular file")
	}
	fd, err := unix.Openat(int(d.dir.Fd()), name, flags, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, errors.New("not a regular file")
	case isLink && !mayFollow(link, &st):
		return nil, errors.New("a symbolic link is followed only if root, the agent or the owner of its target made it")
	case st.Size > s.opts.MaxFileBytes:
		return nil, errors.New("larger than the limit for files")
	}
	return readAll(fd, int(st.Size))
}
