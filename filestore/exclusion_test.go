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

// lockedSpool is a store with some groups whose lock another process has, by a
// description of its own.
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

// changesOf lists a change of each kind. Several are of one group.
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

// TestChangesShareOneWait has another process hold the lock of the spool for ever.
// The clock of the bubble goes on only when every goroutine waits for it, so a
// change that waited under a lock of the Store would hang the test.
func TestChangesShareOneWait(t *testing.T) {
	dir, beside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(beside, "b.prom"), []byte("b 1\n"), 0o644))
	synctest.Test(t, func(t *testing.T) {
		s, other := lockedSpool(t, dir)
		defer s.Close()
		defer other.Close()
		src := s.AddSource(beside)
		for round := range 3 {
			start := time.Now()
			var work sync.WaitGroup
			for i, change := range changesOf(t, s) {
				work.Go(func() {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond) // some come while others wait
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
			// All who wait do so now. Readers do not.
			at := time.Now()
			must(t, os.WriteFile(filepath.Join(dir, "dropped.prom"), fmt.Appendf(nil, "d %d\n", 10+round), 0o644))
			must1(s.Reload("dropped.prom"))
			must1(s.Rescan())
			must1(src.Rescan())
			must(t, s.Health())
			_, _, err := s.Space()
			must(t, err)
			if text := string(s.View().AppendTo(nil)); !strings.Contains(text, fmt.Sprintf("\nd %d\n", 10+round)) || !strings.Contains(text, "\nb 1\n") || !strings.Contains(text, `m{job="old1"} 1`) {
				t.Errorf("served is\n%s", text)
			}
			if took := time.Since(at); took > 0 {
				t.Errorf("readers waited for %v", took)
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

// TestTheFirstLoadHoldsNoLock changes a store while its first files are being read.
func TestTheFirstLoadHoldsNoLock(t *testing.T) {
	g := group(t, "job", "a")
	for name, tt := range map[string]struct {
		meanwhile func(t *testing.T, s *filestore.Store)
		want      string
	}{
		"nothing else": {func(*testing.T, *filestore.Store) {}, "d 1\n"},
		"a push": {func(t *testing.T, s *filestore.Store) {
			must(t, s.Replace(g, families(t, "m 1\n"), record.PushOptions{}))
		}, "d 1\nm{job=\"a\"} 1\n"},
		"another file of that name": {func(t *testing.T, s *filestore.Store) {
			must(t, s.Drop("d", []byte("d 2\n"), false))
		}, "d 2\n"},
		"a removal": {func(t *testing.T, s *filestore.Store) {
			must(t, s.Drop("d", []byte("d 2\n"), false))
			if gone := must1(s.Remove(func(*record.File) bool { return true })); len(gone) != 1 {
				t.Errorf("removed %q", names(gone))
			}
		}, ""},
		"a load of its own": {func(t *testing.T, s *filestore.Store) { must1(s.Rescan()) }, "d 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var armed atomic.Bool
			reading, goOn := make(chan struct{}), make(chan struct{})
			s := open(t, dir, &filestore.Options{Now: func() time.Time {
				if armed.CompareAndSwap(true, false) { // the first look at the clock is that of the load
					close(reading)
					<-goOn
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
				t.Error("a change waits for the files that are being read")
			}
			close(goOn)
			must(t, <-loaded)
			<-changed
			want(t, s, tt.want)
		})
	}
}
