package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// loadingRuntime sets up Go's runtime for the reading of a spool, and
// tuneRuntime for the work of an agent that has read it. What is set in the
// environment stays.
func loadingRuntime() {
	if os.Getenv("GOGC") == "" {
		// The heap grows to its size and little of it is garbage.
		debug.SetGCPercent(200)
	}
}

func tuneRuntime() {
	if os.Getenv("GOGC") == "" {
		// Most of the heap is text without pointers: collecting it more often costs
		// little.
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// A goroutine that waits for a flush keeps its place among those that may
		// run until the runtime looks. With a place for each core and many pushes
		// at once the cores would be idle for a third of the time.
		n := runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(n + min(n, 8))
	}
}
