package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take that is not the point of a test.
const patience = 20 * time.Second

// promspool is the program under test.
var promspool string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

// buildAndRun builds the program, with the race detector if the tests have it.
func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "promspool-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // another user runs the program, too
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	promspool = filepath.Join(dir, "promspool")
	args := []string{"build", "-buildvcs=false", "-o", promspool}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				args = append(args, "-race")
			}
		}
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// need returns the path of a program that the test cannot do without. Where all
// of them are promised to be there, a missing one is a failure.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
		t.Fatalf("a program is missing: %v", err)
	}
	t.Skipf("a program is missing: %v", err)
	return ""
}

// needRoot skips the test, saying for what, if it does not run as root.
func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
		t.Fatalf("needs root: %s", why)
	}
	t.Skipf("needs root: %s", why)
}

// done fails the test if something that has to succeed did not.
func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waitFor returns once the condition holds and fails the test if it does not.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// A server is a program that runs until it is stopped, by the end of the test
// at the latest.
type server struct {
	t      *testing.T
	cmd    *exec.Cmd
	addr   string // HOST:PORT that it listens on
	log    *buffer
	exited chan struct{} // closed when it has
}

// startServer starts a program that logs the address that it listens on, which is
// the first group of the pattern.
func startServer(t *testing.T, pattern, program string, args ...string) *server {
	t.Helper()
	s := &server{t: t, cmd: exec.Command(program, args...), log: &buffer{}, exited: make(chan struct{})}
	s.cmd.Stderr = s.log
	done(t, s.cmd.Start())
	go func() {
		_ = s.cmd.Wait() // the state has the status
		close(s.exited)
	}()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("%s %q logged:\n%s", filepath.Base(program), args, s.log)
		}
	})
	listens := regexp.MustCompile(pattern)
	waitFor(t, filepath.Base(program)+" listens", func() bool {
		if s.hasExited() {
			t.Fatalf("%s %q: %v\n%s", program, args, s.cmd.ProcessState, s.log)
		}
		found := listens.FindStringSubmatch(s.log.String())
		if found != nil {
			s.addr = found[1]
		}
		return found != nil
	})
	return s
}

func (s *server) hasExited() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// kill ends the process without asking it.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have exited
	<-s.exited
}

// stop ends the process as a service manager does, and as gracefully.
func (s *server) stop() {
	s.t.Helper()
	s.terminate()
	s.exitsWith(0)
}

func (s *server) terminate() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Errorf("stopping %s: %v", s.cmd.Path, err)
	}
}

// exitsWith waits for the process to exit by itself with that status.
func (s *server) exitsWith(status int) {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatalf("%s still runs after %v", s.cmd.Path, patience)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != status {
		s.t.Errorf("%s: %v, want exit status %d", s.cmd.Path, s.cmd.ProcessState, status)
	}
}

// A command is a program that ends by itself.
type command struct {
	name  string
	args  []string
	env   []string
	stdin string
	user  *syscall.Credential
}

// run returns what the program said and its exit status.
func (c command) run(t *testing.T) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user}
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
		t.Fatalf("%s %q: %v", c.name, c.args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s %q did not end within %v", c.name, c.args, patience)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must returns what the program printed and fails the test if it failed.
func (c command) must(t *testing.T) string {
	t.Helper()
	stdout, stderr, status := c.run(t)
	if status != 0 {
		t.Fatalf("%s %q: exit status %d\n%s%s", c.name, c.args, status, stdout, stderr)
	}
	return stdout
}

// buffer is a bytes.Buffer for one who writes while others read.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

var _ io.Writer = (*buffer)(nil)

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
