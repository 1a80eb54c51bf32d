package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// pendingSync is a change that every View has and the disk may not have yet. The
// directory is in use until the flush.
type pendingSync struct {
	d   *disk.Dir
	old disk.OldFile
}

// inSpool makes a change in the directory of the spool: it calls try until that
// succeeds or fails for good. After disk.ErrReplaced it goes on in the directory that
// the path leads to by then, after disk.ErrRetry once the files with these names have
// been read again. The directory is in use when try is called, which ends the use.
func (s *Store) inSpool(names []string, try func(d *disk.Dir) error) error {
	var giveUp time.Time
	for attempt := 0; ; attempt++ {
		if attempt == 3 {
			giveUp = time.Now().Add(commitTimeout)
		} else if attempt > 3 {
			if time.Now().After(giveUp) {
				return contendedError("it changes too often: another process writes to it all the time")
			}
			// A writer may need a moment, and it takes many tries to come between two
			// changes of one that never pauses.
			time.Sleep(time.Duration(min(attempt, 5)) * time.Millisecond)
		}
		d, err := s.spool.acquire()
		if err != nil {
			return err
		}
		switch err = try(d); {
		case errors.Is(err, disk.ErrReplaced):
			_, err = s.spool.reopen(d)
		case errors.Is(err, disk.ErrRetry):
			_, err = s.Reload(names...)
		default:
			return err
		}
		if err != nil {
			return err
		}
	}
}

// commitTimeout is how long a change tries to come between the changes that other
// processes make to the same file.
const commitTimeout = 10 * time.Second

// commit writes what plan makes of the group as it is. Encoding, writing and syncing
// the file happen outside of every lock that another group needs; the check, the
// rename and the new view happen under the one of the Store. It is plan, prepare,
// queue (install), check (mayInstall), rename, publish.
//
// The sync of what is returned is left to do: see flush.
func (s *Store) commit(g grouping.Key, check bool, plan func(old *record.Content) (*record.Content, error)) (at pendingSync, err error) {
	name := g.FileName()
	since := s.groups.since(name)
	err = s.inSpool([]string{name}, func(d *disk.Dir) (err error) {
		at, err = s.try(d, name, since, check, plan)
		return err
	})
	return at, err
}

// try is one attempt of commit, in a directory that is in use. It ends the use
// unless it succeeds. disk.ErrRetry and disk.ErrReplaced ask for another attempt.
func (s *Store) try(d *disk.Dir, name string, since time.Time, check bool, plan func(old *record.Content) (*record.Content, error)) (at pendingSync, err error) {
	p := &pendingCommit{d: d, name: name, check: check, since: since}
	defer func() {
		if at.d != nil {
			return
		}
		// Also after a panic, of the plan or of what follows.
		if p.tmp != nil {
			p.tmp.Discard()
		}
		p.gone.Release()()
		d.Release()
	}()
	// The view, so as not to wait for those who are changing it. Whether this is
	// still the file is asked under the lock.
	v := s.View()
	old := v.File(name)
	var oldParts []exposition.Part
	if old != nil {
		oldParts = v.Parts(old)
	}
	mine := old
	if old != nil && old.Group().IsZero() {
		mine = nil // somebody's file under our name: replaced, not read
	}
	var held *record.Content
	if mine != nil {
		held = &record.Content{File: mine, Parts: oldParts}
	}
	c, err := plan(held)
	if err != nil {
		return pendingSync{}, err
	}
	s.alignHelp(c, mine)
	data := c.Encode()
	if int64(len(data)) > s.opts.MaxFileBytes {
		return pendingSync{}, &exposition.SyntaxError{Reason: exposition.TooLarge, Msg: fmt.Sprintf("the group would take %d bytes, more than --spool.max-file-bytes=%d", len(data), s.opts.MaxFileBytes)}
	}
	c.Holds(data)
	p.old, p.mine, p.oldParts, p.content = old, mine, oldParts, c
	if c.DryRun {
		if err := s.dryRun(p); err != nil {
			return pendingSync{}, err
		}
		return pendingSync{d: d}, nil
	}
	defer func() {
		if at.d != nil || err != nil { // no panic
			s.noteWrite(c.File.Size(), err)
		}
	}()
	if check && !s.opts.Unchecked {
		defer func() {
			if at.d == nil {
				s.forgetLarge(c)
			}
		}()
		if p.checked, err = s.checkLarge(c, oldParts); err != nil {
			return pendingSync{}, err
		}
	}
	start := time.Now()
	if p.tmp, err = d.Prepare(name, data, c.KeepTime()); err != nil {
		if gone := d.CheckPath(); gone != nil { // not a fault of the disk
			return pendingSync{}, disk.ErrReplaced
		}
		return pendingSync{}, err
	}
	if s.observers.Flush != nil {
		s.observers.Flush(time.Since(start).Seconds())
	}
	err = s.install(p)
	switch {
	case err == nil:
		return pendingSync{d, p.gone}, nil
	case errors.Is(err, fs.ErrNotExist):
		err = disk.ErrRetry // somebody removed the temporary file
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("the file %q is somebody else's, and only he may replace or remove it in this directory: %w", name, unix.EPERM)
	}
	return pendingSync{}, err
}

// ErrFull is what a push's error wraps when the spool's own limit is reached.
var ErrFull = errors.New("the limit of the spool is reached")

// keyedMutex has a mutex for each key in use.
type keyedMutex struct {
	mu sync.Mutex
	m  map[string]*keyed
}

type keyed struct {
	turn  chan struct{} // full while the key is locked
	users int           // guarded by keyedMutex.mu
	since time.Time     // when the present holder began to wait; guarded by keyedMutex.mu
}

// lock locks the key and returns what unlocks it.
func (k *keyedMutex) lock(key string) (unlock func()) {
	since := time.Now()
	k.mu.Lock()
	if k.m == nil {
		k.m = make(map[string]*keyed)
	}
	e := k.m[key]
	if e == nil {
		e = &keyed{turn: make(chan struct{}, 1)}
		k.m[key] = e
	}
	e.users++
	if e.users == 1 {
		e.turn <- struct{}{} // free
		e.since = since
		k.mu.Unlock()
	} else {
		k.mu.Unlock()
		e.turn <- struct{}{}
		k.mu.Lock()
		e.since = since
		k.mu.Unlock()
	}
	return func() {
		<-e.turn
		k.mu.Lock()
		defer k.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(k.m, key)
		}
	}
}

// since returns when the holder of the key began to wait for it.
func (k *keyedMutex) since(key string) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.m[key]; e != nil {
		return e.since
	}
	return time.Now()
}

// checkAtOnce is how many parts are checked under one hold of the Store's lock.
const checkAtOnce = 2048

// checkLarge checks a content of very many parts before its commit has the lock of
// the Store for itself, some parts at a time, so that others wait for none of it.
// What changes meanwhile is checked once more under the lock.
func (s *Store) checkLarge(c *record.Content, old []exposition.Part) (*merge.Precheck, error) {
	if len(c.Parts) <= checkAtOnce {
		return nil, nil
	}
	s.mu.Lock()
	done := s.merge.Precheck()
	s.mu.Unlock()
	for parts := range slices.Chunk(c.Parts, checkAtOnce) {
		s.mu.Lock()
		x := s.merge.CheckEarly(c.File.ID(), parts, old)
		s.mu.Unlock()
		if x != nil {
			return nil, x
		}
	}
	return done, nil
}

// forgetLarge forgets what checkLarge has made for a content that is not going to
// be merged.
func (s *Store) forgetLarge(c *record.Content) {
	if len(c.Parts) <= checkAtOnce {
		return
	}
	for parts := range slices.Chunk(c.Parts, checkAtOnce) {
		s.mu.Lock()
		s.merge.ForgetParts(parts)
		s.mu.Unlock()
	}
}

// ErrBusy is what a commit's error wraps when another process held the lock of
// the spool for too long, or changed the same file again and again. Nothing was
// changed.
var ErrBusy = disk.ErrBusy

// ErrInDoubt is what a commit's error wraps when the change was made but the
// directory could not be flushed: the change is visible, and whether it
// survives a power cut is not known. Doing it again is safe.
var ErrInDoubt = errors.New("it is not known whether the change survives a power cut")

// contendedError is an ErrBusy that is not about the lock.
type contendedError string

func (r contendedError) Error() string { return string(r) }

func (r contendedError) Is(target error) bool { return target == ErrBusy }

// A rename waits while the journal of the file system is being written, and
// under load that is most of the time. So commits whose files are prepared are
// installed together: checked and renamed one after the other, and published as
// one view.

// pendingCommit is a commit whose file is written and flushed.
type pendingCommit struct {
	d         *disk.Dir
	tmp       *disk.Pending
	name      string
	old, mine *record.File // what is at the name in the view; mine is nil if somebody else's
	oldParts  []exposition.Part
	content   *record.Content
	check     bool // against the rest of the spool
	checked   *merge.Precheck
	since     time.Time // when the change began

	gone disk.OldFile  // what was at the name
	wake chan struct{} // told once: installed, or to install what is queued
	done bool          // installed or refused; of whoever installs, then of its own commit
	err  error
}

// commitQueue is the queue of prepared commits. Whoever finds nobody at work installs
// what is queued, his own first, and hands what has come since, or was left, to the
// first in the queue. The others sleep until they are done: for each to come and
// see under a mutex would take a change of threads for each.
type commitQueue struct {
	mu    sync.Mutex
	queue []*pendingCommit
	busy  bool
}

// join queues a commit and returns when it is done or has to install.
func (t *commitQueue) join(p *pendingCommit) {
	p.wake = make(chan struct{}, 1)
	t.mu.Lock()
	t.queue = append(t.queue, p)
	wait := t.busy
	t.busy = true
	t.mu.Unlock()
	if wait {
		<-p.wake
	}
}

func (t *commitQueue) next() []*pendingCommit {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch := t.queue
	t.queue = nil
	return batch
}

// requeue queues what is not done yet before what came since.
func (t *commitQueue) requeue(left []*pendingCommit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(left, t.queue...)
}

// pass hands the turn to the first in the queue.
func (t *commitQueue) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.busy = false
		return
	}
	t.queue[0].wake <- struct{}{}
}

// install makes a prepared file the group's, if it may be, and publishes it.
func (s *Store) install(p *pendingCommit) error {
	s.queue.join(p)
	if p.done {
		return p.err
	}
	defer s.queue.pass()
	s.installQueued(p)
	return p.err
}

// installQueued installs what is queued, of which our own comes first and is done
// in any case. Another process is waited for before the queue is taken, so what
// comes meanwhile shares the wait.
func (s *Store) installQueued(own *pendingCommit) {
	var batch []*pendingCommit
	var ended bool
	defer func() {
		if batch == nil {
			batch = s.queue.next()
		}
		var left []*pendingCommit
		for _, p := range batch {
			if !ended && !p.done { // a panic
				p.done, p.err = true, disk.ErrRetry
			}
			switch {
			case !p.done:
				left = append(left, p)
			case p != own:
				p.wake <- struct{}{}
			}
		}
		s.queue.requeue(left)
	}()
	h, err := s.exclusion.Exclude(own.d, own.since)
	batch = s.queue.next()
	if err != nil {
		for _, p := range batch {
			if p == own || p.d == own.d && (!errors.Is(err, ErrBusy) || s.exclusion.SharedFailure(p.since)) {
				p.done, p.err = true, err
			}
		}
	} else {
		defer h.Release()
		s.installAll(batch)
	}
	ended = true
}

// installAll installs what of the batch does not touch each other. The rest is
// for another turn. No other change is under way.
func (s *Store) installAll(batch []*pendingCommit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := batch[0].d
	if d.CheckPath() != nil {
		for _, p := range batch {
			if p.d == d {
				p.done, p.err = true, disk.ErrReplaced
			}
		}
		return
	}

	var fits []*pendingCommit
	seen := merge.NewBatch()
	for _, p := range batch {
		if p.d != d {
			continue
		}
		// A large one is installed alone, so that the others wait for it no longer than they must.
		large := len(p.content.Parts) > checkAtOnce
		if large && len(fits) > 0 || len(batch) > 1 && seen.Overlaps(p.content) {
			continue
		}
		if p.err = s.checkInstall(p, fits); p.err == nil {
			fits = append(fits, p)
		} else {
			p.done = true
		}
		if large {
			break
		}
	}
	s.renameAll(fits)

	updates := make([]merge.Update, 0, len(fits))
	for _, p := range fits {
		if p.err == nil {
			updates = append(updates, merge.Update{Old: p.old, OldParts: p.oldParts, New: p.content})
		}
	}
	if len(updates) > 0 {
		s.publish(updates)
	}
	for _, p := range fits {
		p.done = true
	}
}

// renameAll puts the files in their places. One after the other: side by side they
// would wait for each other, and what takes long, to free what they replace, is put
// off.
func (s *Store) renameAll(fits []*pendingCommit) {
	for _, p := range fits {
		var st unix.Stat_t
		st, p.gone, p.err = p.tmp.Install(p.name)
		p.content.File.Stamped(stampOf(&st))
	}
}

// checkInstall decides, under the lock of the Store and the one between processes,
// whether a prepared file may be renamed to its name, beside those that are
// going to be installed with it.
func (s *Store) checkInstall(p *pendingCommit, with []*pendingCommit) error {
	if s.merge.File(p.name) != p.old {
		return disk.ErrRetry
	}
	at, _, err := statIn(p.d, p.name)
	switch {
	case errors.Is(err, unix.ENOENT):
		if p.old != nil {
			return disk.ErrRetry
		}
	case err == nil && s.reader.isBad(p.name, at):
		// What is there is half-written or broken just now. The group is what was
		// good last, and that is what this commit builds on.
	case err == nil && p.old == nil, err == nil && p.old.Stamp().Ino != 0 && record.WithoutYoung(p.old.Stamp()) != record.WithoutYoung(at):
		return disk.ErrRetry
	}
	if err := s.roomFor(p, with); err != nil {
		return err
	}
	if s.opts.Only == nil && !s.merge.MayHaveHelp(p.content, p.mine) {
		return disk.ErrRetry
	}
	if p.check && !s.opts.Unchecked {
		if x := s.merge.Check(p.content, p.oldParts, p.checked); x != nil {
			return x
		}
	}
	return nil
}
