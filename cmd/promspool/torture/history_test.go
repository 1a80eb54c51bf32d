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

// absent is the version of a group that is not there.
const absent = 0

// forever is when a request is acknowledged that is not. The end is before it.
const (
	forever = math.MaxInt64
	theEnd  = forever - 1
)

// A history is what was asked of each group, in order, and what was
// acknowledged. Instants are those of a clock that the test chooses.
type history struct {
	mu   sync.Mutex
	ops  map[group][]*op
	last int // version given out
}

// op is one request.
type op struct {
	version int // that it asks for; absent if it deletes
	began   int64
	acked   int64 // forever if it was not
	refused bool  // answered with an error that says nothing of doubt
}

func newHistory() *history { return &history{ops: map[group][]*op{}} }

// begin notes a request that is about to be made, for a version of its own.
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

// acknowledgements returns the instants of all of them, in order.
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

// settle takes what was found as the new beginning: a request without an answer
// may have been carried out, but that must not happen later on.
func (h *history) settle(found map[group]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g := range h.ops {
		h.ops[g] = []*op{{version: found[g]}}
	}
}

// check judges the state that was found after a cut at that instant.
func (h *history) check(cut int64, found map[group]int) error { return h.checkRead(cut, cut, found) }

// checkRead judges what a reading found that lasted from one instant to another.
// Each group has to be as the last request that was acknowledged before left it,
// or one that came later and had begun. A refused one leaves nothing.
func (h *history) checkRead(from, to int64, found map[group]int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g := range found {
		if h.ops[g] == nil {
			return fmt.Errorf("%v is there, and nobody has asked for it", g)
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

// TestHistoryNotices tries the judge on histories that are wrong.
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
		wrong string // part of the complaint; empty if there is nothing to complain of
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
		{theEnd, state{{writer: 3}: 1}, "nobody has asked"},
	} {
		err := h.check(tt.cut, tt.found)
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("at %d with %v: %v, want %q", tt.cut, tt.found, err, tt.wrong)
		}
	}
	// A reading may find what comes while it lasts, and not what was before.
	if err := h.checkRead(2, 6, state{a: 3}); err != nil {
		t.Error(err)
	}
	if err := h.checkRead(7, 8, state{a: 1}); err == nil {
		t.Error("a reading may find what was replaced before")
	}
	if err := h.checkRead(2, 6, state{}); err == nil {
		t.Error("a reading may find nothing while something is replaced")
	}
}

// TestVersionsNotice tries the reader on texts that are wrong.
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
