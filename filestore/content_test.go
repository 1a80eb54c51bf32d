package filestore_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

func TestContent(t *testing.T) {
	s := open(t, t.TempDir(), &filestore.Options{MaxFileBytes: 500})
	path := func(name string) string { return filepath.Join(s.Path(), name) }
	const broken = "m 1\nrubbish"
	must(t, os.WriteFile(path("broken.prom"), []byte(broken), 0o644))
	must(t, os.WriteFile(path("large.prom"), []byte(strings.Repeat("# much\n", 100)), 0o644))
	must(t, os.WriteFile(path("target"), []byte("n 1\n"), 0o644))
	must(t, os.Symlink("target", path("link.prom")))
	must(t, unix.Mkfifo(path("pipe.prom"), 0o644))
	must(t, os.Symlink("/dev/zero", path("zero.prom")))
	must(t, s.Replace(group(t, "job", "a"), families(t, "p 1\n"), record.PushOptions{}))
	rescan(t, s)
	for name, want := range map[string]string{"broken.prom": broken, "link.prom": "n 1\n"} {
		if data, err := s.Content(s.View().File(name)); err != nil || string(data) != want {
			t.Errorf("%s has %q, %v", name, data, err)
		}
	}
	pushed, err := os.ReadFile(path("job=a.prom"))
	must(t, err)
	if data, err := s.Content(s.View().File("job=a.prom")); err != nil || !slices.Equal(data, pushed) {
		t.Errorf("the group has %q, %v, want %q", data, err, pushed)
	}
	for name, want := range map[string]string{
		"large.prom": `reading "large.prom": larger than --spool.max-file-bytes=500`, "pipe.prom": "not a regular file", "zero.prom": "not a regular file",
	} {
		if data, err := s.Content(s.View().File(name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s has %q, %v, want %s", name, data, err, want)
		}
	}
	for _, name := range []string{"link.prom", "pipe.prom", "zero.prom", "large.prom"} { // a merge of files has no such files
		must(t, os.Remove(path(name)))
	}
}

// TestLinksToPseudoFiles expects that links to files such as those in /proc are not
// served but reported. The size and times of such a file are meaningless.
func TestLinksToPseudoFiles(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	path := func(name string) string { return filepath.Join(s.Path(), name) }
	must(t, os.WriteFile(path("empty.prom"), nil, 0o644))
	must(t, os.WriteFile(path("target"), nil, 0o644))
	must(t, os.Symlink("target", path("link.prom")))
	pseudo := []string{}
	for name, target := range map[string]string{
		"environ.prom": "/proc/self/environ", "uptime.prom": "/proc/uptime", "sys.prom": "/sys/kernel/mm/transparent_hugepage/enabled", "mounts.prom": "/proc/mounts",
	} {
		if data, err := os.ReadFile(target); err == nil && len(data) > 0 {
			must(t, os.Symlink(target, path(name)))
			pseudo = append(pseudo, name)
		}
	}
	if len(pseudo) == 0 {
		t.Skip("needs /proc or /sys")
	}
	rescan(t, s)
	for _, name := range pseudo {
		if f := s.View().File(name); f == nil || f.Problem() == nil || f.Problem().Reason != exposition.NotRegular {
			t.Errorf("%s is not reported as not-regular", name)
		}
	}
	for _, name := range []string{"empty.prom", "link.prom"} {
		if f := s.View().File(name); f == nil || f.Problem() != nil {
			t.Errorf("%s is missing or has a problem", name)
		}
	}
	for _, name := range append(pseudo, "link.prom") { // a merge of files has no such files
		must(t, os.Remove(path(name)))
	}
}
