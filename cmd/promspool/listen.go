package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/promspool/promspool/cmd/promspool/internal/listen"
	"github.com/promspool/promspool/systemd"
)

// passedForPushes is the FileDescriptorName= of the unix socket for pushes.
// Sockets of every other name take the place of --web.listen-address.
const passedForPushes = "push"

// listen opens the sockets first of all: a port that is taken is told at once,
// and what connects while the spool is read waits and is answered then.
//
// Sockets that the service manager has opened are taken with or without
// --web.systemd-socket, so that enabling promspool.socket is all there is to do;
// the flag makes it an error if there are none.
func (s *serve) listen(logger *slog.Logger) (web, push []net.Listener, err error) {
	passed, err := systemd.Listeners()
	if err != nil {
		return nil, nil, fmt.Errorf("taking the sockets of the service manager: %w", err)
	}
	for name, ls := range passed {
		if name == passedForPushes {
			push = append(push, ls...)
		} else {
			web = append(web, ls...)
		}
	}
	switch {
	case len(web) > 0:
		logger.Info("The service manager has opened the sockets, --web.listen-address is not used", "on", addresses(web))
		return web, push, nil
	case *s.web.WebSystemdSocket:
		return nil, nil, errors.New("--web.systemd-socket is given, but the service manager has passed no socket")
	}
	for _, address := range *s.web.WebListenAddresses {
		l, err := listen.On(address)
		if err != nil {
			return nil, nil, err
		}
		web = append(web, l)
	}
	return web, push, nil
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

// socketFlags are the flags of the unix socket for pushes.
type socketFlags struct {
	path  string
	mode  string // octal
	group string // name or number; empty to leave it to the system
}

func (f *socketFlags) listen() (net.Listener, error) {
	mode, err := strconv.ParseUint(f.mode, 8, 32)
	if err != nil || mode > 0o777 {
		return nil, &usageError{fmt.Errorf("--push.socket-mode: %q is no mode such as 0660", f.mode)}
	}
	if err := listen.CheckPath(f.path); err != nil {
		return nil, &usageError{fmt.Errorf("--push.socket: %w", err)}
	}
	gid, err := groupNumber(f.group)
	if err != nil {
		return nil, fmt.Errorf("--push.socket-group: %w", err)
	}
	l, err := listen.Socket{Path: f.path, Mode: fs.FileMode(mode), GID: gid}.Listen()
	if err != nil {
		return nil, fmt.Errorf("--push.socket: %w", err)
	}
	return l, nil
}

func addresses(listeners []net.Listener) string {
	var all []string
	for _, l := range listeners {
		all = append(all, l.Addr().String())
	}
	return strings.Join(all, " ")
}
