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

// A Socket is a unix socket. The permissions of the file decide which users may
// connect. Requests over it are from this host.
type Socket struct {
	Path string
	Mode fs.FileMode
	GID  int // group of the file; negative to leave it to the system
}

// CheckPath returns an error if no socket can have that path, whatever the
// directory contains.
func CheckPath(path string) error {
	if strings.HasPrefix(path, "@") {
		return fmt.Errorf("%q is an abstract socket, to which any process could connect: use the path of a file", path)
	}
	// The temporary name is usually longer.
	if limit := len(unix.RawSockaddrUnix{}.Path) - 1; max(len(path), len(filepath.Dir(path))+len("/.s4294967295/s")) > limit {
		return fmt.Errorf("the path is too long for a socket, of which the system takes %d bytes", limit)
	}
	return nil
}

// Listen creates the socket with its final permissions. It atomically replaces a
// socket on which no process listens. Close removes it.
func (p Socket) Listen() (net.Listener, error) {
	if err := p.free(); err != nil {
		return nil, err
	}
	// It is created in a private directory and renamed when it is complete.
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
		_ = l.Close() // it has had no clients
		return nil, err
	}
	return &socketListener{UnixListener: l, path: p.Path, made: made}, nil
}

// free returns an error unless the path is free: it does not exist, or is a
// socket on which no process listens.
func (p Socket) free() error {
	dir, err := os.Stat(filepath.Dir(p.Path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s does not exist: create it, or use another path", filepath.Dir(p.Path))
	case err != nil:
		return fmt.Errorf("%w: use another path", err)
	case !dir.IsDir():
		return fmt.Errorf("%s is not a directory: use another path", filepath.Dir(p.Path))
	}
	if dir.Mode().Perm()&0o002 != 0 && dir.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("any user may write to %s and could replace the socket: use another directory", filepath.Dir(p.Path))
	}
	there, err := os.Lstat(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case there.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket: delete it or use another path", p.Path)
	}
	conn, err := net.Dial("unix", p.Path)
	switch {
	case err == nil:
		_ = conn.Close() // it only had to be there
		return fmt.Errorf("another process listens on %s", p.Path)
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return nil
	}
	return fmt.Errorf("cannot detect whether another process listens on %s: %w", p.Path, plainCause(err))
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
