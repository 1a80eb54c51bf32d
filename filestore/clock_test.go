package filestore

import (
	"testing"
	"testing/synctest"
	"time"
)

// White box: what a clock that jumps does to lifetimes can be seen from outside
// (TestAge), when exactly it is believed cannot.

func TestSteadyClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset time.Duration
		c := newLifetimeClock(func() time.Time { return time.Now().Add(offset) })
		start := time.Now()
		check := func(what string, sleep, offsetSeen time.Duration, steady, back bool) {
			t.Helper()
			time.Sleep(sleep)
			r := c.look()
			if want := start.Add(time.Since(start) + offsetSeen); !r.now.Equal(want) {
				t.Errorf("%s: now is %v off", what, r.now.Sub(want))
			}
			if r.stable != steady || r.back != back {
				t.Errorf("%s: steady is %v, back is %v", what, r.stable, r.back)
			}
		}
		check("at the start", 0, 0, false, false)
		check("still young", clockConfirm-1, 0, false, false)
		check("steady", 1, 0, true, false)
		offset = 30 * time.Second
		check("a small step", time.Hour, offset, true, false)
		offset += 24 * time.Hour
		check("a jump forward", time.Second, 30*time.Second, false, false)
		check("not yet believed", clockConfirm-1, 30*time.Second, false, false)
		check("believed", 1, offset, true, false)
		offset += time.Hour
		check("another", time.Second, offset-time.Hour, false, false)
		offset += time.Hour
		check("and one while it is not believed", clockConfirm-1, offset-2*time.Hour, false, false)
		check("which begins anew", 2, offset-2*time.Hour, false, false)
		offset = 30*time.Second + 24*time.Hour
		check("taken back", time.Second, offset, true, false)
		offset = -time.Hour
		c.now() // somebody else looks
		check("a jump back", 0, offset, false, true)
		check("is told once", clockConfirm-1, offset, false, false)
		check("and steady again", 1, offset, true, false)
		offset = time.Hour
		if r := c.trust(); !r.stable || !r.now.Equal(time.Now().Add(offset)) {
			t.Errorf("trust = %+v", r)
		}
		check("after trust", time.Second, offset, true, false)
	})
}
