package systemd

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listeners returns the sockets that the service manager has opened for this
// process, by FileDescriptorName=; several may share a name. None is an empty
// map. The caller owns the listeners, and the first call takes them all.
//
// Something that is not a listening stream socket is an error (a datagram
// socket, say): the unit does not say what its author meant, and to serve on
// fewer sockets than it names would hide that. Nothing is left open then.
func Listeners() (map[string][]net.Listener, error) {
	byName := map[string][]net.Listener{}
	var failed error
	for _, file := range activation.Files(true) {
		listener, err := net.FileListener(file)
		file.Close() // FileListener works on a duplicate.
		if err != nil {
			if failed == nil {
				failed = fmt.Errorf("socket %q from the service manager: %w", file.Name(), err)
			}
			continue
		}
		byName[file.Name()] = append(byName[file.Name()], listener)
	}
	if failed == nil {
		return byName, nil
	}
	for _, listeners := range byName {
		for _, listener := range listeners {
			listener.Close()
		}
	}
	return nil, failed
}
