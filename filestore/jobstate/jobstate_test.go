package jobstate

import (
	"math"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	type values map[string]float64
	now := time.Unix(1_000_000, 0)
	at := func(ago float64) float64 { return 1_000_000 - ago }
	for _, test := range []struct {
		name   string
		values values
		phase  Phase
		late   bool
	}{
		{"declared", values{StartTime: 0, EndTime: 0, Running: 0, NextDue: at(-10)}, NeverRan, false},
		{"declared and late", values{StartTime: 0, EndTime: 0, Running: 0, NextDue: at(10)}, NeverRan, true},
		{"known to be due alone", values{NextDue: at(10)}, NeverRan, true},
		{"running", values{StartTime: at(10), Running: 1, MaxRuntime: 20}, InProgress, false},
		{"running is never overdue", values{StartTime: at(10), Running: 2, NextDue: at(5)}, InProgress, false},
		{"running after a failure", values{StartTime: at(10), EndTime: at(20), ExitCode: 1, Running: 1}, InProgress, false},
		{"too long", values{StartTime: at(10), Running: 1, MaxRuntime: 9}, TooLong, false},
		{"succeeded", values{StartTime: at(10), EndTime: at(5), SuccessTime: at(5), NextDue: at(-5)}, Succeeded, false},
		{"succeeded and late", values{StartTime: at(10), EndTime: at(5), SuccessTime: at(5), NextDue: at(1)}, Succeeded, true},
		{"due this very second", values{StartTime: at(10), EndTime: at(5), SuccessTime: at(5), NextDue: at(0)}, Succeeded, false},
		{"failed", values{StartTime: at(10), EndTime: at(5), SuccessTime: at(50), ExitCode: 3}, Failed, false},
		{"failed without an exit code", values{StartTime: at(10), EndTime: at(5), SuccessTime: at(50), ExitCode: 0}, Failed, false},
		{"failed and late", values{StartTime: at(10), EndTime: at(5), ExitCode: 1, NextDue: at(1)}, Failed, true},
		{"timed out", values{StartTime: at(10), EndTime: at(5), SuccessTime: at(50), ExitCode: 124}, TimedOut, false},
		{"lost", values{StartTime: at(10), EndTime: at(5), ExitCode: -1}, Lost, false},
		{"lost without an end", values{StartTime: at(10), EndTime: at(20), SuccessTime: at(20)}, Lost, false},
		{"no number", values{StartTime: math.NaN(), EndTime: math.NaN(), Running: math.NaN(), NextDue: math.NaN()}, Succeeded, false},
		{"no time", values{StartTime: math.Inf(1), EndTime: math.Inf(1), SuccessTime: math.Inf(1), NextDue: math.Inf(1)}, Succeeded, false},
	} {
		got, ok := Of(func(metric string) (float64, bool) { v, ok := test.values[metric]; return v, ok }, now)
		if !ok || got.Phase != test.phase || got.Overdue != test.late {
			t.Errorf("%s: %v, overdue %t, %t, want %v, %t", test.name, got.Phase, got.Overdue, ok, test.phase, test.late)
		}
		if bad := test.late || test.phase == TooLong || test.phase == Failed || test.phase == TimedOut || test.phase == Lost; got.Bad() != bad {
			t.Errorf("%s: needs attention: %t", test.name, got.Bad())
		}
	}
	if _, ok := Of(func(metric string) (float64, bool) { return 1, metric == EndTime || metric == ExitCode }, now); ok {
		t.Error("a group without a start, a due time or runs is one of a job")
	}
}

func TestWords(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Phases {
		seen[p.String()] = true
	}
	if len(seen) != int(Lost)+1 {
		t.Errorf("the phases are %v", seen)
	}
	for _, s := range []State{{Phase: Failed, ExitCode: 3}, {Phase: Failed}, {Phase: TimedOut, ExitCode: 124}} {
		want := map[float64]string{3: "failed, exit status 3", 0: "failed", 124: "timed out"}[s.ExitCode]
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for value, want := range map[string]string{"success": "succeeded", "failure": "failed", "timeout": "timed out", "lost": "lost", "skipped": "skipped", "x": "x"} {
		if got := Outcome(value); got != want {
			t.Errorf("the outcome %q is %q, want %q", value, got, want)
		}
	}
}
