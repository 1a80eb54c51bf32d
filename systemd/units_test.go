package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program returns the path of a program that the test requires. A missing program is
// a failure with PROMSPOOL_TEST_NO_SKIP=1, else the test is skipped.
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

// unitRoot returns a root directory with the units of this package, the programs that
// they run, since verify requires them, and the targets of the system.
func unitRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	for _, dir := range []string{units, filepath.Join(root, "usr/bin")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for to, patterns := range map[string][]string{
		units:                                    {"*.service", "*.socket", "*.timer", "/lib/systemd/system/*.target", "/lib/systemd/system/*.slice"},
		filepath.Join(root, "usr/bin/promspool"): {"/bin/true"},
	} {
		for _, pattern := range patterns {
			files, err := filepath.Glob(pattern)
			if err != nil || len(files) == 0 {
				t.Fatalf("nothing like %s: %v", pattern, err)
			}
			run(t, "/bin/cp", append([]string{"-L"}, append(files, to)...)...)
		}
	}
	return root
}

// units are the names to verify: the files, and an instance of each template.
func units(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, kind := range []string{"service", "socket", "timer"} {
		found, err := filepath.Glob("*." + kind)
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", kind, err)
		}
		names = append(names, found...)
	}
	for _, name := range names {
		if template, kind, ok := strings.Cut(name, "@."); ok {
			names = append(names, template+"@backup."+kind)
		}
	}
	return names
}

func TestUnitsAreValid(t *testing.T) {
	analyze, root := program(t, "systemd-analyze"), unitRoot(t)
	for _, unit := range units(t) {
		t.Run(unit, func(t *testing.T) {
			// Without --recursive-errors an unknown key is only a warning.
			run(t, analyze, "verify", "--root="+root, "--man=no", "--recursive-errors=one", unit)
		})
	}
}

func TestUnitIsConfined(t *testing.T) {
	// The threshold is in tenths: an exposure above 2.0 of 10 fails.
	run(t, program(t, "systemd-analyze"), "security", "--offline=yes", "--root="+unitRoot(t), "--threshold=20", "promspool.service")
}

// TestUserAndDirectories applies both files, in order, to an empty root.
func TestUserAndDirectories(t *testing.T) {
	sysusers, tmpfiles := program(t, "systemd-sysusers"), program(t, "systemd-tmpfiles")
	if os.Getuid() != 0 {
		if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
			t.Fatal("needs root: gives directories to another user")
		}
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
