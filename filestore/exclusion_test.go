package filestore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

// lockedSpool returns a store with some groups. Another open file has its lock, as in
// another process.
func lockedSpool(t *testing.T, dir string) (s *filestore.Store, other *os.File) {
	t.Helper()
	s = must1(filestore.Open(dir, nil))
	for i := range 4 {
		must(t, s.Replace(group(t, "job", fmt.Sprint("old", i)), families(t, "m 1\n"), record.PushOptions{}))
	}
	must(t, s.Drop("dropped", []byte("d 1\n"), false))
	other = must1(os.OpenFile(filepath.Join(dir, spoolLock), unix.O_NONBLOCK, 0))
	must(t, unix.Flock(int(other.Fd()), unix.LOCK_EX))
	return s, other
}

// changesOf lists changes of each kind, several of one group.
func changesOf(t *testing.T, s *filestore.Store) []func() error {
	var changes []func() error
	for i := range 8 {
		g := group(t, "job", fmt.Sprint("new", i/2))
		changes = append(changes, func() error {
			return s.Replace(g, families(t, "m 2\n"), record.PushOptions{})
		})
	}
	return append(changes,
		func() error { return s.Update(group(t, "job", "old0"), families(t, "m 2\n"), record.PushOptions{}) },
		func() error { return s.Fail(group(t, "job", "old0")) },
		func() error { return s.Delete(group(t, "job", "old1")) },
		func() error { return s.Delete(group(t, "job", "old2")) },
		func() error { return s.Amend(group(t, "job", "old3"), addOne(t)) },
		func() error {
			return s.Import(group(t, "job", "imported"), families(t, "m 2\n"), record.ImportOptions{})
		},
		func() error { return s.Drop("dropped", []byte("d 2\n"), false) },
		func() error { return s.Drop("another", []byte("e 2\n"), false) },
		s.Wipe,
		func() error { _, err := s.Remove(func(*record.File) bool { return true }); return err },
	)
}

// TestChangesShareOneWait keeps the lock of the spool in another process. The clock of
// the bubble advances only when every goroutine waits for it, so a change that waited
// under a lock of the Store would hang the test.
func TestChangesShareOneWait(t *testing.T) {
	dir, source := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(source, "b.prom"), []byte("b 1\n"), 0o644))
	synctest.Test(t, func(t *testing.T) {
		s, other := lockedSpool(t, dir)
		defer s.Close()
		defer other.Close()
		src := s.AddSource(source)
		for round := range 3 {
			start := time.Now()
			var work sync.WaitGroup
			for i, change := range changesOf(t, s) {
				work.Go(func() {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond) // some start while others wait
					if err := change(); !errors.Is(err, filestore.ErrBusy) {
						t.Errorf("change %d = %v, want ErrBusy", i, err)
					}
					if took := time.Since(start); took > 6*time.Second {
						t.Errorf("change %d took until %v, want that all share one wait", i, took)
					}
				})
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			// All changes wait now. Reads must not.
			at := time.Now()
			must(t, os.WriteFile(filepath.Join(dir, "dropped.prom"), fmt.Appendf(nil, "d %d\n", 10+round), 0o644))
			must1(s.Reload("dropped.prom"))
			must1(s.Rescan())
			must1(src.Rescan())
			must(t, s.Health())
			_, _, err := s.Space()
			must(t, err)
			if text := string(s.View().AppendTo(nil)); !strings.Contains(text, fmt.Sprintf("\nd %d\n", 10+round)) || !strings.Contains(text, "\nb 1\n") || !strings.Contains(text, `m{job="old1"} 1`) {
				t.Errorf("the view has\n%s", text)
			}
			if took := time.Since(at); took > 0 {
				t.Errorf("reads waited for %v", took)
			}
			work.Wait()
		}
		must(t, unix.Flock(int(other.Fd()), unix.LOCK_UN))
		for i, change := range changesOf(t, s) {
			if err := change(); err != nil {
				t.Errorf("change %d after the lock is free: %v", i, err)
			}
		}
	})
}

// TestFirstLoadHoldsNoLock changes a store while its first files are being read.
func TestFirstLoadHoldsNoLock(t *testing.T) {
	g := group(t, "job", "a")
	for name, tt := range map[string]struct {
		meanwhile func(t *testing.T, s *filestore.Store)
		want      string
	}{
		"no change": {func(*testing.T, *filestore.Store) {}, "d 1\n"},
		"a push": {func(t *testing.T, s *filestore.Store) {
			must(t, s.Replace(g, families(t, "m 1\n"), record.PushOptions{}))
		}, "d 1\nm{job=\"a\"} 1\n"},
		"another file of that name": {func(t *testing.T, s *filestore.Store) {
			must(t, s.Drop("d", []byte("d 2\n"), false))
		}, "d 2\n"},
		"a deletion": {func(t *testing.T, s *filestore.Store) {
			must(t, s.Drop("d", []byte("d 2\n"), false))
			if removed := must1(s.Remove(func(*record.File) bool { return true })); len(removed) != 1 {
				t.Errorf("removed %q", names(removed))
			}
		}, ""},
		"another load": {func(t *testing.T, s *filestore.Store) { must1(s.Rescan()) }, "d 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var armed atomic.Bool
			reading, resume := make(chan struct{}), make(chan struct{})
			s := open(t, dir, &filestore.Options{Now: func() time.Time {
				if armed.CompareAndSwap(true, false) { // the load is the first to read the clock
					close(reading)
					<-resume
				}
				return time.Now()
			}})
			must(t, os.WriteFile(filepath.Join(dir, "d.prom"), []byte("d 1\n"), 0o644))
			must(t, os.Chtimes(filepath.Join(dir, "d.prom"), time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)))
			armed.Store(true)
			loaded, changed := make(chan error, 1), make(chan struct{})
			go func() {
				_, err := s.Rescan()
				loaded <- err
			}()
			<-reading
			go func() {
				defer close(changed)
				tt.meanwhile(t, s)
			}()
			select {
			case <-changed:
			case <-time.After(time.Minute):
				t.Error("a change waits for the read of the files")
			}
			close(resume)
			must(t, <-loaded)
			<-changed
			want(t, s, tt.want)
		})
	}
}
