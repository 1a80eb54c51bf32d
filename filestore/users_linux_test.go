package filestore_test

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// as runs do with another user and group for all file operations.
func as(uid, gid int, do func()) {
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
		_ = unix.Setfsgid(gid)
		_ = unix.Setfsuid(uid)
		do()
	})
	done.Wait()
}
