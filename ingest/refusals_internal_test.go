package ingest

import (
	"strconv"
	"testing"
	"time"
)

// TestLogLimit is a white-box test, since it takes minutes otherwise.
func TestLogLimit(t *testing.T) {
	var l logLimit
	now := time.Unix(1, 0)
	for i := range 10 {
		if left, ok := l.allow("a", now); ok != (i == 0) || left != 0 {
			t.Errorf("refusal %d: %d left out, logged %v", i, left, ok)
		}
	}
	now = now.Add(logEvery)
	if left, ok := l.allow("a", now); left != 9 || !ok {
		t.Errorf("a minute later: %d left out, logged %v, want 9, true", left, ok)
	}
	logged := 0
	for i := range 10 * mostLogged {
		if _, ok := l.allow(strconv.Itoa(i), now); ok {
			logged++
		}
	}
	if logged > mostLogged+1 || len(l.lines) > mostLogged+1 {
		t.Errorf("%d lines are logged, %d keys are held", logged, len(l.lines))
	}
	now = now.Add(logEvery)
	if _, ok := l.allow("new", now); !ok || len(l.lines) > 3 {
		t.Errorf("a minute later %d keys are held, logged %v", len(l.lines), ok)
	}
}
