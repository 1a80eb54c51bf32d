package systemd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program returns the path of a program that the test cannot do without. On a
// machine that promises to have all of them, a missing one is a failure.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
		t.Fatalf("%s is missing: %v", name, err)
	}
	t.Skipf("%s is missing: %v", name, err)
	return ""
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", filepath.Base(name), args, err, out)
	}
}

// unitWithProgram returns a copy of the unit whose program is there: verify
// wants an executable, and nothing is installed yet.
func unitWithProgram(t *testing.T) string {
	t.Helper()
	unit, err := os.ReadFile("promspool.service")
	if err != nil {
		t.Fatal(err)
	}
	from, to := []byte("ExecStart=/usr/bin/promspool "), []byte("ExecStart=/bin/true ")
	if !bytes.Contains(unit, from) {
		t.Fatalf("promspool.service has no %q", from)
	}
	path := filepath.Join(t.TempDir(), "promspool.service")
	if err := os.WriteFile(path, bytes.Replace(unit, from, to, 1), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUnitIsValid(t *testing.T) {
	// Without --recursive-errors an unknown key is only a warning.
	run(t, program(t, "systemd-analyze"), "verify", "--recursive-errors=one", unitWithProgram(t))
}

func TestUnitIsConfined(t *testing.T) {
	// The threshold is in tenths: an exposure above 2.0 of 10 fails.
	run(t, program(t, "systemd-analyze"), "security", "--offline=yes", "--threshold=20", unitWithProgram(t))
}

// TestUserAndDirectories applies both files, in their order, to an empty root.
func TestUserAndDirectories(t *testing.T) {
	sysusers, tmpfiles := program(t, "systemd-sysusers"), program(t, "systemd-tmpfiles")
	if os.Getuid() != 0 {
		t.Skip("needs root: gives directories to another user")
	}
	root := t.TempDir()
	for file, installed := range map[string]string{
		"promspool.sysusers": "usr/lib/sysusers.d/promspool.conf",
		"promspool.tmpfiles": "usr/lib/tmpfiles.d/promspool.conf",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, installed)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil { // for passwd and group
		t.Fatal(err)
	}
	run(t, sysusers, "--root="+root)
	run(t, tmpfiles, "--root="+root, "--create")
	for _, want := range []struct {
		name string
		mode os.FileMode
	}{
		{"var/lib/promspool", os.ModeDir | 0o755},
		{"var/lib/promspool/spool", os.ModeDir | os.ModeSetgid | 0o775},
	} {
		info, err := os.Stat(filepath.Join(root, want.name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode() != want.mode {
			t.Errorf("mode of %s = %v, want %v", want.name, info.Mode(), want.mode)
		}
	}
}
