package filestore

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What is held of a replaced file is given back.
func TestReplacedFilesAreFreed(t *testing.T) {
	const open = "/proc/self/fd"
	s, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	deleted := func() (n int) {
		entries, err := os.ReadDir(open)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if to, err := os.Readlink(open + "/" + e.Name()); err == nil && strings.HasPrefix(to, s.Path()) && strings.HasSuffix(to, ".prom (deleted)") {
				n++
			}
		}
		return n
	}
	for i := range 4 * freedAtOnce {
		if err := pushedTo(t, s, groupOf(t, "a"), i); err != nil {
			t.Fatal(err)
		}
		if n := deleted(); n > freedAtOnce {
			t.Fatalf("%d replaced files are held", n)
		}
		if err := s.Drop("b", fmt.Appendf(nil, "b %d\n", i), false); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); deleted() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d replaced files are still held", deleted())
		}
	}
}
