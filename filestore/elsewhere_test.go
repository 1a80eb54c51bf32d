package filestore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

// TestChangesFollowTheDirectory replaces the spool directory in the middle of a change.
// The group's file was touched before, so the change reads it and asks for the time.
// That call replaces the directory.
func TestChangesFollowTheDirectory(t *testing.T) {
	g := group(t, "job", "a")
	for name, tt := range map[string]struct {
		change func(s *filestore.Store) error
		want   string
	}{
		"PUT": {func(s *filestore.Store) error {
			return s.Replace(g, families(t, "m 7\n"), record.PushOptions{})
		}, "m{job=\"a\"} 7\nm{job=\"b\"} 2\n"},
		"DELETE": {func(s *filestore.Store) error { return s.Delete(g) }, "m{job=\"b\"} 2\n"},
		"wipe":   {func(s *filestore.Store) error { return s.Wipe() }, ""},
		"remove": {func(s *filestore.Store) error {
			removed, err := s.Remove(matching(t, `job="a"`).Has)
			if n := len(removed); n != 1 {
				t.Errorf("removed %d files, want 1", n)
			}
			return err
		}, "m{job=\"b\"} 2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			dir, next := filepath.Join(top, "spool"), filepath.Join(top, "next")
			for i, d := range []string{dir, next} {
				must(t, os.Mkdir(d, 0o755))
				s := must1(filestore.Open(d, nil))
				for _, job := range []string{"a", "b"} {
					must(t, s.Replace(group(t, "job", job), families(t, fmt.Sprintf("m %d\n", i+1)), record.PushOptions{}))
				}
				must(t, s.Close())
			}
			var armed atomic.Bool
			s := open(t, dir, &filestore.Options{Now: func() time.Time {
				if armed.CompareAndSwap(true, false) {
					must(t, os.Rename(dir, filepath.Join(top, "before")))
					must(t, os.Rename(next, dir))
				}
				return time.Now()
			}})
			past := time.Now().Add(-time.Hour)
			must(t, os.Chtimes(filepath.Join(dir, g.FileName()), past, past))
			armed.Store(true)
			must(t, tt.change(s))
			if armed.Load() {
				t.Error("the directory was not replaced: the test proves nothing")
			}
			want(t, s, tt.want)
		})
	}
}

// TestRemoveManyFollowsTheDirectory replaces the directory by a copy after hundreds of
// its files are deleted.
func TestRemoveManyFollowsTheDirectory(t *testing.T) {
	const groups = 600
	top := t.TempDir()
	dir, next := filepath.Join(top, "spool"), filepath.Join(top, "next")
	for _, d := range []string{dir, next} {
		must(t, os.Mkdir(d, 0o755))
		for i := range groups {
			g := group(t, "job", fmt.Sprint(i))
			must(t, os.WriteFile(filepath.Join(d, g.FileName()), fmt.Appendf(nil, "# promspool:group %s\n# TYPE m gauge\nm{job=\"%d\"} 1\n", g, i), 0o644))
		}
	}
	s := open(t, dir, nil)
	asked := 0
	removed, err := s.Remove(func(*record.File) bool {
		if asked++; asked == groups+1 { // under the lock, in the first batch
			must(t, os.Rename(dir, filepath.Join(top, "before")))
			must(t, os.Rename(next, dir))
		}
		return true
	})
	must(t, err)
	seen := map[string]bool{}
	for _, name := range names(removed) {
		if seen[name] {
			t.Errorf("%s was removed twice", name)
		}
		seen[name] = true
	}
	if len(seen) != groups {
		t.Errorf("%d groups were removed, want %d", len(seen), groups)
	}
	if left := entries(t, dir); len(left) > 0 {
		t.Errorf("%d files are left", len(left))
	}
	want(t, s, "")
}
