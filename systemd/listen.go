package systemd

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listeners returns the sockets that the service manager has opened for this process,
// by FileDescriptorName=. Several sockets may share a name. Without sockets the map is
// empty. The caller owns the listeners, and the first call takes them all.
//
// A descriptor other than a listening stream socket, such as a datagram socket, is an
// error: serving on fewer sockets than the unit names would hide a mistake in it. No
// socket stays open after an error.
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
