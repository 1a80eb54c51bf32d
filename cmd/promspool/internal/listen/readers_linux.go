package listen

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsent returns how many bytes the other end has not yet taken from the kernel.
func unsent(conn net.Conn) (n int, known bool) { return askSocket(conn, unix.SIOCOUTQ) }

// unreceived returns how many bytes the kernel has from the other end.
func unreceived(conn net.Conn) int {
	n, _ := askSocket(conn, unix.SIOCINQ)
	return n
}

func askSocket(conn net.Conn, what uint) (n int, known bool) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var asked error
	err = raw.Control(func(fd uintptr) { n, asked = unix.IoctlGetInt(int(fd), what) })
	return n, err == nil && asked == nil
}
