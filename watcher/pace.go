package watcher

import (
	"errors"
	"io/fs"
	"syscall"
	"time"
)

const (
	pollEvery    = time.Second     // Rescans without a watch
	partialEvery = 5 * time.Second // Rescans where not everything is reported
	checkPause   = 50 * time.Millisecond
	checkEvery   = time.Second      // is the directory still the one that is watched?
	followEvery  = time.Second      // looks at the targets of symbolic links
	slowest      = 10 * time.Minute // no directory is so large that it is left alone for longer
)

// pace remembers what passes over the whole directory cost.
type pace struct{ last, previous time.Duration }

func (p *pace) note(d time.Duration) { p.previous, p.last = p.last, d }

// cost is the shorter one of the last two passes. The first pass reads every
// file, and any pass can be held up by something else; neither says what the next
// one will take.
func (p pace) cost() time.Duration { return min(p.previous, p.last) }

// interval is the time to the next pass: base, or so much more that passes take
// no more than 1 % of a core.
func (p pace) interval(base time.Duration) time.Duration {
	return max(base, min(100*p.cost(), slowest))
}

// pause is the time that must pass before a trouble is answered with a further
// pass. Whoever can make troubles at will must not get more than about a tenth of
// a core for them.
func (p pace) pause() time.Duration {
	return min(max(100*time.Millisecond, 10*p.cost()), 10*time.Second)
}

// backoff is the time to the next look at a file that could not be settled this
// many times: from 2 ms to 50 ms, because a writer is usually done soon, and,
// if after some 2 s it still is not, on to 1 s.
func backoff(tries int) time.Duration {
	const many = 40
	d := 2 * time.Millisecond
	for n := 1; n < tries && d < time.Second; n++ {
		d *= 2
		if n < many {
			d = min(d, 50*time.Millisecond)
		}
	}
	return min(d, time.Second)
}

// closeRetry is the time between two looks at a file that comes to rest only for
// moments, each after a report that a writer has closed it.
func closeRetry(tries int) time.Duration {
	if tries < 40 {
		return 5 * time.Millisecond
	}
	return 50 * time.Millisecond
}

// rearm is the time to the next attempt to get a watch. A missing directory is
// looked for often, since that costs next to nothing and somebody may be about to
// make it; limits of the kernel and permissions are not worth asking often.
func rearm(tries int, err error) time.Duration {
	longest := 30 * time.Second
	if isMissing(err) {
		longest = checkEvery
	}
	d := 10 * time.Millisecond
	for n := 1; n < tries && d < longest; n++ {
		d *= 2
	}
	return min(d, longest)
}

// isMissing reports whether err says that there is no directory of that name.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, errReplaced)
}
