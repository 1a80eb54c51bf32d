package disk

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Other users may own files in a spool and may replace them at any time. So a file is
// opened once, without blocking, and all checks are on the descriptor. Symbolic links
// are followed one by one, because a user could link to a file that only the agent may
// read.

// readFlags open a file without waiting for the other end of a pipe or becoming
// the owner of a terminal.
const readFlags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// Errors of opening a file. They reveal only that the target of a link exists.
var (
	ErrUntrustedLink = errors.New("a symbolic link is followed only if root, the agent or the owner of its target made it, and all links that it leads over")
	ErrNotRegular    = errors.New("not a regular file")
	ErrSecret        = errors.New("has a second name (a hard link) and is not readable by all users")
	ErrLinkNowhere   = errors.New("a symbolic link whose target is not a regular file")
)

// OpenRegular opens the regular file of that name for reading. seen is the stat of the
// name: a link is followed if that is allowed. After an error that wraps ErrRetry the
// caller should look at the name again. The caller closes the descriptor.
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

// Walk is the state of following a path.
type Walk struct {
	At     int
	owned  bool     // At must be closed
	makers []uint32 // owners of the links
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
		_ = unix.Close(w.At) // nothing was read or written
	}
}

// Open opens the end of the path. seen is its stat before: a device must not be
// opened, because that can have effects.
func (w *Walk) Open(name string, seen *unix.Stat_t) (fd int, st unix.Stat_t, err error) {
	notRegular := ErrNotRegular
	if len(w.makers) > 0 {
		notRegular = ErrLinkNowhere
	}
	if seen.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, st, notRegular
	}
	for {
		if fd, err = unix.Openat(w.At, name, readFlags, 0); err != unix.EINTR {
			break
		}
	}
	switch {
	case errors.Is(err, unix.ELOOP):
		return -1, st, ErrRetry // replaced by a link
	case err != nil:
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = notRegular
	}
	if err == nil && len(w.makers) > 0 && isPseudo(fd) {
		err = notRegular // its size is not that of its content
	}
	if err == nil && !mayFollow(w.makers, st.Uid) {
		err = ErrUntrustedLink
	}
	if err != nil {
		_ = unix.Close(fd) // nothing was read
		return -1, st, err
	}
	return fd, st, nil
}

// mayFollow reports whether links of these users may be followed to a file of that
// owner. Each link must belong to root, the agent or the owner of the file. Otherwise
// a user could publish a file that only the agent may read.
func mayFollow(makers []uint32, owner uint32) bool {
	us := ownUID
	return !slices.ContainsFunc(makers, func(uid uint32) bool { return uid != 0 && uid != us && uid != owner })
}

// Secret reports whether a file may be a hard link made by a user who cannot read the
// file. It must not be served, because the user who made a hard link is unknown.
func (d *Dir) Secret(st *unix.Stat_t) bool {
	return st.Nlink > 1 && st.Mode&0o004 == 0 && d.shared()
}

// shared reports whether users other than root and the agent may create files in the
// directory.
func (d *Dir) shared() bool {
	return d.mode&0o022 != 0 || d.owner != 0 && d.owner != ownUID
}

// IsOwn reports whether the agent's own user owns a file.
func (d *Dir) IsOwn(st *unix.Stat_t) bool { return st.Uid == ownUID }

// Trusts reports whether a group's file of that owner counts as pushed. Users who may
// write the directory may push by writing the file. In a directory that is writable
// by all users, the owner must be root, the agent or the owner of the directory.
func (d *Dir) Trusts(uid uint32) bool {
	return d.mode&0o002 == 0 || uid == 0 || uid == ownUID || uid == d.owner
}

// Stat returns the stat of a name, following a symbolic link, and of the name itself.
// For a broken link the error is ErrLeadsNowhere and st is that of the link.
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

// ErrLeadsNowhere is the error for a symbolic link without a target.
var ErrLeadsNowhere = errors.New("the symbolic link leads nowhere")

// Author returns the user who wrote a file directly. It is zero for root, the agent
// and the owner of the directory, because they may write files for other users.
func (d *Dir) Author(st *unix.Stat_t) uint32 {
	if st.Uid == ownUID || st.Uid == d.owner {
		return 0
	}
	return st.Uid
}

// ownUID is the user ID of this process.
var ownUID = uint32(os.Geteuid())
