package watcher

import (
	"log/slog"
	"time"
)

// A loop is the state of one Run. Only Run's goroutine uses it and calls the Target.
type loop struct {
	*Watcher
	target Target
	log    *slog.Logger

	watch     *watch        // nil without one; the loop then polls
	checkedAt time.Time     // time of the last check of the watch
	unchecked bool          // events came after that check
	listening chan struct{} // closed when listening to the watch has ended
	lostTo    cause         // why there is no watch
	attempts  int           // failed attempts to get a new watch
	retryAt   time.Time     // the next attempt

	follower  Follower  // the target; nil if it has no links
	followAt  time.Time // latest time of the next check of its links
	followEnd time.Time // end of the last check
	followed  pace

	rescanAt time.Time // latest time of the next pass
	troubled time.Time // earliest time of the next reaction to a trouble
	pace     pace

	losing, arming, rescanning, reloading, following complaint

	partial string // the file system type last logged
}

func newLoop(w *Watcher, t Target) *loop {
	log := w.cfg.Logger.With("dir", w.dir)
	l := &loop{
		Watcher:    w,
		target:     t,
		log:        log,
		losing:     complaint{log: log, bad: "renewing the watch on the directory"},
		arming:     complaint{log: log, bad: "no watch on the directory, polling", good: "watching the directory"},
		rescanning: complaint{log: log, bad: "rescanning the directory failed", good: "the directory is readable"},
		reloading:  complaint{log: log, bad: "reloading files failed", good: "files are readable"},
		following:  complaint{log: log, bad: "checking symbolic links failed", good: "symbolic links are readable"},
	}
	if f, ok := t.(Follower); ok {
		l.follower = f
		w.inbox.follow()
	}
	return l
}

// start takes the watch of New and does the first pass, unless the Target is loaded.
// It listens before the pass, because the pass may take long and the kernel's queue
// is bounded.
func (l *loop) start() {
	if l.first != nil {
		l.useWatch(l.first)
	} else {
		l.unarmed(l.firstErr)
		l.lostTo = causeError
		if isMissing(l.firstErr) {
			l.lostTo = causeDirectory
		}
	}
	l.followAt = time.Now().Add(followEvery)
	if l.loaded && l.watch != nil {
		l.schedule(nil)
		return
	}
	l.rescan(causeStart)
}

// step does the work that is due.
func (l *loop) step() {
	// A stat follows each group of events, not only each second. While the Target has
	// a descriptor of the directory open, the kernel does not report the deletion of
	// the directory. But it reports the earlier deletion of its files.
	now := time.Now()
	if l.watch != nil && now.Sub(l.checkedAt) >= checkPause {
		l.checkedAt = now
		if err := l.watch.check(); err != nil {
			l.inbox.report(causeDirectory, err)
		}
	}
	l.unchecked = l.watch != nil && now.After(l.checkedAt)
	trouble, _, _ := l.inbox.state()
	switch {
	case l.watch == nil && !now.Before(l.retryAt):
		if l.arm() {
			l.rescan(l.lostTo)
		}
	case l.watch != nil && trouble.cause != "" && !now.Before(l.troubled):
		l.lostTo = trouble.cause
		l.losing.note(trouble.err)
		l.disarm()
		l.arm()
		// Also without a new watch: if the directory was deleted, so were its files.
		l.rescan(trouble.cause)
	}
	if !now.Before(l.rescanAt) {
		l.rescan(l.routine())
		l.losing.note(nil) // after such a pause the next trouble is logged
	}
	l.follow(time.Now())
	l.reload(time.Now())
}

// follow checks the links if the check is due.
func (l *loop) follow(now time.Time) {
	if l.follower == nil || now.Before(l.followDue()) {
		return
	}
	l.inbox.clearEvent()
	retry, err := l.follower.Follow()
	l.following.note(err)
	for _, name := range retry {
		l.inbox.retry(name, 1)
	}
	end := time.Now()
	l.followed.note(end.Sub(now))
	l.followEnd = end
	l.followAt = end.Add(l.followed.interval(followEvery))
}

// followDue returns when the links are due to be checked.
func (l *loop) followDue() time.Time {
	due := l.followAt
	if event := l.inbox.firstEvent(); !event.IsZero() {
		soon := event.Add(l.cfg.Settle)
		if next := l.followEnd.Add(l.followed.interval(0)); next.After(soon) {
			soon = next
		}
		due = earlier(due, soon)
	}
	return due
}

// next returns the time of the next step, unless the inbox gets something before.
func (l *loop) next() time.Time {
	at := earlier(l.rescanAt, time.Now().Add(checkEvery))
	if l.unchecked {
		at = earlier(at, l.checkedAt.Add(checkPause))
	}
	if l.follower != nil {
		at = earlier(at, l.followDue())
	}
	trouble, due, ok := l.inbox.state()
	if ok {
		at = earlier(at, due)
	}
	if l.watch == nil {
		at = earlier(at, l.retryAt)
	} else if trouble.cause != "" {
		at = earlier(at, l.troubled)
	}
	return at
}

// rescan does a pass over the directory.
func (l *loop) rescan(c cause) {
	l.metrics.rescans[c].Inc()
	start := time.Now()
	retry, err := l.target.Rescan()
	took := time.Since(start)
	l.metrics.duration.Observe(took.Seconds())
	l.log.Debug("rescanned the directory", "cause", c, "took", took, "err", err)
	l.rescanning.note(err)
	for _, name := range retry {
		l.inbox.retry(name, 1)
	}

	l.pace.note(took)
	l.schedule(err)
}

// schedule sets when the next pass is due after one that ended in err.
func (l *loop) schedule(err error) {
	now := time.Now()
	l.troubled = now.Add(l.pace.pause())
	base := l.cfg.Resync
	switch {
	case l.watch == nil || err != nil:
		base = min(base, pollEvery)
	case l.watch.partial != "":
		base = min(base, partialEvery)
	}
	l.rescanAt = now.Add(l.pace.interval(base))
}

// routine returns the cause of a regular pass.
func (l *loop) routine() cause {
	if l.watch == nil {
		return causePoll
	}
	return causeResync
}

// reload reloads all names that are due, in one call.
func (l *loop) reload(now time.Time) {
	due := l.inbox.take(now)
	if len(due) == 0 {
		return
	}
	names := make([]string, len(due))
	tries := make(map[string]int, len(due))
	for i, e := range due {
		names[i] = e.name
		tries[e.name] = e.tries
	}
	retry, err := l.target.Reload(names...)
	l.reloading.note(err)
	if err != nil {
		for name, n := range tries {
			l.inbox.retry(name, n+1)
		}
		return
	}
	for _, name := range retry {
		l.inbox.retry(name, tries[name]+1)
	}
}

// arm tries to get a watch and reports whether there is one now.
func (l *loop) arm() bool {
	x, err := l.open(l.dir)
	if err != nil {
		l.unarmed(err)
		return false
	}
	l.useWatch(x)
	return true
}

// unarmed records that err prevents a watch.
func (l *loop) unarmed(err error) {
	l.attempts++
	l.retryAt = time.Now().Add(rearm(l.attempts, err))
	l.setMode(nil, err)
	l.arming.note(err)
}

// useWatch starts to use x.
func (l *loop) useWatch(x *watch) {
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		l.inbox.listen(x.events, x.errors, l.metrics)
	}()
	if x.writers != nil {
		x.writers.attach(l.inbox.closed)
	}
	l.watch, l.listening, l.attempts = x, listening, 0
	l.setMode(x, nil)
	l.arming.note(nil)
	if x.partial != "" && x.partial != l.partial {
		l.log.Info("this file system does not report every change, reading everything more often", "type", x.partial)
	}
	l.partial = x.partial
}

// disarm ends the watch, if there is one. It drops the trouble that the end reports;
// marked names stay.
func (l *loop) disarm() {
	if l.watch == nil {
		return
	}
	l.watch.close()
	<-l.listening
	l.inbox.forget()
	l.watch = nil
}

// end releases everything.
func (l *loop) end() {
	l.disarm()
	l.setMode(nil, errEnded)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// A complaint is an error that may be repeated. It is logged when it first occurs,
// when its text changes and when it has ended.
type complaint struct {
	log       *slog.Logger
	bad, good string // the messages; an empty one is not logged
	text      string // of the last error, empty if there is none
}

func (c *complaint) note(err error) {
	switch {
	case err == nil && c.text != "":
		c.text = ""
		if c.good != "" {
			c.log.Info(c.good)
		}
	case err != nil && err.Error() != c.text:
		c.text = err.Error()
		c.log.Warn(c.bad, "err", err)
	}
}
