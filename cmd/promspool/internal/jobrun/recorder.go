package jobrun

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest/job"
)

// endFactor multiplies the timeout after the command has ended. It is small, because
// a slow disk must not hold up the job.
const endFactor = 2

var errSlow = errors.New("the spool does not answer in time: its disk is slow or another process holds its lock; promspool doctor shows which")

// A recorder writes the record of one run: into the spool, or to a URL and, where
// that does not answer, into the spool.
type recorder struct {
	*Config
	id      string
	remote  *remoteRecord    // nil without a URL
	hanging bool             // an operation has timed out and is still running
	lock    *filestore.Lock  // nil without one
	store   *filestore.Store // of the lock
	gone    []string         // runs that had it before
	local   bool             // the start is in the spool, or may be
}

func newRecorder(c *Config) *recorder {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	rec := &recorder{Config: c, id: hex.EncodeToString(id[:])}
	if c.Remote != nil {
		rec.remote = newRemoteRecord(*c.Remote, c.Group)
	}
	return rec
}

// within calls do, which may hang, and returns without it after a timeout. do must
// not use shared data: it may still be running afterwards.
func within[T any](rec *recorder, timeout time.Duration, do func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-timer.C:
		rec.hanging = true
		var none T
		return none, errSlow
	}
}

// inSpool does something with a store that knows of the job's group alone, or of
// the whole spool.
func (rec *recorder) inSpool(timeout time.Duration, all bool, do func(*filestore.Store) error) error {
	_, err := within(rec, timeout, func() (struct{}, error) {
		store, err := rec.Open(all)
		if err != nil {
			return struct{}{}, err
		}
		defer store.Close() //nolint:errcheck // nothing to lose
		return struct{}{}, do(store)
	})
	return err
}

// takeLock takes the lock of the job, alone or, if how is empty, shared with
// others who take it so. Without a lock the run is recorded as well, but that it
// was lost is seen only after the next boot.
func (rec *recorder) takeLock(how string) error {
	type taken struct {
		store *filestore.Store
		lock  *filestore.Lock
		gone  []string
	}
	for {
		t, err := within(rec, rec.RecordTimeout, func() (t taken, err error) {
			if t.store, err = rec.Open(false); err == nil {
				t.lock, t.gone, err = job.Lock(t.store, rec.Group, how == "")
			}
			return t, err
		})
		rec.store, rec.lock, rec.gone = t.store, t.lock, t.gone
		switch {
		case how == "" && errors.Is(err, filestore.ErrLocked):
			return nil // an exclusive lock of another run, and none was requested
		case how != "wait" || !errors.Is(err, filestore.ErrLocked):
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// inheritance returns a descriptor of the lock for the command to inherit. So the
// lock is held as long as the command runs, even if promspool is killed. Its
// number is high, to keep low ones free. It returns nil without a lock.
func (rec *recorder) inheritance() *os.File {
	if rec.lock == nil {
		return nil
	}
	for _, from := range [...]int{100, 10} {
		if fd, err := unix.FcntlInt(rec.lock.File().Fd(), unix.F_DUPFD, from); err == nil {
			return os.NewFile(uintptr(fd), "lock")
		}
	}
	return nil
}

func (rec *recorder) release(clean bool) {
	if rec.lock != nil {
		_, _ = within(rec, rec.RecordTimeout, func() (struct{}, error) {
			job.Release(rec.store, rec.Group, rec.lock, clean && !rec.hanging)
			return struct{}{}, nil
		})
	}
}

// begin records the start.
func (rec *recorder) begin(at time.Time) error {
	start := job.Start{ID: rec.id, At: at, Boot: rec.Boot, Expect: rec.Expect}
	if rec.lock != nil {
		start.Locked, start.Gone = true, rec.gone
	}
	var remote error
	if rec.remote != nil {
		if remote = rec.remote.amend(rec.RecordTimeout, nil, func(r *job.Record) { r.Begin(start) }); remote == nil {
			return nil
		}
	}
	if rec.hanging {
		return errSlow
	}
	rec.local = true
	return joinErrors(remote, rec.inSpool(rec.RecordTimeout, false, func(s *filestore.Store) error { return job.Begin(s, rec.Group, start) }))
}

// skip records that the run did not start.
func (rec *recorder) skip(at time.Time) error {
	var remote error
	if rec.remote != nil {
		if remote = rec.remote.amend(endFactor*rec.RecordTimeout, nil, func(r *job.Record) { r.Skip(at) }); remote == nil {
			return nil
		}
	}
	return joinErrors(remote, rec.inSpool(rec.RecordTimeout, false, func(s *filestore.Store) error { return job.Skip(s, rec.Group, at) }))
}

// finish records the end. Refused is why that was done without the metrics of the
// command's own.
func (rec *recorder) finish(end job.End) (refused, err error) {
	end.ID, end.Expect = rec.id, rec.Expect
	var remote error
	if rec.remote != nil {
		remote = rec.remote.amend(endFactor*rec.RecordTimeout, end.Own, func(r *job.Record) { r.Finish(end) })
		if remote == nil && !rec.local {
			return nil, nil
		}
	}
	if remote == nil && rec.remote != nil {
		end.Own = nil // they are there
	}
	if len(end.Own) > 0 {
		err = rec.inSpool(endFactor*rec.RecordTimeout, true, func(s *filestore.Store) error {
			err := job.Finish(s, rec.Group, end)
			if isRefusal(err) {
				err = errors.Join(err, s.Fail(rec.Group))
			}
			return err
		})
		if !isRefusal(err) {
			return nil, joinErrors(remote, err)
		}
		refused, end.Own = err, nil
	}
	return refused, joinErrors(remote, rec.inSpool(endFactor*rec.RecordTimeout, false, func(s *filestore.Store) error { return job.Finish(s, rec.Group, end) }))
}

// isRefusal reports whether metrics were rejected because of their content.
func isRefusal(err error) bool {
	var conflict *record.Conflict
	var bad *exposition.SyntaxError
	return errors.As(err, &conflict) || errors.As(err, &bad)
}

// joinErrors adds the error of the URL to an error of the spool. If the spool has the
// record, the error of the URL does not matter.
func joinErrors(remote, spool error) error {
	if spool == nil || remote == nil {
		return spool
	}
	return fmt.Errorf("%w; %w", remote, spool)
}
