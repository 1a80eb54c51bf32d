package disk

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Others may own files in a spool, and may exchange them while we look. So a file
// is opened once, in a way that cannot block, and what is asked of it is asked of
// what was opened. Links are followed by hand, one after the other, because any
// of them may be somebody's who wants us to publish what he cannot read.

// readFlags open a file without waiting for the other end of a pipe or becoming
// the owner of a terminal.
const readFlags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// Why a file is not opened. None of it tells more of a target than that it is
// there.
var (
	ErrForeignLink = errors.New("a symbolic link is followed only if root, the agent or the owner of its target made it, and all links that it leads over")
	ErrNotRegular  = errors.New("not a regular file")
	ErrSecret      = errors.New("has another name as well (a hard link), and not everybody may read it")
	ErrLinkNowhere = errors.New("a symbolic link to what is not a regular file")
)

// OpenRegular opens the regular file of that name for reading, over links if they
// may be followed. What was seen at the name tells whether it is a link. An
// error that wraps errAgain asks to look again. The caller closes the descriptor.
func (d *Dir) OpenRegular(name string, seen *unix.Stat_t) (fd int, st unix.Stat_t, err error) {
	w := Walk{At: int(d.File.Fd())}
	if seen.Mode&unix.S_IFMT != unix.S_IFLNK {
		return w.Open(name, seen)
	}
	defer func() { w.leave() }()
	rest := name
	for links := 0; ; {
		var part string
		part, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		rest = strings.TrimLeft(rest, "/")
		link, target, err := readLink(w.At, part)
		switch {
		case err != nil:
			return -1, st, err
		case link.Mode&unix.S_IFMT == unix.S_IFLNK:
			if links++; links > 40 {
				return -1, st, unix.ELOOP
			}
			w.makers = append(w.makers, link.Uid)
			if strings.HasPrefix(target, "/") {
				if err := w.enter(unix.AT_FDCWD, "/"); err != nil {
					return -1, st, err
				}
			}
			if rest = target + "/" + rest; strings.Trim(rest, "/") == "" {
				return -1, st, ErrLinkNowhere
			}
		case rest != "":
			if err := w.enter(w.At, part); err != nil {
				return -1, st, err
			}
		default:
			return w.Open(part, &link)
		}
	}
}

// Walk is where a path has led so far.
type Walk struct {
	At     int
	owned  bool     // at has to be closed
	makers []uint32 // who made the links
}

func (w *Walk) enter(at int, name string) error {
	fd, err := unix.Openat(at, name, walkFlags|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.leave()
	w.At, w.owned = fd, true
	return nil
}

func (w *Walk) leave() {
	if w.owned {
		_ = unix.Close(w.At) // only looked at
	}
}

// Open opens the end of the way. What was there a moment ago is seen, because to
// open a device may do something.
func (w *Walk) Open(name string, seen *unix.Stat_t) (fd int, st unix.Stat_t, err error) {
	unfit := ErrNotRegular
	if len(w.makers) > 0 {
		unfit = ErrLinkNowhere
	}
	if seen.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, st, unfit
	}
	for {
		if fd, err = unix.Openat(w.At, name, readFlags, 0); err != unix.EINTR {
			break
		}
	}
	switch {
	case errors.Is(err, unix.ELOOP):
		return -1, st, ErrRetry // a link by now
	case err != nil:
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unfit
	}
	if err == nil && len(w.makers) > 0 && isPseudo(fd) {
		err = unfit // its size is not that of its content
	}
	if err == nil && !mayFollow(w.makers, st.Uid) {
		err = ErrForeignLink
	}
	if err != nil {
		_ = unix.Close(fd) // only opened
		return -1, st, err
	}
	return fd, st, nil
}

// mayFollow reports whether links that these users made may be followed to a file
// of that owner: each by root, by us, or by the owner himself. Another user's
// link to a file that only we may read would publish that file.
func mayFollow(makers []uint32, owner uint32) bool {
	us := ownUID
	return !slices.ContainsFunc(makers, func(uid uint32) bool { return uid != 0 && uid != us && uid != owner })
}

// Secret reports whether a file may have been put here under a second name by
// somebody who cannot read it: then it is not ours to publish. Who made a hard
// link is not known.
func (d *Dir) Secret(st *unix.Stat_t) bool {
	return st.Nlink > 1 && st.Mode&0o004 == 0 && d.shared()
}

// shared reports whether somebody else than root and the agent may put files into
// the directory.
func (d *Dir) shared() bool {
	return d.mode&0o022 != 0 || d.owner != 0 && d.owner != ownUID
}

// IsOwn reports whether the agent's own user owns a file.
func (d *Dir) IsOwn(st *unix.Stat_t) bool { return st.Uid == ownUID }

// Trusts reports whether a group's file of that owner counts as pushed. Whoever
// may write the directory may push, by writing that very file; only where
// everybody may, the owner tells more.
func (d *Dir) Trusts(uid uint32) bool {
	return d.mode&0o002 == 0 || uid == 0 || uid == ownUID || uid == d.owner
}

// Stat returns what a name leads to, following a symbolic link, and what the name
// itself is. If a link leads nowhere the error is errLeadsNowhere and st is the
// link's.
func (d *Dir) Stat(name string) (st, link unix.Stat_t, err error) {
	fd := int(d.File.Fd())
	if err := unix.Fstatat(fd, name, &link, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, link, err
	}
	if link.Mode&unix.S_IFMT != unix.S_IFLNK {
		return link, link, nil
	}
	if err := unix.Fstatat(fd, name, &st, 0); err != nil {
		return link, link, ErrLeadsNowhere
	}
	return st, link, nil
}

// ErrLeadsNowhere says that the target of a symbolic link does not exist.
var ErrLeadsNowhere = errors.New("the symbolic link leads nowhere")

// Author returns who has written a file himself, zero if it was root, we or the
// owner of the directory: what they write may be in the name of others.
func (d *Dir) Author(st *unix.Stat_t) uint32 {
	if st.Uid == ownUID || st.Uid == d.owner {
		return 0
	}
	return st.Uid
}

// ownUID is the user of this process, which does not change.
var ownUID = uint32(os.Geteuid())
