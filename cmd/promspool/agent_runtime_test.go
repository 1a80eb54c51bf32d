package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// A small heap may grow by several times its size, a large one by two fifths.
func TestCollectorFollowsTheHeap(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	percent := func() int {
		p := debug.SetGCPercent(-1)
		debug.SetGCPercent(p)
		return p
	}
	wait := func(what string, ok func(int) bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !ok(percent()); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d percent", what, percent())
			}
			runtime.GC()
		}
	}
	new(collector).tune()
	wait("small", func(p int) bool { return p > 100 })
	large := make([]byte, 64<<20)
	wait("large", func(p int) bool { return p == 40 })
	runtime.KeepAlive(large)
	wait("small again", func(p int) bool { return p > 100 })
}
