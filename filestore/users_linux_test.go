package filestore_test

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// as runs do under another user, in whose name files are made and opened.
func as(uid, gid int, do func()) {
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		_ = unix.Setfsgid(gid)
		_ = unix.Setfsuid(uid)
		do()
	})
	done.Wait()
}
