package filestore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/record"
)

// Content returns the bytes that a file of the spool holds now, whether or not
// they are served. It is refused where a Store does not read either: what is no
// regular file, is larger than the limit, or is a symbolic link that is not
// followed. Files of other sources have no content here.
func (s *Store) Content(f *record.File) ([]byte, error) {
	name := f.Name()
	data, err := func() ([]byte, error) {
		if f.ID().Kind == record.OtherKind {
			return nil, errors.New("not in the spool")
		}
		d, err := s.spool.inUse()
		if err != nil {
			return nil, err
		}
		defer d.Release()
		return s.content(d, name)
	}()
	return data, disk.Wrap("reading "+fmt.Sprintf("%q", record.PrintableName(name)), err)
}

func (s *Store) content(d *disk.Dir, name string) ([]byte, error) {
	_, link, err := statIn(d, name)
	if err != nil {
		return nil, err
	}
	fd, st, err := d.OpenRegular(name, link)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	switch {
	case d.Secret(&st):
		return nil, disk.ErrSecret
	case st.Size > s.opts.MaxFileBytes:
		return nil, fmt.Errorf("larger than --spool.max-file-bytes=%d", s.opts.MaxFileBytes)
	}
	return readAll(fd, int(st.Size))
}
