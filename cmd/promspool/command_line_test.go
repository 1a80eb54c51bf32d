package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flag string
		want []string
	}{
		{"--help", []string{"usage: promspool", "--spool.directory", "--log.level", "serve"}},
		{"-h", []string{"usage: promspool"}},
		{"--help-long", []string{"--web.listen-address", "--push.empty-instance-label", "--persistence.file"}},
		{"--version", []string{"promspool, version ", "go version:"}},
	} {
		t.Run(tt.flag, func(t *testing.T) {
			stdout, stderr, status := command{name: promspool, args: []string{tt.flag}}.run(t)
			if status != 0 || stderr != "" {
				t.Errorf("exit status %d, stderr %q, want 0 and nothing", status, stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in:\n%s", want, stdout)
				}
			}
		})
	}
}

func TestSenselessCommandLineExitsWith2(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"--no-such-flag", "no-such-command", "--spool.resync=often", "--spool.max-groups=many", "--log.level=loud"} {
		t.Run(arg, func(t *testing.T) { refuses(t, command{args: []string{arg}}, 2, "--help") })
	}
}

func TestAgentThatCannotServeSaysWhyAndExits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"spool is a file", []string{"--spool.directory=" + file}, file},
		{"spool is below a file", []string{"--spool.directory=" + file + "/spool"}, file},
		{"port is taken", []string{"--web.listen-address=" + startAgent(t, "").addr}, "address already in use"},
		{"address is no address", []string{"--web.listen-address=nonsense"}, "nonsense"},
		{"origin is no expression", []string{"--web.cors.origin=("}, "--web.cors.origin"},
		{"URL is no URL", []string{"--web.external-url=http://[/"}, "--web.external-url"},
		{"web config is missing", []string{"--web.config.file=" + dir + "/none.yml"}, "none.yml"},
		{"no socket from the service manager", []string{"--web.systemd-socket"}, "--web.systemd-socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + filepath.Join(dir, "spool")}, tt.args...)
			if strings.HasPrefix(tt.args[0], "--web.listen-address") {
				args = args[1:] // it can be given twice
			}
			refuses(t, command{args: args}, 1, tt.want)
		})
	}
}

func TestAgentThatMayNotWriteItsSpoolSaysWhyAndExits(t *testing.T) {
	t.Parallel()
	var nobody *syscall.Credential // root may write everywhere
	if os.Geteuid() == 0 {
		nobody = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	spool := t.TempDir()
	for _, dir := range []string{spool, filepath.Dir(spool)} {
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{spool, filepath.Join(spool, "new")} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			args := []string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + dir}
			refuses(t, command{args: args, user: nobody}, 1, dir+": permission denied")
		})
	}
}

// refuses runs promspool, which has to exit with the status and one sentence.
func refuses(t *testing.T, c command, status int, sentence string) {
	t.Helper()
	c.name = promspool
	stdout, stderr, got := c.run(t)
	if got != status || stdout != "" {
		t.Errorf("promspool %q: exit status %d and %q, want %d and nothing", c.args, got, stdout, status)
	}
	if !strings.HasPrefix(stderr, "promspool: ") || strings.Index(stderr, "\n") != len(stderr)-1 || !strings.Contains(stderr, sentence) {
		t.Errorf("promspool %q complains %q, want one sentence with %q", c.args, stderr, sentence)
	}
}
