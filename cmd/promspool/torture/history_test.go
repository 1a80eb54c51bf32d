//go:build linux

package torture

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
)

// absent is the version of a group that does not exist.
const absent = 0

// forever is the acknowledgement time of unacknowledged requests. theEnd is earlier.
const (
	forever = math.MaxInt64
	theEnd  = forever - 1
)

// A history records the requests to each group, in order, and their
// acknowledgements. Instants are those of the test's clock.
type history struct {
	mu   sync.Mutex
	ops  map[group][]*op
	last int // last version assigned
}

// op is one request.
type op struct {
	version int // requested version; absent for a deletion
	began   int64
	acked   int64 // forever if it was not acknowledged
	refused bool  // rejected with an error that leaves no doubt
}

func newHistory() *history { return &history{ops: map[group][]*op{}} }

// begin records a request before it is made, with a new version.
func (h *history) begin(g group, deletes bool, now int64) *op {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := &op{version: absent, began: now, acked: forever}
	if !deletes {
		h.last++
		o.version = h.last
	}
	h.ops[g] = append(h.ops[g], o)
	return o
}

func (h *history) acknowledge(o *op, now int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.acked = now
}

func (h *history) refuse(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.refused = true
}

// acknowledgements returns the instants of all acknowledgements, in order.
func (h *history) acknowledgements() []int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var at []int64
	for _, ops := range h.ops {
		for _, o := range ops {
			if o.acked != forever {
				at = append(at, o.acked)
			}
		}
	}
	slices.Sort(at)
	return at
}

// restart takes the state found as the new initial state. Requests without a response
// may have taken effect, but must not take effect later.
func (h *history) restart(found map[group]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g := range h.ops {
		h.ops[g] = []*op{{version: found[g]}}
	}
}

// check compares the state found after a cut at that instant with the history.
func (h *history) check(cut int64, found map[group]int) error { return h.checkRead(cut, cut, found) }

// checkRead compares the state found by a read between two instants. Each group must
// be as of the last request acknowledged before, or a later one that had begun.
// Rejected requests have no effect.
func (h *history) checkRead(from, to int64, found map[group]int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g := range found {
		if h.ops[g] == nil {
			return fmt.Errorf("%v exists without a request", g)
		}
	}
	for g, ops := range h.ops {
		next, want := 0, absent
		for i, o := range ops {
			if o.acked <= from {
				next, want = i+1, o.version
			}
		}
		allowed := []int{want}
		for _, o := range ops[next:] {
			if o.began <= to && !o.refused {
				allowed = append(allowed, o.version)
			}
		}
		if has := found[g]; !slices.Contains(allowed, has) {
			return fmt.Errorf("%v has version %d (0 is none), acknowledged is %d, begun and possible %v", g, has, want, allowed[1:])
		}
	}
	return nil
}

// TestHistoryNotices tests the check with wrong histories.
func TestHistoryNotices(t *testing.T) {
	a, b := group{writer: 1}, group{writer: 2}
	h := newHistory()
	first := h.begin(a, false, 1) // version 1
	h.acknowledge(first, 2)
	second := h.begin(a, false, 3) // version 2
	h.refuse(second)
	third := h.begin(a, false, 5) // version 3
	h.begin(b, false, 1)          // version 4, no answer
	h.acknowledge(third, 7)
	h.acknowledge(h.begin(a, true, 8), 9)
	type state = map[group]int
	for _, tt := range []struct {
		cut   int64
		found state
		wrong string // part of the error; empty if there is none
	}{
		{0, state{}, ""},
		{1, state{a: 1}, ""},
		{1, state{a: 1, b: 4}, ""},
		{2, state{a: 1}, ""},
		{2, state{b: 4}, "acknowledged is 1"},
		{4, state{a: 2}, "has version 2"},
		{4, state{a: 3}, "has version 3"},
		{5, state{a: 3}, ""},
		{6, state{a: 1}, ""},
		{7, state{a: 1}, "acknowledged is 3"},
		{8, state{}, ""},
		{theEnd, state{a: 3}, "has version 3 (0 is none), acknowledged is 0"},
		{theEnd, state{b: 4}, ""},
		{theEnd, state{{writer: 3}: 1}, "without a request"},
	} {
		err := h.check(tt.cut, tt.found)
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("at %d with %v: %v, want %q", tt.cut, tt.found, err, tt.wrong)
		}
	}
	// A read may find a version from during the read, not one from before.
	if err := h.checkRead(2, 6, state{a: 3}); err != nil {
		t.Error(err)
	}
	if err := h.checkRead(7, 8, state{a: 1}); err == nil {
		t.Error("a read may find a version that was replaced before")
	}
	if err := h.checkRead(2, 6, state{}); err == nil {
		t.Error("a reading may find nothing while something is replaced")
	}
}

// TestVersionsNotice tests the reader with wrong texts.
func TestVersionsNotice(t *testing.T) {
	g := group{writer: 1, slot: 2, dropped: true}
	version := 1
	for g.lines(version) < 3 {
		version++
	}
	text := g.body(version)
	if found, err := versions(text + "other 1\n"); err != nil || len(found) != 1 || found[g] != version {
		t.Fatalf("versions = %v, %v", found, err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	last := lines[len(lines)-1]
	for what, broken := range map[string]string{
		"no newline":     strings.TrimSuffix(text, "\n"),
		"a missing line": strings.Join(lines[:len(lines)-1], ""),
		"a line twice":   text + last + "\n",
		"two versions":   text + strings.Replace(last, "} ", "} 9", 1) + "\n",
		"another print":  strings.Replace(text, `print="`, `print="0`, 1),
		"zeros":          text[:len(text)/2] + strings.Repeat("\x00", 100) + "\n",
	} {
		if found, err := versions(broken); err == nil {
			t.Errorf("%s: %v", what, found)
		}
	}
}
