package filestore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/record"
)

// Content returns the current bytes of a file of the spool, served or not. It fails for
// files that a Store does not read: a file that is not regular or too large, or a
// symbolic link that must not be followed. It does not return files of other sources.
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
