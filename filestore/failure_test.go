package filestore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// TestUnreadableDirectory expects that the view reports an unreadable directory with the
// reason, and serves nothing from it.
func TestUnreadableDirectory(t *testing.T) {
	for name, test := range map[string]struct {
		spoil, repair func(dir string) error
		want          record.DirectoryReason
		err           error
	}{
		"missing":       {os.RemoveAll, func(string) error { return nil }, record.DirectoryMissing, fs.ErrNotExist},
		"a file":        {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644)) }, os.Remove, record.DirectoryIsNone, syscall.ENOTDIR},
		"a pipe":        {func(dir string) error { return errors.Join(os.RemoveAll(dir), syscall.Mkfifo(dir, 0o644)) }, os.Remove, record.DirectoryIsNone, syscall.ENOTDIR},
		"no permission": {func(dir string) error { return os.Chmod(dir, 0) }, func(dir string) error { return os.Chmod(dir, 0o755) }, record.DirectoryUnreadable, fs.ErrPermission},
		"no permission for the parent": {
			func(dir string) error { return os.Chmod(filepath.Dir(dir), 0) },
			func(dir string) error { return os.Chmod(filepath.Dir(dir), 0o755) },
			record.DirectoryUnreadable, fs.ErrPermission,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() == 0 {
				needRoot(t, "becomes another user, whose permissions are checked") // Linux
			}
			s := open(t, t.TempDir(), nil)
			above := filepath.Join(t.TempDir(), "above")
			dir := filepath.Join(above, "textfiles")
			for up := filepath.Dir(above); up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
				if fi, err := os.Stat(up); err == nil && fi.Mode().Perm() == 0o700 {
					must(t, os.Chmod(up, 0o755)) // other users can enter
				}
			}
			src := s.AddSource(dir)
			look := func(text string, reason record.DirectoryReason, cause error) {
				t.Helper()
				var err error
				rescan := func() { _, err = src.Rescan() }
				if os.Geteuid() == 0 {
					as(65534, 65534, rescan)
				} else {
					rescan()
				}
				if (err == nil) != (reason == "") {
					t.Errorf("Rescan() = %v, want an error: %v", err, reason != "")
				}
				if got := payload(s.View()); got != text {
					t.Errorf("the view has %q, want %q", got, text)
				}
				failures := s.View().DirectoryErrors()
				switch {
				case reason == "" && len(failures) > 0, reason != "" && len(failures) != 1:
					t.Errorf("failures: %v, want reason %q", failures, reason)
				case reason != "" && (failures[0].Reason != reason || failures[0].Directory != dir || !errors.Is(failures[0], cause) || !strings.Contains(failures[0].Error(), dir)):
					t.Errorf("failure: %#v, want reason %q of %s", failures[0], reason, dir)
				}
			}
			create := func() {
				t.Helper()
				must(t, os.MkdirAll(dir, 0o755))
				must(t, os.WriteFile(filepath.Join(dir, "a.prom"), []byte("a 1\n"), 0o644))
			}
			look("", record.DirectoryMissing, fs.ErrNotExist)
			create()
			look("a 1\n", "", nil)
			for range 2 {
				must(t, test.spoil(dir))
				look("", test.want, test.err)
				view := s.View()
				look("", test.want, test.err)
				if test.want == record.DirectoryMissing && s.View().DirectoryErrors()[0] != view.DirectoryErrors()[0] {
					t.Error("each look reports the same failure as new")
				}
				must(t, test.repair(dir))
				create()
				look("a 1\n", "", nil)
			}
			must(t, test.spoil(dir))
			look("", test.want, test.err)
			s.RemoveSource(src)
			if n := len(s.View().DirectoryErrors()); n > 0 {
				t.Errorf("%d failures after the source was removed", n)
			}
			must(t, test.repair(dir))
		})
	}
}

// TestRemovedSource expects that the files of a removed source leave the view and do not
// return.
func TestRemovedSource(t *testing.T) {
	s, err := filestore.Open(t.TempDir(), nil)
	must(t, err)
	defer s.Close()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a.prom"), []byte("a 1\n"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "sub", "b.prom"), []byte("b 1\n"), 0o644))
	outer, inner := s.AddSource(dir), s.AddSource(filepath.Join(dir, "sub"))
	for _, src := range []*filestore.Source{outer, inner} {
		_, err := src.Rescan()
		must(t, err)
	}
	want(t, s, "a 1\nb 1\n")
	s.RemoveSource(outer)
	want(t, s, "b 1\n")
	if _, err := outer.Rescan(); err != nil {
		t.Error(err)
	}
	_, _ = outer.Reload("a.prom")
	want(t, s, "b 1\n")
	_, err = inner.Rescan()
	must(t, err)
	want(t, s, "b 1\n")
}

// TestFollow expects that Follow reads only links whose targets have changed.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "target")
	volume := func(n int) {
		t.Helper()
		sub := filepath.Join(dir, fmt.Sprintf("..%d", n))
		must(t, os.Mkdir(sub, 0o755))
		must(t, os.WriteFile(filepath.Join(sub, "cm.prom"), fmt.Appendf(nil, "cm %d\n", n), 0o644))
		must(t, os.Symlink(filepath.Base(sub), filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	s, err := filestore.Open(dir, nil)
	must(t, err)
	defer s.Close()
	again, err := s.Follow()
	if err != nil || len(again) > 0 {
		t.Errorf("Follow() without links = %q, %v", again, err)
	}
	volume(1)
	must(t, os.Symlink("..data/cm.prom", filepath.Join(dir, "cm.prom")))
	must(t, os.WriteFile(elsewhere, []byte("e 1\n"), 0o644))
	must(t, os.Symlink(elsewhere, filepath.Join(dir, "e.prom")))
	must(t, os.WriteFile(filepath.Join(dir, "plain.prom"), []byte("plain 1\n"), 0o644))
	_, err = s.Rescan()
	must(t, err)
	want(t, s, "cm 1\ne 1\nplain 1\n")

	must(t, os.WriteFile(filepath.Join(dir, "plain.prom"), []byte("plain 2\n"), 0o644))
	volume(2)
	must(t, os.WriteFile(elsewhere, []byte("e 2\n"), 0o644))
	_, err = s.Follow()
	must(t, err)
	want(t, s, "cm 2\ne 2\nplain 1\n")
	must(t, os.Remove(elsewhere))
	must(t, os.Remove(filepath.Join(dir, "cm.prom")))
	must(t, os.WriteFile(filepath.Join(dir, "cm.prom"), []byte("cm 3\n"), 0o644))
	_, err = s.Follow()
	must(t, err)
	want(t, s, "cm 3\nplain 1\n")
	wantReason(t, s, "e.prom", exposition.Unreadable)
	must(t, os.WriteFile(elsewhere, []byte("e 4\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "cm.prom"), []byte("cm 4\n"), 0o644))
	_, err = s.Follow()
	must(t, err)
	want(t, s, "cm 3\ne 4\nplain 1\n") // cm.prom is now a regular file
}
