package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
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
		new(collector).tune()
	}
	if n := runtime.GOMAXPROCS(0); os.Getenv("GOMAXPROCS") == "" && n == runtime.NumCPU() {
		// A goroutine that waits for a flush keeps its place among those that may
		// run until the runtime looks. With a place for each core and many pushes
		// at once the cores would be idle for a third of the time. Where a quota
		// leaves less than the cores Go follows the quota.
		runtime.GOMAXPROCS(n + min(n, 8))
	}
}

// A collector sets by how much the heap may grow between two collections: by two
// fifths of what is alive, since most of it is text without pointers and cheap to
// collect, but by so much at least that a small spool, in which the garbage of a
// few pushes is half of the heap, does not collect all the time.
type collector struct{ percent int }

const leastGrowth = 8 << 20

// tune sets it now and after each collection.
func (c *collector) tune() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := int(min(max(leastGrowth*100/max(live[0].Value.Uint64(), 1), 40), 400))
	if d := percent - c.percent; d < -c.percent/8 || d > c.percent/8 { // else it is not worth it
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	// The next collection finds this and tells.
	runtime.AddCleanup(&struct{ _ *collector }{}, (*collector).tune, c)
}
