package filestore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// skipUnless skips the test after an error of its setup.
func skipUnless(t *testing.T, err error, why string) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "":
		t.Fatalf("%s: %v", why, err)
	default:
		t.Skipf("%s: %v", why, err)
	}
}

// underQuota mounts a file system with a quota of a megabyte. limit changes the quota.
func underQuota(t *testing.T) (dir string, limit func(size string)) {
	t.Helper()
	needRoot(t, "mounts a file system with a quota")
	image := filepath.Join(t.TempDir(), "image")
	dir = t.TempDir()
	run := func(name string, args ...string) error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
		}
		return nil
	}
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 128<<20))
	skipUnless(t, run("mkfs.btrfs", "-q", "--mixed", image), "makes a file system")
	skipUnless(t, run("mount", "-o", "loop", image, dir), "mounts it")
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	skipUnless(t, run("btrfs", "quota", "enable", dir), "needs quotas")
	limit = func(size string) {
		t.Helper()
		must(t, run("btrfs", "qgroup", "limit", size, dir))
	}
	limit("1M")
	return dir, limit
}

// temporary matches the name of a temporary file in a text.
var temporary = regexp.MustCompile(`\.prom[0-9]+`)

// large returns a push of about size bytes.
func large(t *testing.T, size int) *exposition.Families {
	t.Helper()
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "large{i=\"%d\",pad=%q} 1\n", i, strings.Repeat("x", 1000))
	}
	return families(t, b.String())
}

// TestQuotaIsDetected fills the quota. Neither the free space nor a small write shows
// that it is full.
func TestQuotaIsDetected(t *testing.T) {
	dir, limit := underQuota(t)
	s := must1(filestore.Open(dir, nil))
	defer s.Close()
	free := func() uint64 {
		t.Helper()
		_, free, err := s.Space()
		must(t, err)
		return free
	}
	g := group(t, "job", "large")
	must(t, s.Replace(group(t, "job", "a"), families(t, "m 1\n"), record.PushOptions{}))
	must(t, s.Health())
	if n := free(); n < 2<<20 {
		t.Fatalf("%d bytes are free before the quota is reached", n)
	}
	refused := func() {
		t.Helper()
		err := s.Replace(g, large(t, 2<<20), record.PushOptions{})
		if !errors.Is(err, unix.EDQUOT) || temporary.MatchString(err.Error()) {
			t.Fatalf("a push beyond the quota: %v", err)
		}
		if err := s.Health(); !errors.Is(err, unix.EDQUOT) || temporary.MatchString(err.Error()) || !strings.Contains(err.Error(), "quota") {
			t.Errorf("Health = %v", err)
		}
		if n := free(); n != 0 {
			t.Errorf("Space reports %d free bytes", n)
		}
	}
	refused()
	if _, err := s.Rescan(); err != nil {
		t.Error(err)
	}
	if err := s.Health(); err == nil {
		t.Error("Health forgets the quota after a check")
	}
	must(t, s.Replace(group(t, "job", "a"), families(t, "m 2\n"), record.PushOptions{}))
	must(t, s.Health())
	if n := free(); n == 0 {
		t.Error("no space is free after a successful write")
	}
	refused()
	must(t, s.Drop("d", []byte("d 1\n"), false))
	must(t, s.Health())
	refused()
	limit("64M")
	must(t, s.Replace(g, large(t, 2<<20), record.PushOptions{}))
	must(t, s.Health())
}

// TestRaisedQuota expects that a higher quota is detected without a push.
func TestRaisedQuota(t *testing.T) {
	dir, limit := underQuota(t)
	synctest.Test(t, func(t *testing.T) {
		s := must1(filestore.Open(dir, nil))
		defer s.Close()
		if err := s.Replace(group(t, "job", "a"), large(t, 2<<20), record.PushOptions{}); !errors.Is(err, unix.EDQUOT) {
			t.Fatalf("a push beyond the quota: %v", err)
		}
		for range 100 {
			time.Sleep(time.Second)
			if err := s.Health(); !errors.Is(err, unix.EDQUOT) {
				t.Fatalf("Health = %v", err)
			}
		}
		limit("64M")
		time.Sleep(time.Minute)
		must(t, s.Health())
	})
}

// TestErrorsNameNoTemporaryFile makes each kind of change fail with each kind of disk
// error.
func TestErrorsNameNoTemporaryFile(t *testing.T) {
	needRoot(t, "mounts file systems and becomes another user")
	mounted := func(t *testing.T, options string) string {
		dir := t.TempDir()
		skipUnless(t, unix.Mount("tmpfs", dir, "tmpfs", 0, options), "mounts a file system")
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		return dir
	}
	for name, tt := range map[string]struct {
		dir   func(t *testing.T) string
		spoil func(t *testing.T, dir string)
		as    int
	}{
		"quota": {dir: func(t *testing.T) string { dir, _ := underQuota(t); return dir }},
		"no space": {dir: func(t *testing.T) string { return mounted(t, "size=64k") }, spoil: func(t *testing.T, dir string) {
			_ = os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o644)
		}},
		"no inodes": {dir: func(t *testing.T) string { return mounted(t, "nr_inodes=8") }, spoil: func(t *testing.T, dir string) {
			for i := range 8 {
				_ = os.WriteFile(filepath.Join(dir, fmt.Sprint("ballast", i)), nil, 0o644)
			}
		}},
		"read-only": {dir: func(t *testing.T) string { return mounted(t, "size=1m") }, spoil: func(t *testing.T, dir string) {
			must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}},
		"no permission": {dir: func(t *testing.T) string {
			dir := t.TempDir()
			must(t, os.Chmod(filepath.Dir(dir), 0o755))
			return dir
		}, as: 4001},
		"a directory in place of the file": {dir: func(t *testing.T) string { return t.TempDir() }, spoil: func(t *testing.T, dir string) {
			for _, job := range []string{"a", "new", "amended"} {
				path := filepath.Join(dir, "job="+job+".prom")
				_ = os.Remove(path)
				must(t, os.MkdirAll(filepath.Join(path, "full"), 0o755))
			}
			must(t, os.MkdirAll(filepath.Join(dir, "d.prom"), 0o755))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tt.dir(t)
			s := must1(filestore.Open(dir, nil))
			must(t, s.Replace(group(t, "job", "a"), families(t, "m 1\n"), record.PushOptions{}))
			if tt.spoil != nil {
				tt.spoil(t, dir)
			}
			body := func() *exposition.Families { return large(t, 2<<20) }
			failed := 0
			check := func() {
				for what, err := range map[string]error{
					"PUT":     s.Replace(group(t, "job", "a"), body(), record.PushOptions{}),
					"POST":    s.Update(group(t, "job", "new"), body(), record.PushOptions{}),
					"import":  s.Import(group(t, "job", "new"), body(), record.ImportOptions{Overwrite: true}),
					"amend":   s.Amend(group(t, "job", "amended"), func(*record.Held) (*record.Edit, error) { return &record.Edit{Put: body()}, nil }),
					"failure": s.Fail(group(t, "job", "new")),
					"refused": s.Replace(group(t, "job", "new"), families(t, "# TYPE m counter\nm 1\n"), record.PushOptions{}),
					"drop":    s.Drop("d", []byte("d 1\n# "+strings.Repeat("x", 2<<20)+"\n"), false),
					"health":  s.Health(),
					"DELETE":  s.Delete(group(t, "job", "a")),
				} {
					if err == nil {
						continue
					}
					failed++
					if text := err.Error(); temporary.MatchString(text) || strings.Contains(text, "probe") {
						t.Errorf("%s: %s", what, text)
					}
					var path *fs.PathError
					if errors.As(err, &path) && temporary.MatchString(path.Path) {
						t.Errorf("%s: the error has the path %s", what, path.Path)
					}
				}
			}
			if tt.as != 0 {
				as(tt.as, tt.as, check)
			} else {
				check()
			}
			if failed < 3 {
				t.Errorf("%d changes failed: the test proves nothing", failed)
			}
		})
	}
}
