package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/mdlayher/vsock"

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
		l, err := listenOn(address)
		if err != nil {
			return nil, nil, fmt.Errorf("listening on %s: %w", address, plainCause(err))
		}
		web = append(web, l)
	}
	return web, push, nil
}

// listenOn opens one address: host:port, or vsock://:port as in the toolkit.
func listenOn(address string) (net.Listener, error) {
	port, ok := strings.CutPrefix(address, "vsock://:")
	if !ok {
		return net.Listen("tcp", address)
	}
	n, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is no port", port)
	}
	return vsock.Listen(uint32(n), nil)
}

// plainCause is the error below the address, which the sentence has already.
func plainCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func addresses(listeners []net.Listener) string {
	var all []string
	for _, l := range listeners {
		all = append(all, l.Addr().String())
	}
	return strings.Join(all, " ")
}
