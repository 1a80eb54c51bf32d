package filestore

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// TestPanics panics in every function that a caller passes in and in each step of a
// change. A server recovers from that and continues, so no lock, file or use of the
// directory may remain. Only the fields of the Store show that.
func TestPanics(t *testing.T) {
	boom := func() { panic("boom") }
	for name, change := range map[string]func(s *Store, g grouping.Key){
		"plan": func(s *Store, g grouping.Key) {
			defer s.groups.lock(g.FileName())()
			_, _ = s.commit(g, true, func(*record.Content) (*record.Content, error) { boom(); return nil, nil })
		},
		"content that cannot be encoded": func(s *Store, g grouping.Key) {
			defer s.groups.lock(g.FileName())()
			_, _ = s.commit(g, true, func(*record.Content) (*record.Content, error) { return &record.Content{}, nil })
		},
		"content that cannot be merged": func(s *Store, g grouping.Key) {
			defer s.groups.lock(g.FileName())()
			_, _ = s.commit(g, false, func(old *record.Content) (*record.Content, error) {
				c := old.Rewritten()
				c.Parts = append(c.Parts, exposition.Part{})
				c.Parts[len(c.Parts)-1].Desc = c.Parts[0].Desc
				*(*unsafe.Pointer)(unsafe.Pointer(c.File)) = nil // no exported way deletes its ident
				return c, nil
			})
		},
		"a dry run": func(s *Store, g grouping.Key) {
			defer s.groups.lock(g.FileName())()
			_, _ = s.commit(g, true, func(*record.Content) (*record.Content, error) { return &record.Content{DryRun: true}, nil })
		},
		"edit": func(s *Store, g grouping.Key) {
			_ = s.Amend(g, func(*record.Held) (*record.Edit, error) { boom(); return nil, nil })
		},
		"observer of a flush": func(s *Store, g grouping.Key) {
			s.Observe(Observers{Flush: func(float64) { boom() }})
			_ = s.Replace(g, &exposition.Families{}, record.PushOptions{})
		},
		"observer of the second flush": func(s *Store, g grouping.Key) {
			n := 0
			s.Observe(Observers{Flush: func(float64) {
				if n++; n > 1 {
					boom()
				}
			}})
			_ = s.Replace(g, &exposition.Families{}, record.PushOptions{})
		},
		"observer of a commit": func(s *Store, g grouping.Key) {
			s.Observe(Observers{Commit: func(float64) { boom() }})
			_ = s.Replace(g, &exposition.Families{}, record.PushOptions{})
		},
		"the first pick": func(s *Store, _ grouping.Key) {
			_, _ = s.Remove(func(*record.File) bool { boom(); return false })
		},
		"a pick under the lock": func(s *Store, _ grouping.Key) {
			n := 0
			_, _ = s.Remove(func(*record.File) bool {
				if n++; n > 8 { // six calls come before
					boom()
				}
				return true
			})
		},
		"report of a step": func(s *Store, _ grouping.Key) {
			s.sweep(t.Context(), reading{now: time.Now().Add(time.Hour), stable: true}, func(ExpiryEvent) { boom() })
		},
		"callback under a lock": func(s *Store, g grouping.Key) { _, _ = s.Lock(g, false, boom) },
		"cleanup under a lock": func(s *Store, g grouping.Key) {
			l, err := s.Lock(g, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			l.Release(func() bool { boom(); return true })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir, &Options{Lifetimes: record.Lifetimes{Dropped: true, Retention: time.Minute}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close() //nolint:errcheck // only read
			for i := range 5 {
				if err := pushedTo(t, s, groupOf(t, fmt.Sprint("g", i)), 1); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Drop("d", []byte("# promspool:ttl 1s\nd 1\n"), false); err != nil {
				t.Fatal(err)
			}
			idle := users(s)
			g := groupOf(t, "g0")
			func() {
				defer func() {
					if recover() == nil {
						t.Error("no panic: the test proves nothing")
					}
				}()
				change(s, g)
			}()
			s.Observe(Observers{})

			done := make(chan error, 1)
			go func() {
				err := pushedTo(t, s, g, 2)
				if err == nil {
					err = s.Drop("d", []byte("d 2\n"), false)
				}
				if err == nil {
					err = s.Delete(g)
				}
				if err == nil {
					_, err = s.Rescan()
				}
				if err == nil {
					var l *Lock
					if l, err = s.Lock(g, false, nil); err == nil {
						l.Release(func() bool { return true })
					}
				}
				done <- err
			}()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("after the panic: %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("after the panic changes hang")
			}
			if n := users(s); n != idle {
				t.Errorf("the directory has %d users, want %d", n, idle)
			}
			if n := len(s.groups.m); n > 0 {
				t.Errorf("%d groups are locked", n)
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if name := e.Name(); strings.HasPrefix(name, ".") && name != disk.SpoolLock && name != ArchiveName {
					t.Errorf("%s is left in the spool", name)
				}
			}
		})
	}
}

// users returns the number of uses of the directory.
func users(s *Store) int { return s.spool.dir.Load().Users() }
