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

// pendingSync is a change that is in the View and may not be on disk yet. The
// directory is acquired until syncDirectory.
type pendingSync struct {
	d   *disk.Dir
	old disk.OldFile
}

// inSpool makes a change in the directory of the spool. It calls try until that
// succeeds or fails for good. After disk.ErrReplaced it opens the path of the spool
// again, and after disk.ErrRetry it reads the files with these names again. It
// acquires the directory, and try releases it.
func (s *Store) inSpool(names []string, try func(d *disk.Dir) error) error {
	var giveUp time.Time
	for attempt := 0; ; attempt++ {
		if attempt == 3 {
			giveUp = time.Now().Add(commitTimeout)
		} else if attempt > 3 {
			if time.Now().After(giveUp) {
				return contendedError("the file changes too often: another process writes to it continuously")
			}
			// Wait for the writer. If it never pauses, a change between two of its own
			// takes many attempts.
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

// commitTimeout is how long a change is retried while other processes change the same
// file.
const commitTimeout = 10 * time.Second

// commit writes the content that plan returns for the current content of the group.
// The file is encoded, written and synced outside of all locks that other groups need.
// The check, the rename and the new view happen under Store.mu. The steps are plan,
// prepare, queue (install), check (checkInstall), rename, publish.
//
// The caller must call syncDirectory with the result.
func (s *Store) commit(g grouping.Key, check bool, plan func(old *record.Content) (*record.Content, error)) (at pendingSync, err error) {
	name := g.FileName()
	since := s.groups.since(name)
	err = s.inSpool([]string{name}, func(d *disk.Dir) (err error) {
		at, err = s.try(d, name, since, check, plan)
		return err
	})
	return at, err
}

// try is one attempt of commit, in an acquired directory. It releases the directory
// unless it succeeds. disk.ErrRetry and disk.ErrReplaced request another attempt.
func (s *Store) try(d *disk.Dir, name string, since time.Time, check bool, plan func(old *record.Content) (*record.Content, error)) (at pendingSync, err error) {
	p := &pendingCommit{d: d, name: name, check: check, since: since}
	defer func() {
		if at.d != nil {
			return
		}
		// Also after a panic.
		if p.tmp != nil {
			p.tmp.Discard()
		}
		p.replaced.Release()()
		d.Release()
	}()
	// Reading the view needs no lock. checkInstall verifies under the lock that the
	// file has not changed since.
	v := s.View()
	old := v.File(name)
	var oldParts []exposition.Part
	if old != nil {
		oldParts = v.Parts(old)
	}
	mine := old
	if old != nil && old.Group().IsZero() {
		mine = nil // a dropped file with the name of the group is replaced
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
		if at.d != nil || err != nil { // not a panic
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
		if err := d.CheckPath(); err != nil { // not a fault of the disk
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
		return pendingSync{d, p.replaced}, nil
	case errors.Is(err, fs.ErrNotExist):
		err = disk.ErrRetry // the temporary file was deleted
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("the file %q is owned by another user and the directory is sticky: %w", name, unix.EPERM)
	}
	return pendingSync{}, err
}

// ErrFull is wrapped by the error of a push if the spool's own limit is reached.
var ErrFull = errors.New("the limit of the spool is reached")

// keyedMutex has a mutex for each key in use.
type keyedMutex struct {
	mu sync.Mutex
	m  map[string]*keyed
}

type keyed struct {
	turn  chan struct{} // full while the key is locked
	users int           // guarded by keyedMutex.mu
	since time.Time     // when the current holder began to wait; guarded by keyedMutex.mu
}

// lock locks the key and returns a function that unlocks it.
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

// checkLarge checks a content of very many parts before its commit, some parts at a
// time, so other commits do not wait for all of them. The commit checks changes since
// then again.
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

// forgetLarge deletes the families that checkLarge has added, for a content that will
// not be merged.
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

// ErrBusy is wrapped by the error of a commit if another process held the lock of the
// spool for too long, or kept changing the same file. Nothing was changed.
var ErrBusy = disk.ErrBusy

// ErrInDoubt is wrapped by the error of a commit if the fsync of the directory failed
// after the change. The change is visible and may be lost in a power cut. It is safe
// to repeat it.
var ErrInDoubt = errors.New("it is not known whether the change survives a power cut")

// contendedError is an ErrBusy with a cause other than the lock.
type contendedError string

func (r contendedError) Error() string { return string(r) }

func (r contendedError) Is(target error) bool { return target == ErrBusy }

// A rename waits while the file system writes its journal, which is most of the time
// under load. So prepared commits are installed in batches: they are checked and
// renamed one after the other, and published as one view.

// pendingCommit is a commit whose file is written and synced.
type pendingCommit struct {
	d         *disk.Dir
	tmp       *disk.Pending
	name      string
	old, mine *record.File // the file of that name in the view; mine is nil if it is not the group's
	oldParts  []exposition.Part
	content   *record.Content
	check     bool // for conflicts with other files
	checked   *merge.Precheck
	since     time.Time // when the change began

	replaced disk.OldFile  // the replaced file
	wake     chan struct{} // gets one value: done, or the turn to install
	done     bool          // installed or rejected; owned by the installer until wake
	err      error
}

// commitQueue is the queue of prepared commits. One commit at a time has the turn: it
// installs the queued commits, its own first, and passes the turn to the first of the
// remaining ones. The others sleep until they are done. With a mutex each of them
// would need a thread switch.
type commitQueue struct {
	mu    sync.Mutex
	queue []*pendingCommit
	busy  bool
}

// join queues a commit and returns when it is done or has the turn.
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

// requeue puts unfinished commits back, before newer ones.
func (t *commitQueue) requeue(left []*pendingCommit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(left, t.queue...)
}

// pass passes the turn to the first commit in the queue.
func (t *commitQueue) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.busy = false
		return
	}
	t.queue[0].wake <- struct{}{}
}

// install checks, renames and publishes a prepared commit.
func (s *Store) install(p *pendingCommit) error {
	s.queue.join(p)
	if p.done {
		return p.err
	}
	defer s.queue.pass()
	s.installQueued(p)
	return p.err
}

// installQueued installs the queued commits. own is the first and always done
// afterwards. It waits for other processes before it takes the queue, so commits that
// arrive meanwhile share the wait.
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

// installAll installs the commits of the batch that do not overlap. The others need
// another turn. No other change is in progress.
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
		// A large commit is installed alone, to limit the wait of the others.
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

// renameAll renames the files one after the other. Parallel renames would wait for each
// other. Freeing the replaced files, which takes long, is deferred.
func (s *Store) renameAll(fits []*pendingCommit) {
	for _, p := range fits {
		var st unix.Stat_t
		st, p.replaced, p.err = p.tmp.Install(p.name)
		p.content.File.Stamped(stampOf(&st))
	}
}

// checkInstall checks whether a prepared file may be renamed, together with those that
// are installed with it. The caller holds Store.mu and the lock between processes.
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
		// The file is half-written or corrupt. The commit builds on the last good
		// content.
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
