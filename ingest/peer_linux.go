package ingest

import (
	"encoding/binary"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PeersAreKnown says that the system tells who is at the other end of a unix
// socket.
const PeersAreKnown = true

// peerOf asks the kernel.
func peerOf(conn *net.UnixConn) (p peer, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return p, err
	}
	var asked error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); asked == nil {
			p.uid, p.groups = cred.Uid, append(supplementary(fd), cred.Gid)
		}
	})
	if err == nil {
		err = asked
	}
	return p, err
}

// supplementary returns the further groups of the other end, none if the kernel
// does not tell.
func supplementary(fd uintptr) []uint32 {
	b := make([]byte, 64*4)
	for range 2 {
		n := uint32(len(b))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
		switch {
		case errno == unix.ERANGE && n <= 65536*4:
			b = make([]byte, n)
			continue
		case errno != 0:
			return nil
		}
		groups := make([]uint32, n/4)
		for i := range groups {
			groups[i] = binary.NativeEndian.Uint32(b[4*i:])
		}
		return groups
	}
	return nil
}
