package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// DroppedName returns the name under which [Store.Drop] stores a file: name,
// with [Suffix] if that is missing. It has to be plain: no slash, no leading
// dot, nothing unprintable, and not beginning with job=, as pushed groups do.
func DroppedName(name string) (string, error) {
	plain := strings.TrimSuffix(name, Suffix)
	switch {
	case plain == "":
		return "", errors.New("the name of the file is empty")
	case strings.ContainsRune(plain, '/'):
		return "", fmt.Errorf("%q is no name of a file in the spool: it has a slash", name)
	case plain[0] == '.':
		return "", fmt.Errorf("%q would not be read: it begins with a dot", name)
	case !utf8.ValidString(plain) || strings.ContainsFunc(plain, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fmt.Errorf("%q has characters that cannot be printed, on which other readers of the spool trip", name)
	case len(plain) >= 4 && strings.EqualFold(plain[:4], "job="):
		return "", fmt.Errorf("%q is a name for a pushed group: push to it instead", name)
	case len(plain) > maxPlainName:
		return "", fmt.Errorf("%q is longer than %d bytes", name, maxPlainName)
	}
	return plain + Suffix, nil
}

// Drop stores data, as it is, as the dropped file that [DroppedName] makes of
// name, in place of what has that name: a regular file, or a symbolic link,
// which is replaced and not followed. When it returns nil, the file is on
// stable storage and in every later View. On an error nothing has changed,
// unless the error is [ErrInDoubt].
//
// Text that could not be served gives a *[SyntaxError]. Text that contradicts
// itself, other files or the agent gives a *[SyntaxError] or a *[Conflict],
// unless force is set or [Options.Unchecked] is; then the merge leaves out what
// comes later in its order. A series that another file has contradicts it, also
// if the values are equal now.
//
// Drop keeps nothing of data. It may be called by many goroutines and processes
// at once; of two with one name the last stands.
func (s *Store) Drop(name string, data []byte, force bool) error {
	name, err := DroppedName(name)
	if err != nil {
		return err
	}
	defer s.groups.lock(name)()
	since := s.groups.since(name)
	for range 100 {
		c := parseFile(name, data)
		if err := s.mayDrop(c, force); err != nil {
			return err
		}
		var d *directory
		if d, err = s.spool.inUse(); err != nil {
			break
		}
		var at placed
		if at, err = s.drop(d, c, data, since, force); err == nil {
			return doing("storing "+name, s.flush(at))
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // the temporary file was swept away
		}
		if !errors.Is(err, errReplaced) {
			break
		}
		if _, err = s.spool.reopen(d); err != nil {
			break
		}
	}
	var x *Conflict
	if errors.As(err, &x) {
		return err
	}
	return doing("storing "+name, err)
}

// mayDrop looks at a file by itself.
func (s *Store) mayDrop(c *content, force bool) error {
	f := c.file
	switch {
	case f.err != nil:
		return f.err
	case f.size > s.opts.MaxFileBytes:
		return &SyntaxError{File: f.Name(), Reason: TooLarge, Msg: fmt.Sprintf("larger than --spool.max-file-bytes=%d", s.opts.MaxFileBytes)}
	case f.issue != nil && !force && !s.opts.Unchecked:
		return f.issue
	}
	return nil
}

// drop makes the content a file of the directory, which is in use, and ends the use
// unless it succeeds. Unlike a commit it does not build on what was there, so it need
// not start over when another process has just changed that.
func (s *Store) drop(d *directory, c *content, data []byte, since time.Time, force bool) (placed, error) {
	name := c.file.Name()
	installed := false
	defer func() {
		if !installed {
			d.done()
		}
	}()
	// By its name sweep knows the temporary file for one of ours.
	tmp, err := d.prepare("job="+name, data, time.Time{})
	if err != nil {
		if d.current() != nil { // not a fault of the disk
			return placed{}, errReplaced
		}
		s.noteWrite(int64(len(data)), err)
		return placed{}, err
	}
	var old replaced
	defer func() {
		if !installed {
			_ = tmp.Cleanup() // what failed before counts
			old.letGo()()
		}
	}()
	v := s.View()
	before := v.contents()
	before.read(v.File(name))
	h, err := s.exclusion.exclude(d, since)
	if err != nil {
		return placed{}, err
	}
	defer h.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.current() != nil {
		return placed{}, errReplaced
	}
	u := update{old: s.merge.file(name), new: c}
	if u.old != nil {
		u.oldParts = before.of(u.old, s.View())
	}
	if !force && !s.opts.Unchecked {
		if x := s.merge.check(c, u.oldParts, nil); x != nil {
			return placed{}, x
		}
	}
	st, old, err := d.install(tmp, name)
	s.noteWrite(int64(len(data)), err)
	if err != nil {
		return placed{}, err
	}
	c.file.stamped(stampOf(&st))
	s.publish([]update{u})
	installed = true
	return placed{d, old}, nil
}
