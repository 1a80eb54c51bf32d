package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Socket is a unix socket. Which users may connect to it is for the rights of
// the file to say, and what comes over it is from this host.
type Socket struct {
	Path string
	Mode fs.FileMode
	GID  int // group of the file; negative to leave it to the system
}

// CheckPath returns why no socket can have that path, on any directory.
func CheckPath(path string) error {
	if strings.HasPrefix(path, "@") {
		return fmt.Errorf("%q is an abstract socket, to which everybody could connect: name a file", path)
	}
	// The name beside it is longer than most.
	if limit := len(unix.RawSockaddrUnix{}.Path) - 1; max(len(path), len(filepath.Dir(path))+len("/.s4294967295/s")) > limit {
		return fmt.Errorf("the path is too long for a socket, of which the system takes %d bytes", limit)
	}
	return nil
}

// Listen makes the socket. It never has other rights than it is to have, and
// takes the place of one that nobody listens on in one step. Close removes it.
func (p Socket) Listen() (net.Listener, error) {
	if err := p.free(); err != nil {
		return nil, err
	}
	// It is made in a directory of our own, and appears when all is well with it.
	aside, err := os.MkdirTemp(filepath.Dir(p.Path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(aside) //nolint:errcheck // empty, if all went well
	name := filepath.Join(aside, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening below %s: %w", filepath.Dir(p.Path), plainCause(err))
	}
	l.SetUnlinkOnClose(false) // it gets another name
	if p.GID >= 0 {
		err = os.Chown(name, -1, p.GID)
	}
	if err == nil {
		err = os.Chmod(name, p.Mode)
	}
	var made os.FileInfo
	if err == nil {
		made, err = os.Lstat(name)
	}
	if err == nil {
		err = os.Rename(name, p.Path)
	}
	if err != nil {
		_ = l.Close() // nobody knows of it
		return nil, err
	}
	return &socketListener{UnixListener: l, path: p.Path, made: made}, nil
}

// free returns an error unless the path can be taken: there is nothing, or a
// socket that nobody listens on.
func (p Socket) free() error {
	dir, err := os.Stat(filepath.Dir(p.Path))
	if err != nil {
		return err
	}
	if dir.Mode().Perm()&0o002 != 0 && dir.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("everybody may write to %s and could put another socket there: take another directory", filepath.Dir(p.Path))
	}
	there, err := os.Lstat(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case there.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is not a socket: remove it or take another name", p.Path)
	}
	conn, err := net.Dial("unix", p.Path)
	switch {
	case err == nil:
		_ = conn.Close() // it only had to be there
		return fmt.Errorf("another process listens on %s", p.Path)
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return nil
	}
	return fmt.Errorf("it cannot be told whether another process listens on %s: %w", p.Path, plainCause(err))
}

// socketListener removes its file when it is closed, unless another one is there
// by then.
type socketListener struct {
	*net.UnixListener
	path   string
	made   os.FileInfo
	remove sync.Once // later the next one may have the number of its inode
}

// Close stops listening and removes the file.
func (l *socketListener) Close() error {
	l.remove.Do(func() {
		if there, err := os.Lstat(l.path); err == nil && os.SameFile(there, l.made) {
			_ = os.Remove(l.path) // or else the next one takes its place
		}
	})
	return l.UnixListener.Close()
}

// Addr returns the address by which clients know the socket.
func (l *socketListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }
