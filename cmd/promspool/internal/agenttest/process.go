// Package agenttest builds the program for tests, starts agents and commands, and skips
// tests if a program or privilege is missing.
package agenttest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Timeout is the maximum duration of any step whose speed a test does not check. A loaded
// machine is thirty times slower than an idle one.
const Timeout = 2 * time.Minute

// Promspool is the path of the program under test.
var Promspool string

// Race reports whether the program is built with the race detector, which needs several
// times the memory.
var Race bool

// Main builds the program, with the race detector if the tests have it.
func Main(m *testing.M) int {
	listSources()
	UnignoreSignals()
	dir, err := os.MkdirTemp("", "promspool-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // another user runs the program, too
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	Promspool = filepath.Join(dir, "promspool")
	args := []string{"build", "-buildvcs=false", "-o", Promspool}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				Race = true
				args = append(args, "-race")
			}
		}
	}
	if out, err := exec.Command("go", append(args, "github.com/promspool/promspool/cmd/promspool")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// RunAll reports whether to run tests that take long or need other programs. They run
// with PROMSPOOL_TEST_ALL=1, and if a skip is a failure. Otherwise it prints one line
// about the skip, and m.Run runs none of them.
func RunAll(what string) bool {
	if os.Getenv("PROMSPOOL_TEST_ALL") != "" || os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
		return true
	}
	fmt.Printf("SKIP: %s (make test-all, or PROMSPOOL_TEST_ALL=1)\n", what)
	flag.Parse()
	if err := flag.Set("test.run", "^$"); err != nil {
		panic(err) // the flag is testing's
	}
	return false
}

// MainForAll is Main if [RunAll] allows the tests.
func MainForAll(m *testing.M, what string) int {
	if !RunAll(what) {
		return m.Run()
	}
	return Main(m)
}

// listSources reads the directories of the repository. The go command notes that, and
// does not use a cached result after one of their files has changed. Otherwise it
// would not know that the program, which is built here, depends on them.
func listSources() {
	_ = filepath.WalkDir(Repository, func(path string, d fs.DirEntry, err error) error {
		built := d != nil && path != Repository && slices.Contains([]string{".git", "build", "dist", "spool", "node_modules"}, d.Name())
		if built && d.IsDir() {
			return filepath.SkipDir
		}
		return nil // the build does not use unreadable files
	})
}

// UnignoreSignals starts programs with the default action for signals that this process
// ignores, as after nohup. Otherwise the programs would ignore them too, and a test that
// sends one would hang. This process still ignores them.
func UnignoreSignals() {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s) // no signal.Stop: it would ignore SIGINT again
		}
	}
}

// Need returns the path of a required program. If it is missing the test is skipped, or
// fails if PROMSPOOL_TEST_NO_SKIP is set.
func Need(t *testing.T, name string) string {
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

// NeedRoot skips the test with a reason if it does not run as root.
func NeedRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
		t.Fatalf("needs root: %s", why)
	}
	t.Skipf("needs root: %s", why)
}

// NoError fails the test on an error.
func NoError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WaitFor polls until the condition is true, and fails the test after [Timeout].
func WaitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Timeout); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", Timeout, what)
		}
	}
}

// A Server is a program that runs until it is stopped, at the latest at the end of the
// test.
type Server struct {
	T      *testing.T
	Cmd    *exec.Cmd
	Addr   string // HOST:PORT that it listens on
	Log    *Buffer
	exited chan struct{} // closed when it has
}

// StartServer starts a program that logs the address that it listens on. The first group
// of the pattern matches the address.
func StartServer(t *testing.T, pattern, program string, args ...string) *Server {
	t.Helper()
	s := &Server{T: t, Cmd: exec.Command(program, args...), Log: &Buffer{}, exited: make(chan struct{})}
	s.Cmd.Stderr = s.Log
	NoError(t, s.Cmd.Start())
	go func() {
		_ = s.Cmd.Wait() // the state has the status
		close(s.exited)
	}()
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("%s %q logged:\n%s", filepath.Base(program), args, s.Log)
		}
	})
	listens := regexp.MustCompile(pattern)
	WaitFor(t, filepath.Base(program)+" listens", func() bool {
		if s.HasExited() {
			t.Fatalf("%s %q: %v\n%s", program, args, s.Cmd.ProcessState, s.Log)
		}
		found := listens.FindStringSubmatch(s.Log.String())
		if found != nil {
			s.Addr = found[1]
		}
		return found != nil
	})
	return s
}

// HasExited reports whether the process has exited.
func (s *Server) HasExited() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// Kill ends the process with SIGKILL.
func (s *Server) Kill() {
	_ = s.Cmd.Process.Kill() // it may have exited
	<-s.exited
}

// Stop ends the process gracefully, as a service manager does.
func (s *Server) Stop() {
	s.T.Helper()
	s.Terminate()
	s.ExitsWith(0)
}

// Terminate sends SIGTERM, as a service manager does.
func (s *Server) Terminate() {
	s.T.Helper()
	if err := s.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.T.Errorf("stopping %s: %v", s.Cmd.Path, err)
	}
}

// ExitsWith waits until the process exits by itself with that status.
func (s *Server) ExitsWith(status int) {
	s.T.Helper()
	select {
	case <-s.exited:
	case <-time.After(Timeout):
		s.T.Fatalf("%s still runs after %v", s.Cmd.Path, Timeout)
	}
	if got := s.Cmd.ProcessState.ExitCode(); got != status {
		s.T.Errorf("%s: %v, want exit status %d", s.Cmd.Path, s.Cmd.ProcessState, status)
	}
}

// A Command is a program that ends by itself.
type Command struct {
	Name  string
	Args  []string
	Env   []string
	Stdin string
	User  *syscall.Credential
}

// Run returns the output of the program and its exit status.
func (c Command) Run(t *testing.T) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Name, c.Args...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdin = strings.NewReader(c.Stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.User}
	cmd.WaitDelay = Timeout // for the rest of its output
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
		t.Fatalf("%s %q: %v", c.Name, c.Args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s %q did not end within %v", c.Name, c.Args, Timeout)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Must returns the output of the program and fails the test if the program failed.
func (c Command) Must(t *testing.T) string {
	t.Helper()
	stdout, stderr, status := c.Run(t)
	if status != 0 {
		t.Fatalf("%s %q: exit status %d\n%s%s", c.Name, c.Args, status, stdout, stderr)
	}
	return stdout
}

// Buffer is a bytes.Buffer that is safe for concurrent use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

var _ io.Writer = (*Buffer)(nil)

// Write appends to the buffer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns the output so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Repository is the directory of the repository.
var Repository = repository()

func repository() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(dir + "/go.mod"); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// InNamespace returns the command that runs a script as root in a mount namespace.
func InNamespace(t *testing.T, script string, env ...string) Command {
	t.Helper()
	unshare := Need(t, "unshare")
	NeedRoot(t, "mounts")
	if out, err := exec.Command(unshare, "--mount", "mount", "-t", "tmpfs", "none", t.TempDir()).CombinedOutput(); err != nil {
		if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
			t.Fatalf("mounting: %v %s", err, out)
		}
		t.Skipf("mounting: %v %s", err, out)
	}
	return Command{Name: unshare, Args: []string{"--mount", "sh", "-ec", script}, Env: env}
}

// MigrateFrom returns the command that migrates from a Pushgateway.
func MigrateFrom(url string, args ...string) Command {
	return Command{Name: Promspool, Args: append([]string{"migrate", "--from=" + url}, args...)}
}

// CompareFile compares a generated file of the repository with the text that it must
// have. With PROMSPOOL_UPDATE=1, as "make docs" sets it, it writes the file instead.
func CompareFile(t *testing.T, path, want string) {
	t.Helper()
	path = filepath.Join(Repository, path)
	if os.Getenv("PROMSPOOL_UPDATE") != "" {
		NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	got, err := os.ReadFile(path)
	NoError(t, err)
	if string(got) == want {
		return
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Errorf("%s is not current from line %d on: run make docs", path, i+1)
			return
		}
	}
}
