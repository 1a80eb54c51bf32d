//go:build !linux

package jobrun

import "syscall"

// dieOf does nothing: the exit status says which signal it was.
func dieOf(syscall.Signal) {}

// adoptOrphans does nothing: there are no orphans but those of the first process.
func adoptOrphans() {}
