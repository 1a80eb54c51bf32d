//go:build !linux

package listen

import "net"

// unsent returns how many bytes the other end has not yet taken from the kernel,
// which is not asked here: other kernels take more as soon as they have room.
func unsent(net.Conn) (n int, known bool) { return 0, false }

// unreceived returns how many bytes the kernel has from the other end, which is
// not asked here.
func unreceived(net.Conn) int { return 0 }
