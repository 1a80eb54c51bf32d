package watcher

// White-box: the set of names is not exported.

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPendingNeverPostpones compares the set with a plain map that keeps the
// earliest time of each name.
func TestPendingNeverPostpones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p pending
		due := make(map[string]int64)
		now := int64(0)
		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				name, at := names.Draw(t, "name"), now+rapid.Int64Range(0, 50).Draw(t, "at")
				before, any := p.next()
				sooner := p.put(name, time.Unix(at, 0), 0)
				if old, ok := due[name]; !ok || at < old {
					due[name] = at
				}
				if want := !any || time.Unix(at, 0).Before(before); want && !sooner {
					t.Fatalf("put(%s, %d) does not report that it is due before all others", name, at)
				}
			},
			"take": func(t *rapid.T) {
				now += rapid.Int64Range(0, 30).Draw(t, "later")
				got := make(map[string]int64)
				for _, e := range p.take(time.Unix(now, 0)) {
					got[e.name] = e.due.Unix()
				}
				want := maps.Clone(due)
				maps.DeleteFunc(want, func(_ string, at int64) bool { return at > now })
				maps.DeleteFunc(due, func(_ string, at int64) bool { return at <= now })
				if !maps.Equal(got, want) {
					t.Fatalf("take(%d) = %v, want %v", now, got, want)
				}
			},
			"": func(t *rapid.T) {
				if len(p.queue) != len(due) || len(p.byName) != len(due) {
					t.Fatalf("%d and %d names, want %d", len(p.queue), len(p.byName), len(due))
				}
				if next, ok := p.next(); ok {
					for name, at := range due {
						if at < next.Unix() {
							t.Fatalf("next() = %d, but %s is due at %d", next.Unix(), name, at)
						}
					}
				}
			},
		})
	})
}
