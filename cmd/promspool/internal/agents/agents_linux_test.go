package agents

import (
	"fmt"
	"net"
	"testing"
)

// TestNames has a process among many forged marks.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	id, err := identify(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: fmt.Sprintf("@%s%d-0", id.prefix(), 1_000_000_000+i), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	found, err := Find("/proc", dir)
	if err != nil || len(found) != 30 {
		t.Fatalf("Find = %v, %v, want 30 agents", found, err)
	}
	names := Names(found)
	if len(names) != mostNames+1 || names[mostNames] != "and 20 more" || names[0] != "a process of another user or container, or a forged mark (process 1000000000 there)" {
		t.Errorf("Names = %q", names)
	}
	if names := Names([]Agent{{PID: 7, Own: 1}}); len(names) != 1 || names[0] != "process 7" {
		t.Errorf("Names of one = %q", names)
	}
	if names := Names(nil); len(names) != 0 {
		t.Errorf("Names of none = %q", names)
	}
}
