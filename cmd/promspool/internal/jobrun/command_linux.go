package jobrun

import (
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dieOf ends this process by the signal that ended its command, so that whoever
// waits for it sees the same as without it. It returns if that does not work.
func dieOf(s syscall.Signal) {
	signal.Reset(s)
	// The dump that is worth something is the command's.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	// The runtime has handlers of its own, and prints its stacks for some signals.
	var action [64]byte // all zero: SIG_DFL
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	_ = syscall.Kill(os.Getpid(), s)
	time.Sleep(100 * time.Millisecond) // it arrives when it does
}

// adoptOrphans makes us the parent of what the command leaves behind, so that it
// can be seen when that is gone and not only when somebody has noticed.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }
