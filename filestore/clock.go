package filestore

import (
	"sync"
	"time"
)

// Lifetimes end by the clock of the host, and that may be wrong: it is set while
// we run, by hand or from the network, or it starts years off after a boot
// without a battery. A clock that jumps must not withhold everything. So its
// progress is held against that of the monotonic clock.
//
// After a jump forward time goes on here as it did, until the new time has been
// steady for a while: it may be right, as after the sleep of a host. A jump
// back is followed at once, as it ends no lifetime. What cannot be told is
// whether the first time is right: it counts for what is served, which can be
// taken back, and only after that while for what is written. Of a push that this Store
// took, the monotonic clock proves the age, see due.
const (
	clockConfirm = 5 * time.Minute
	clockSlack   = time.Minute // what the two may differ by between two looks
)

// steadyClock is the clock that lifetimes end by. It is safe for concurrent use.
type steadyClock struct {
	wall func() time.Time

	mu      sync.Mutex
	start   time.Time     // by the monotonic clock
	elapsed time.Duration // since start, at the last look
	sure    time.Time     // the time then
	steady  time.Duration // since when there was no jump
	ahead   time.Duration // by how much the clock has jumped forward, not yet believed; 0 if it has not
	since   time.Duration // since when it has
	seen    reading       // jumps that nobody has asked for
}

func newSteadyClock(wall func() time.Time) *steadyClock {
	return &steadyClock{wall: wall, start: time.Now(), sure: wall().Round(0)}
}

// reading is what a look at the clock showed.
type reading struct {
	now     time.Time
	steady  bool // for long enough to be believed
	trusted bool // it was asked to be believed
	back    bool // it has jumped back since the last look
	forward bool // it has jumped forward since the last look
}

// now returns the time that counts.
func (c *steadyClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = c.read()
	return c.seen.now
}

// look returns the time and what became of the clock since the last look.
func (c *steadyClock) look() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.read()
	c.seen = reading{}
	return r
}

// trust takes the clock at its word.
func (c *steadyClock) trust() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.elapsed, c.sure, c.ahead = time.Since(c.start), c.wall().Round(0), 0
	return reading{now: c.sure, steady: true, trusted: true}
}

func (c *steadyClock) read() reading {
	before := c.elapsed
	c.elapsed = time.Since(c.start)
	wall, expected := c.wall().Round(0), c.sure.Add(c.elapsed-before)
	r := reading{back: c.seen.back, forward: c.seen.forward}
	switch gap := wall.Sub(expected); {
	case gap < -clockSlack:
		c.sure, c.steady, c.ahead, r.back = wall, c.elapsed, 0, true
	case gap <= clockSlack:
		c.sure, c.ahead = wall, 0
	case c.ahead == 0 || (gap-c.ahead).Abs() > clockSlack:
		c.sure, c.ahead, c.since, r.forward = expected, gap, c.elapsed, true
	case c.elapsed-c.since >= clockConfirm:
		c.sure, c.ahead = wall, 0
	default:
		c.sure = expected
	}
	r.now = c.sure
	r.steady = c.ahead == 0 && c.elapsed-c.steady >= clockConfirm
	return r
}
