package filestore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// entries lists a directory with hidden files, but without the lock of a spool.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range list {
		if e.Name() != spoolLock {
			all = append(all, e.Name())
		}
	}
	return all
}

func wantContent(t *testing.T, path, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	if string(data) != text {
		t.Errorf("%s has %q, want %q", path, data, text)
	}
}

func TestDropStoresBytesUnchanged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	const text = "# a comment\n\nz { b=\"2\", a=\"1\" } 1.0 \r\n"
	must(t, s.Drop("mine", []byte(text), false))
	wantContent(t, filepath.Join(dir, "mine.prom"), text)
	want(t, s, "z{a=\"1\",b=\"2\"} 1\n")
	fi, err := os.Stat(filepath.Join(dir, "mine.prom"))
	must(t, err)
	if fi.Mode() != 0o644 {
		t.Errorf("mode %v, want 0644", fi.Mode())
	}
	f := s.View().File("mine.prom")
	if !f.ModTime().Equal(fi.ModTime()) || f.Size() != int64(len(text)) || !f.Group().IsZero() {
		t.Errorf("the view has %v, %d bytes, group %v", f.ModTime(), f.Size(), f.Group())
	}
	must(t, s.Drop("mine.prom", []byte("z 2\n"), false)) // no conflict with itself
	want(t, s, "z 2\n")
	must(t, s.Drop("mine", nil, false))
	want(t, s, "")
	if got := entries(t, dir); !slices.Equal(got, []string{"mine.prom"}) {
		t.Errorf("the spool has %q", got)
	}
}

func TestRejectedDropKeepsFile(t *testing.T) {
	dir := t.TempDir()
	opts := &filestore.Options{MaxFileBytes: 1000, Own: map[string]merge.Own{"go_info": {Type: exposition.Gauge}}}
	s := open(t, dir, opts)
	must(t, s.Replace(group(t, "job", "a"), families(t, "# TYPE pushed gauge\npushed 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"), record.PushOptions{}))
	must(t, s.Drop("other", []byte("# TYPE c counter\nc{x=\"1\"} 1\n"), false))
	must(t, s.Drop("mine", []byte("m 1\n"), false))
	for _, tt := range []struct {
		name, text string
		reason     exposition.Reason
		line       int
		kept       string
		forced     bool
	}{
		{"invalid", "m 1\nno metric\n", exposition.Syntax, 2, "", false},
		{"incomplete", "m 1\nn 2", exposition.Incomplete, 2, "", false},
		{"timestamp", "m 1 1700000000000\n", exposition.Timestamp, 1, "", false},
		{"not text", "\x1f\x8b\x08", exposition.Encoding, 1, "", false},
		{"too large", strings.Repeat("# filler\n", 200), exposition.TooLarge, 0, "", false},
		{"conflicts with itself", "m 1\nm 2\n", exposition.Duplicate, 2, "", true},
		{"type of a group's", "# TYPE pushed counter\npushed{a=\"b\"} 1\n", exposition.TypeConflict, 0, "job=a.prom", true},
		{"part of a group's", "h_count{a=\"b\"} 1\n", exposition.Duplicate, 0, "job=a.prom", true},
		{"series of a file's", "# TYPE c counter\nc{x=\"1\"} 2\n", exposition.Duplicate, 0, "other.prom", true},
		{"equal series of a file's", "# TYPE c counter\nc{x=\"1\"} 1\n", exposition.Duplicate, 0, "other.prom", true},
		{"the agent's", "# TYPE go_info gauge\ngo_info 1\n", exposition.Reserved, 0, "", true},
		{"reserved", "promspool_x 1\n", exposition.Reserved, 0, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := samples(s.View())
			err := s.Drop("mine", []byte(tt.text), false)
			var bad *exposition.SyntaxError
			var conflict *record.Conflict
			switch {
			case errors.As(err, &bad):
				if bad.Reason != tt.reason || bad.Line != tt.line || bad.File != "mine.prom" {
					t.Errorf("Drop = %+v", bad)
				}
			case errors.As(err, &conflict):
				if conflict.Reason != tt.reason || conflict.Kept != tt.kept || conflict.File != "mine.prom" || tt.line != 0 {
					t.Errorf("Drop = %+v", conflict)
				}
			default:
				t.Fatalf("Drop = %v", err)
			}
			wantContent(t, filepath.Join(dir, "mine.prom"), "m 1\n")
			if got := samples(s.View()); got != before {
				t.Errorf("served:\n%s\nbefore:\n%s", got, before)
			}
			if got := entries(t, dir); len(got) != 3 {
				t.Errorf("the spool has %q", got)
			}
			if err := s.Drop("mine", []byte(tt.text), true); (err == nil) != tt.forced {
				t.Errorf("forced: %v", err)
			}
			must(t, s.Drop("mine", []byte("m 1\n"), false))
		})
	}
}

func TestDropNames(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	for _, name := range []string{"", ".prom", ".hidden", "a/b", "/a", "..", "../a", "job=a", "job=a.prom", "JOB=a", "a\nb", "a\x00b", "\xff", strings.Repeat("x", 251)} {
		if err := s.Drop(name, []byte("m 1\n"), true); err == nil {
			t.Errorf("Drop(%q) = nil", name)
		}
	}
	for _, name := range []string{"a", "a.prom", "a.prom.prom", "my job", "jobs", "é", strings.Repeat("x", 180)} {
		must(t, s.Drop(name, nil, false))
		if file, err := filestore.DroppedName(name); err != nil || s.View().File(file) == nil {
			t.Errorf("%q is not served as %q, %v", name, file, err)
		}
	}
}

func TestDropReplacesLink(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
	must(t, os.WriteFile(target, []byte("m 1\n"), 0o644))
	must(t, os.Symlink(target, filepath.Join(dir, "mine.prom")))
	must(t, os.Mkdir(filepath.Join(dir, "dir.prom"), 0o755))
	s := open(t, dir, nil)
	must(t, s.Drop("mine", []byte("m 2\n"), false))
	wantContent(t, target, "m 1\n")
	wantContent(t, filepath.Join(dir, "mine.prom"), "m 2\n")
	if err := s.Drop("dir", []byte("n 2\n"), false); err == nil {
		t.Error("a directory was replaced")
	}
	want(t, s, "m 2\n")
	must(t, os.Remove(filepath.Join(dir, "dir.prom")))
}

// TestDropToTwoStores drops files to two stores on one directory. No notification
// connects them.
func TestDropToTwoStores(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir, nil), open(t, dir, nil)
	var all sync.WaitGroup
	for i := range 40 {
		s := []*filestore.Store{a, b}[i%2]
		all.Go(func() {
			text := fmt.Appendf(nil, "m{by=\"%d\"} %d\n", i%10, i)
			if err := s.Drop(fmt.Sprint("file", i%10), text, false); err != nil {
				t.Error(err)
			}
			if !strings.Contains(samples(s.View()), fmt.Sprintf("m{by=\"%d\"}", i%10)) {
				t.Errorf("file%d is not in the view", i%10)
			}
		})
	}
	all.Wait()
	if got := entries(t, dir); len(got) != 10 {
		t.Errorf("the spool has %q", got)
	}
}

func TestDropFollowsAReplacedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.Mkdir(dir, 0o755))
	s := open(t, dir, nil)
	must(t, os.Rename(dir, dir+".old"))
	if err := s.Drop("mine", []byte("m 1\n"), false); err == nil {
		t.Error("Drop into a deleted directory = nil")
	}
	must(t, os.Mkdir(dir, 0o755))
	must(t, s.Drop("mine", []byte("m 1\n"), false))
	wantContent(t, filepath.Join(dir, "mine.prom"), "m 1\n")
	if got := entries(t, dir+".old"); len(got) != 0 {
		t.Errorf("the old directory has %q", got)
	}
}

func TestSweepAfterDrop(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, ".job=mine.prom123"), []byte("m 1\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, ".mine.prom123"), nil, 0o644))
	open(t, dir, nil)
	if got := entries(t, dir); !slices.Equal(got, []string{".mine.prom123"}) {
		t.Errorf("the spool has %q, want only the file of another program", got)
	}
}
