package jobrun

import (
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dieOf ends this process by the signal that ended its command, so that the
// parent sees the same as without promspool. It returns if that fails.
func dieOf(s syscall.Signal) {
	signal.Reset(s)
	// Only the dump of the command is useful.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	// The runtime has handlers of its own, and prints its stacks for some signals.
	var action [64]byte // all zero: SIG_DFL
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	_ = syscall.Kill(os.Getpid(), s)
	time.Sleep(100 * time.Millisecond) // the signal may arrive late
}

// adoptOrphans makes promspool the parent of processes that the command leaves
// behind, so that it detects their end.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }
