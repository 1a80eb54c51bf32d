package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// DroppedName returns the name under which [Store.Drop] stores a file: name, with
// [grouping.Suffix] if that is missing. The name must have no slash, no leading dot
// and no unprintable characters, and must not begin with job= as those of groups do.
func DroppedName(name string) (string, error) {
	plain := strings.TrimSuffix(name, grouping.Suffix)
	switch {
	case plain == "":
		return "", errors.New("the name of the file is empty")
	case strings.ContainsRune(plain, '/'):
		return "", fmt.Errorf("invalid file name %q: it has a slash", name)
	case plain[0] == '.':
		return "", fmt.Errorf("%q would not be read: it begins with a dot", name)
	case !utf8.ValidString(plain) || strings.ContainsFunc(plain, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fmt.Errorf("invalid file name %q: it has unprintable characters, which other readers of the spool may not support", name)
	case len(plain) >= 4 && strings.EqualFold(plain[:4], "job="):
		return "", fmt.Errorf("%q is a name for a pushed group: push to it instead", name)
	case len(plain) > grouping.MaxPlainName:
		return "", fmt.Errorf("%q is longer than %d bytes", name, grouping.MaxPlainName)
	}
	return plain + grouping.Suffix, nil
}

// Drop stores data unchanged as the dropped file with the name of [DroppedName]. It
// replaces a regular file or a symbolic link of that name. When it returns nil, the
// file is on stable storage and in every later View. After an error nothing has
// changed, unless the error is [ErrInDoubt].
//
// The error for invalid text is an *[exposition.SyntaxError]. The error for conflicts
// within the text, with other files or with the agent is that or a *[record.Conflict],
// unless force or [Options.Unchecked] is set; then the merge drops the later series. A
// series that another file has is a conflict even if the values are equal.
func (s *Store) Drop(name string, data []byte, force bool) error {
	name, err := DroppedName(name)
	if err != nil {
		return err
	}
	defer s.groups.lock(name)()
	since := s.groups.since(name)
	var at pendingSync
	var rejected error // for faults of the text itself
	err = s.inSpool([]string{name}, func(d *disk.Dir) (err error) {
		c := record.Parse(name, data)
		if rejected = s.checkAlone(c, force); rejected != nil {
			d.Release()
			return rejected
		}
		if at, err = s.drop(d, c, data, since, force); errors.Is(err, fs.ErrNotExist) {
			return disk.ErrRetry // the temporary file was deleted
		}
		return err
	})
	switch {
	case rejected != nil:
		return rejected
	case err == nil:
		return disk.Wrap("storing "+name, s.syncDirectory(at))
	}
	var x *record.Conflict
	if errors.As(err, &x) {
		return err
	}
	return disk.Wrap("storing "+name, err)
}

// checkAlone checks a file without regard to others.
func (s *Store) checkAlone(c *record.Content, force bool) error {
	f := c.File
	switch {
	case f.Fault() != nil:
		return f.Fault()
	case f.Size() > s.opts.MaxFileBytes:
		return &exposition.SyntaxError{File: f.Name(), Reason: exposition.TooLarge, Msg: fmt.Sprintf("larger than --spool.max-file-bytes=%d", s.opts.MaxFileBytes)}
	case f.Flaw() != nil && !force && !s.opts.Unchecked:
		return f.Flaw()
	}
	return nil
}

// drop writes the content to the acquired directory, and releases that unless it
// succeeds. Unlike a commit it does not depend on the old content, so it is not
// repeated after a change by another process.
func (s *Store) drop(d *disk.Dir, c *record.Content, data []byte, since time.Time, force bool) (pendingSync, error) {
	name := c.File.Name()
	installed := false
	defer func() {
		if !installed {
			d.Release()
		}
	}()
	// With this name sweep recognizes the temporary file.
	tmp, err := d.Prepare("job="+name, data, time.Time{})
	if err != nil {
		if d.CheckPath() != nil { // not a fault of the disk
			return pendingSync{}, disk.ErrReplaced
		}
		s.noteWrite(int64(len(data)), err)
		return pendingSync{}, err
	}
	var old disk.OldFile
	defer func() {
		if !installed {
			tmp.Discard() // the first error is returned
			old.Release()()
		}
	}()
	v := s.View()
	before := v.Contents()
	before.Read(v.File(name))
	h, err := s.exclusion.Exclude(d, since)
	if err != nil {
		return pendingSync{}, err
	}
	defer h.Release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.CheckPath() != nil {
		return pendingSync{}, disk.ErrReplaced
	}
	u := merge.Update{Old: s.merge.File(name), New: c}
	if u.Old != nil {
		u.OldParts = before.Of(u.Old, s.View())
	}
	if !force && !s.opts.Unchecked {
		if x := s.merge.Check(c, u.OldParts, nil); x != nil {
			return pendingSync{}, x
		}
	}
	st, old, err := tmp.Install(name)
	s.noteWrite(int64(len(data)), err)
	if err != nil {
		return pendingSync{}, err
	}
	c.File.Stamped(stampOf(&st))
	s.publish([]merge.Update{u})
	installed = true
	return pendingSync{d, old}, nil
}
