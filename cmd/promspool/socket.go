package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// pushSocket is a unix socket for pushes: who may connect to it is for the
// rights of the file to say, and what comes over it is from this host.
type pushSocket struct {
	path  string
	mode  string // octal
	group string // name or number; empty to leave it to the system
}

// listenForPushes opens what takes pushes beside the agent's addresses, and
// beside what the service manager has passed for that.
func (s *serve) listenForPushes(passed []net.Listener) ([]net.Listener, error) {
	if s.pushSocket.path == "" {
		return passed, nil
	}
	l, err := s.pushSocket.listen()
	if err != nil {
		return nil, err
	}
	return append(passed, l), nil
}

// listen makes the socket. It never has other rights than it is to have, and
// takes the place of one that nobody listens on in one step. Close removes it.
func (p pushSocket) listen() (net.Listener, error) {
	mode, gid, err := p.rights()
	if err != nil {
		return nil, err
	}
	if err := p.free(); err != nil {
		return nil, err
	}
	// It is made in a directory of our own, and appears when all is well with it.
	aside, err := os.MkdirTemp(filepath.Dir(p.path), ".s")
	if err != nil {
		return nil, fmt.Errorf("--push.socket: %w", err)
	}
	defer os.RemoveAll(aside) //nolint:errcheck // empty, if all went well
	name := filepath.Join(aside, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("--push.socket: listening below %s: %w", filepath.Dir(p.path), plainCause(err))
	}
	l.SetUnlinkOnClose(false) // it gets another name
	if gid >= 0 {
		err = os.Chown(name, -1, gid)
	}
	if err == nil {
		err = os.Chmod(name, mode)
	}
	var made os.FileInfo
	if err == nil {
		made, err = os.Lstat(name)
	}
	if err == nil {
		err = os.Rename(name, p.path)
	}
	if err != nil {
		_ = l.Close() // nobody knows of it
		return nil, fmt.Errorf("--push.socket: %w", err)
	}
	return &socketListener{UnixListener: l, path: p.path, made: made}, nil
}

// rights returns what the flags say, or an error of usage.
func (p pushSocket) rights() (mode fs.FileMode, gid int, err error) {
	n, err := strconv.ParseUint(p.mode, 8, 32)
	switch {
	case err != nil || n > 0o777:
		return 0, 0, &usageError{fmt.Errorf("--push.socket-mode: %q is no mode such as 0660", p.mode)}
	case strings.HasPrefix(p.path, "@"):
		return 0, 0, &usageError{fmt.Errorf("--push.socket: %q is an abstract socket, to which everybody could connect: name a file", p.path)}
	}
	// The name beside it is longer than most.
	if limit := len(unix.RawSockaddrUnix{}.Path) - 1; max(len(p.path), len(filepath.Dir(p.path))+len("/.s4294967295/s")) > limit {
		return 0, 0, &usageError{fmt.Errorf("--push.socket: the path is too long for a socket, of which the system takes %d bytes", limit)}
	}
	if gid, err = groupNumber(p.group); err != nil {
		return 0, 0, fmt.Errorf("--push.socket-group: %w", err)
	}
	return fs.FileMode(n), gid, nil
}

// free returns an error unless the path can be taken: there is nothing, or a
// socket that nobody listens on.
func (p pushSocket) free() error {
	dir, err := os.Stat(filepath.Dir(p.path))
	if err != nil {
		return fmt.Errorf("--push.socket: %w", err)
	}
	if dir.Mode().Perm()&0o002 != 0 && dir.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("--push.socket: everybody may write to %s and could put another socket there: take another directory", filepath.Dir(p.path))
	}
	there, err := os.Lstat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--push.socket: %w", err)
	case there.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("--push.socket: %s is there and is not a socket: remove it or take another name", p.path)
	}
	conn, err := net.Dial("unix", p.path)
	switch {
	case err == nil:
		_ = conn.Close() // it only had to be there
		return fmt.Errorf("--push.socket: another process listens on %s", p.path)
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return nil
	}
	return fmt.Errorf("--push.socket: it cannot be told whether another process listens on %s: %w", p.path, plainCause(err))
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

// onlyPushAndRead hides what is for the operator's address alone: to stop the
// agent and to look into it.
func (rt *router) onlyPushAndRead() http.Handler {
	public := *rt
	public.lifecycle, public.profiles = false, nil
	return &public
}
