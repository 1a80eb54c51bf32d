//go:build !linux

package listen

import "net"

// unsent returns how many bytes the other end has not yet taken from the kernel,
// which is not asked here: other kernels take more as soon as they have room.
func unsent(net.Conn) (n int, known bool) { return 0, false }
