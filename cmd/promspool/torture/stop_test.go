//go:build linux

package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestStop stops the agent under load, like a service manager.
func TestStop(t *testing.T) {
	rnd := choices(t, 2)
	spool := filepath.Join(directory(t), "spool")
	h := newHistory()
	times, acks, broken := size(5, 100), int64(0), int64(0)
	for i := range times {
		a := start(t, spool)
		l := begin(a, h, demand{writers: 8, slots: 3, rnd: rnd})
		l.until(rnd.Int64N(80), time.Second)
		status, err := a.stop()
		done(t, err)
		l.end()
		if status != 0 {
			t.Fatalf("stop %d: exit status %d, want 0", i+1, status)
		}
		if why := l.worst.Load(); why != nil {
			t.Fatalf("stop %d: a push was refused instead of being done: %s", i+1, *why)
		}
		_, hidden, err := readSpool(spool)
		done(t, err)
		if len(hidden) > 0 {
			t.Fatalf("stop %d has left %q", i+1, hidden)
		}
		found, err := checkSpool(h, theEnd, spool)
		if err != nil {
			t.Fatalf("stop %d: %v", i+1, err)
		}
		h.restart(found)
		acks, broken = acks+l.acks.Load(), broken+l.breaks.Load()
	}
	t.Logf("RESULT SIGTERM: %d stops into %d acknowledgements (%d requests without an answer), 0 lost, exit status always 0", times, acks, broken)
}

// TestStopTells stops an agent during a request that does not end.
func TestStopTells(t *testing.T) {
	if !long() && os.Getenv("PROMSPOOL_TEST_NO_SKIP") == "" {
		t.Skip("takes 15 s; make torture has it")
	}
	spool := filepath.Join(directory(t), "spool")
	a := start(t, spool, "--web.read-timeout=2m")
	done(t, a.must(200, "PUT", "/metrics/job/kept", "kept 1\n"))
	conn, err := a.dial()
	done(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /metrics/job/stuck HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\nstuck 1\n", a.addr)
	done(t, a.must(200, "PUT", "/metrics/job/kept", "kept 2\n"))
	status, err := a.stop()
	done(t, err)
	if status != 1 {
		t.Errorf("exit status %d with a request cut off, want 1", status)
	}
	entries, err := os.ReadDir(spool)
	done(t, err)
	for _, e := range entries {
		if name := e.Name(); name != "job=kept.prom" && name != lockFile {
			t.Errorf("the spool has %s in addition to the acknowledged group", name)
		}
	}
}
