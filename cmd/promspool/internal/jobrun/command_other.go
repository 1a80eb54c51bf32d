//go:build !linux

package jobrun

import "syscall"

// dieOf does nothing: the exit status reports the signal.
func dieOf(syscall.Signal) {}

// adoptOrphans does nothing: only the first process of the system adopts orphans.
func adoptOrphans() {}
