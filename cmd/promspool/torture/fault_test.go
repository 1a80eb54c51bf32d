//go:build linux

package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A fault is a result of a system call of the agent, injected by strace.
type fault struct {
	name   string
	calls  string // the calls that fail
	how    string // the injection, in strace's syntax
	onDir  bool   // only calls on the directory of the spool
	method string
	doubt  bool // the change may be on disk
	code   int
	sick   bool // the health check makes these calls as well
}

const (
	flushes = "fsync,fdatasync,syncfs,sync_file_range"
	renames = "rename,renameat,renameat2"
	removes = "unlink,unlinkat"
	opens   = "openat,openat2"
)

var faults = []fault{
	{name: "flush of the file", calls: flushes, how: "error=EIO:when=1", method: "PUT", code: 500},
	{name: "every flush", calls: flushes, how: "error=EIO", method: "PUT", code: 500},
	{name: "flush of the file, POST", calls: flushes, how: "error=EIO:when=1", method: "POST", code: 500},
	{name: "flush of the directory", calls: flushes, how: "error=EIO", onDir: true, method: "PUT", doubt: true, code: 500},
	{name: "flush of the directory, DELETE", calls: flushes, how: "error=EIO", onDir: true, method: "DELETE", doubt: true, code: 500},
	{name: "no space at the flush", calls: flushes, how: "error=ENOSPC:when=1", method: "PUT", code: 507},
	{name: "quota at the flush", calls: flushes, how: "error=EDQUOT:when=1", method: "PUT", code: 507, sick: true}, // the health check remembers it
	{name: "rename", calls: renames, how: "error=EIO", method: "PUT", code: 500},
	{name: "rename, no space", calls: renames, how: "error=ENOSPC", method: "POST", code: 507},
	{name: "rename, read-only", calls: renames, how: "error=EROFS", method: "PUT", code: 500},
	{name: "removal", calls: removes, how: "error=EIO", method: "DELETE", code: 500, sick: true},
	{name: "quota at the open", calls: opens, how: "error=EDQUOT", method: "PUT", code: 507, sick: true},
	{name: "no inodes at the open", calls: opens, how: "error=ENOSPC", method: "PUT", code: 507, sick: true},
	{name: "read-only at the open", calls: opens, how: "error=EROFS", method: "PUT", code: 500, sick: true},
	{name: "no descriptors", calls: opens, how: "error=EMFILE", method: "PUT", code: 503, sick: true},
	{name: "mode", calls: "fchmod,fchmodat,chmod", how: "error=EIO", method: "PUT", code: 500, sick: true},
	{name: "lock", calls: "flock", how: "error=EIO", method: "PUT", code: 500},
}

// temporary matches the name of a temporary file.
var temporary = regexp.MustCompile(`\.prom[0-9]+`)

// TestFaults makes system calls of the agent fail, one kind at a time.
func TestFaults(t *testing.T) {
	need(t, "strace")
	times := size(1, 5)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for range times {
				done(t, f.try(t, promspool, nil))
			}
			t.Logf("RESULT fault injected, %s: %d times, not acknowledged, 0 lost", f.name, times)
		})
	}
}

// TestFaultsNotice uses an agent that retries a failed flush and then reports success.
func TestFaultsNotice(t *testing.T) {
	need(t, "strace")
	program, env := faulty(t, flushAgain)
	err := faults[0].try(t, program, env)
	if err == nil {
		t.Fatal("a flush was retried and no check failed: the test cannot fail")
	}
	t.Logf("RESULT faults, control %s: noticed: %v", flushAgain, err)
}

// try makes a request while the fault is active.
func (f fault) try(t *testing.T, program string, env []string) error {
	spool := filepath.Join(directory(t), "spool")
	// Files that cannot be deleted during the fault are deleted by the next rescan.
	a, err := startProgram(t, program, env, spool, "--spool.resync=1s")
	if err != nil {
		return err
	}
	defer a.kill()
	h := newHistory()
	g := group{writer: 1, slot: 1}
	other := group{writer: 2, slot: 1}
	for _, g := range []group{g, other} {
		op := h.begin(g, false, 0)
		if err := a.must(200, "PUT", g.path(), g.body(op.version)); err != nil {
			return fmt.Errorf("without a fault: %w", err)
		}
		h.acknowledge(op, 0)
	}
	trace, err := inject(t, a, f)
	if err != nil {
		return err
	}
	op := h.begin(g, f.method == "DELETE", 0)
	code, answer, err := a.send(f.method, g.path(), g.body(op.version))
	healthErr := eventually(3*time.Second, func() error { return f.health(a) })
	log := trace.end()
	switch {
	case !strings.Contains(log, "INJECTED"):
		return fmt.Errorf("nothing was injected; the answer is %d %s, %v", code, answer, err)
	case err != nil:
		return fmt.Errorf("no answer: %v, %v", err, a.alive())
	case code < 300:
		return fmt.Errorf("%s was acknowledged with %d", f.method, code)
	case code != f.code || len(strings.TrimSpace(answer)) < 20 || strings.Count(answer, "\n") != 1:
		return fmt.Errorf("the answer is %d %q, want %d and a sentence", code, answer, f.code)
	case temporary.MatchString(answer):
		return fmt.Errorf("the answer names a temporary file: %q", answer)
	case f.doubt != strings.Contains(answer, "not known whether"):
		return fmt.Errorf("the answer is %q, want doubt: %v", answer, f.doubt)
	case healthErr != nil:
		return healthErr
	}
	if !f.doubt {
		h.refuse(op)
	}
	found, err := checkSpool(h, theEnd, spool)
	if err == nil {
		err = checkServed(h, theEnd, a)
	}
	if err != nil {
		return fmt.Errorf("after the fault: %w", err)
	}
	// The agent must recover without a restart.
	h.restart(found)
	op = h.begin(g, false, 0)
	if err := a.must(200, "PUT", g.path(), g.body(op.version)); err != nil {
		return fmt.Errorf("after the fault is gone: %w", err)
	}
	h.acknowledge(op, 0)
	if err := eventually(timeout, func() error { return a.must(200, "GET", "/-/healthy", "") }); err != nil {
		return err
	}
	return checkServed(h, theEnd, a)
}

// health expects the health check to report the fault if it makes such calls. The
// check tests the disk once a second.
func (f fault) health(a *agent) error {
	code, sentence, err := a.send("GET", "/-/healthy", "")
	if err != nil {
		return err
	}
	if f.sick && (code != 503 || len(strings.TrimSpace(sentence)) < 20) {
		return fmt.Errorf("/-/healthy = %d %q, want 503 and a sentence", code, sentence)
	}
	return nil
}

// A trace is an strace attached to an agent.
type trace struct {
	cmd *exec.Cmd
	log string
}

// inject makes calls of the running agent fail until end is called. Counts, as in
// when=1, are per thread.
func inject(t *testing.T, a *agent, f fault) (*trace, error) {
	t.Helper()
	tr := &trace{log: filepath.Join(directory(t), "strace")}
	args := []string{"-f", "-qq", "-o", tr.log, "-e", "trace=" + f.calls, "-e", "inject=" + f.calls + ":" + f.how, "-p", fmt.Sprint(a.cmd.Process.Pid)}
	if f.onDir {
		args = append(args, "-P", a.spool)
	}
	tr.cmd = exec.Command("strace", args...)
	said := &log{}
	tr.cmd.Stderr = said
	if err := tr.cmd.Start(); err != nil {
		return nil, err
	}
	err := eventually(timeout, func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", a.cmd.Process.Pid))
		if err != nil || len(tasks) == 0 {
			return errors.New("the agent is gone")
		}
		for _, task := range tasks {
			status, err := os.ReadFile(task)
			if err == nil && !strings.Contains(string(status), fmt.Sprintf("\nTracerPid:\t%d\n", tr.cmd.Process.Pid)) {
				return errors.New("strace does not trace every thread")
			}
		}
		return nil
	})
	if err != nil {
		tr.end()
		if strings.Contains(said.String(), "Operation not permitted") {
			missing(t, "strace may not trace: "+said.String())
		}
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	return tr, nil
}

// end removes the fault and returns the output of strace.
func (tr *trace) end() string {
	_ = tr.cmd.Process.Signal(os.Interrupt)
	_ = tr.cmd.Wait() // the signal ends it
	text, _ := os.ReadFile(tr.log)
	return string(text)
}

// TestFileTooLarge makes writes to files fail after a part of the content. Writes to
// connections are not affected.
func TestFileTooLarge(t *testing.T) {
	spool := filepath.Join(directory(t), "spool")
	a := start(t, spool)
	h := newHistory()
	g := group{writer: 1}
	op := h.begin(g, false, 0)
	done(t, a.must(200, "PUT", g.path(), g.body(op.version)))
	h.acknowledge(op, 0)
	pid := a.cmd.Process.Pid
	var was unix.Rlimit
	done(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &was))
	done(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4096, Max: was.Max}, nil))
	refused := 0
	for range 200 {
		op := h.begin(g, false, 0)
		code, answer, err := a.send("PUT", g.path(), g.body(op.version))
		done(t, err)
		if code == 200 {
			h.acknowledge(op, 0)
			continue
		}
		if code != 500 || !strings.Contains(answer, "file too large") {
			t.Fatalf("PUT = %d %q, want 500 and the cause", code, answer)
		}
		h.refuse(op)
		if refused++; refused == 5 {
			break
		}
	}
	if refused == 0 {
		t.Error("no write has failed")
	}
	done(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, &was, nil))
	_, err := checkSpool(h, theEnd, spool)
	done(t, err)
	done(t, checkServed(h, theEnd, a))
	done(t, a.must(200, "PUT", g.path(), g.body(1)+strings.Repeat("# filler\n", 1000)))
}
