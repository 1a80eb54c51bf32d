package watcher

import (
	"errors"
	"io/fs"
	"syscall"
	"time"
)

const (
	pollEvery    = time.Second     // Rescans without a watch
	partialEvery = 5 * time.Second // Rescans if the kernel does not report everything
	checkPause   = 50 * time.Millisecond
	checkEvery   = time.Second      // checks of the watch
	followEvery  = time.Second      // checks of the targets of symbolic links
	slowest      = 10 * time.Minute // maximum interval, also for large directories
)

// pace records the cost of passes over the whole directory.
type pace struct{ last, previous time.Duration }

func (p *pace) note(d time.Duration) { p.previous, p.last = p.last, d }

// cost is the shorter one of the last two passes. The first pass reads every file,
// and other processes can delay a pass; neither predicts the next one.
func (p pace) cost() time.Duration { return min(p.previous, p.last) }

// interval is the time to the next pass: base, or more to keep passes below 1 % of a
// core.
func (p pace) interval(base time.Duration) time.Duration {
	return max(base, min(100*p.cost(), slowest))
}

// pause is the minimum time before a further pass because of a trouble. It limits
// passes to about a tenth of a core, as a user may cause troubles on purpose.
func (p pace) pause() time.Duration {
	return min(max(100*time.Millisecond, 10*p.cost()), 10*time.Second)
}

// backoff is the time to the next attempt to read a file after this many attempts.
// It grows from 2 ms to 50 ms, because a writer usually finishes soon, and after
// about 2 s to 1 s.
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

// closeRetry is the minimum time between two attempts to read a file that writers
// open and close continuously.
func closeRetry(tries int) time.Duration {
	if tries < 40 {
		return 5 * time.Millisecond
	}
	return 50 * time.Millisecond
}

// rearm is the time to the next attempt to get a watch. It is short for a missing
// directory, which is cheap to check and may be created soon, and long for limits of
// the kernel and permissions.
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

// isMissing reports whether err means that the directory does not exist.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, errReplaced)
}
