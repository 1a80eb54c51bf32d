package filestore

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestRunExpiry covers the effect of jumps on lifetimes. The exact time at which a jump
// takes effect is visible inside the package only.

func TestLifetimeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset time.Duration
		c := newLifetimeClock(func() time.Time { return time.Now().Add(offset) })
		start := time.Now()
		check := func(what string, sleep, offsetSeen time.Duration, stable, back bool) {
			t.Helper()
			time.Sleep(sleep)
			r := c.look()
			if want := start.Add(time.Since(start) + offsetSeen); !r.now.Equal(want) {
				t.Errorf("%s: now is %v off", what, r.now.Sub(want))
			}
			if r.stable != stable || r.back != back {
				t.Errorf("%s: stable is %v, back is %v", what, r.stable, r.back)
			}
		}
		check("at the start", 0, 0, false, false)
		check("not yet stable", clockConfirm-1, 0, false, false)
		check("stable", 1, 0, true, false)
		offset = 30 * time.Second
		check("a small step", time.Hour, offset, true, false)
		offset += 24 * time.Hour
		check("a jump forward", time.Second, 30*time.Second, false, false)
		check("not yet confirmed", clockConfirm-1, 30*time.Second, false, false)
		check("confirmed", 1, offset, true, false)
		offset += time.Hour
		check("another", time.Second, offset-time.Hour, false, false)
		offset += time.Hour
		check("another one before that is confirmed", clockConfirm-1, offset-2*time.Hour, false, false)
		check("restarts the wait", 2, offset-2*time.Hour, false, false)
		offset = 30*time.Second + 24*time.Hour
		check("back to the confirmed time", time.Second, offset, true, false)
		offset = -time.Hour
		c.now() // must not consume the jump
		check("a jump back", 0, offset, false, true)
		check("is reported once", clockConfirm-1, offset, false, false)
		check("and then stable", 1, offset, true, false)
		offset = time.Hour
		if r := c.trust(); !r.stable || !r.now.Equal(time.Now().Add(offset)) {
			t.Errorf("trust = %+v", r)
		}
		check("after trust", time.Second, offset, true, false)
	})
}
