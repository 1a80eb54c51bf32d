package main_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestScriptWrite(t *testing.T) { runScripts(t, "write") }

// A writer is a promspool write that waits for its input.
type writer struct {
	*exec.Cmd
	t      *testing.T
	stdin  io.WriteCloser
	stderr bytes.Buffer
}

func startWrite(t *testing.T, spool, name string) *writer {
	t.Helper()
	w := &writer{Cmd: exec.CommandContext(t.Context(), agenttest.Promspool, "--spool.directory="+spool, "write", name), t: t}
	var err error
	w.stdin, err = w.StdinPipe()
	agenttest.NoError(t, err)
	w.Stderr = &w.stderr
	agenttest.NoError(t, w.Start())
	t.Cleanup(func() {
		if w.ProcessState == nil {
			_ = w.Process.Kill() // it may have exited
			_ = w.Wait()
		}
	})
	return w
}

// send writes more than a pipe holds, so the writer has read some of it on return.
func (w *writer) send(line string) {
	w.t.Helper()
	_, err := io.WriteString(w.stdin, line+strings.Repeat("# filler\n", 1<<15))
	agenttest.NoError(w.t, err)
}

func TestWriteThatIsInterruptedLeavesTheOldFile(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			spool := t.TempDir()
			agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + spool, "write", "mine"}, Stdin: "m 1\n"}.Must(t)
			w := startWrite(t, spool, "mine")
			w.send("m 2\n")
			agenttest.NoError(t, w.Process.Signal(signal))
			if err := w.Wait(); err == nil {
				t.Error("it succeeded")
			}
			if got := agenttest.Files(t, spool); !slices.Equal(got, []string{"mine.prom"}) {
				t.Errorf("the spool holds %q", got)
			}
			text, err := os.ReadFile(filepath.Join(spool, "mine.prom"))
			agenttest.NoError(t, err)
			if string(text) != "m 1\n" {
				t.Errorf("the file holds %q", text)
			}
		})
	}
}

func TestWriteIsServedByARunningAgent(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	a.Push("/metrics/job/a", "# TYPE m gauge\nm 1\n")
	write := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + a.Spool, "write", "mine"}, Stdin: "m 2\n"}
	write.Must(t)
	a.Serves(`m 2`)
	write.Stdin = "m{job=\"a\"} 2\n"
	if _, stderr, status := write.Run(t); status != 1 || !strings.Contains(stderr, `"job=a.prom"`) {
		t.Errorf("exit status %d, %s", status, stderr)
	}
	// The agent uses it at once to detect conflicts.
	if code, answer := a.Send("PUT", "/metrics/job/b", "# TYPE m counter\nm 1\n"); code != 400 {
		t.Errorf("PUT = %d %q, want 400", code, answer)
	}
}

// TestWriteWaitsForTheLock holds the lock of a commit in another process.
func TestWriteWaitsForTheLock(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	lock := filepath.Join(spool, ".promspool.lock")
	agenttest.NoError(t, unix.Mkfifo(lock, 0o600))
	pipe, err := os.OpenFile(lock, unix.O_NONBLOCK, 0)
	agenttest.NoError(t, err)
	defer pipe.Close()
	agenttest.NoError(t, unix.Flock(int(pipe.Fd()), unix.LOCK_EX))
	w := startWrite(t, spool, "mine")
	_, err = io.WriteString(w.stdin, "m 1\n")
	agenttest.NoError(t, err)
	agenttest.NoError(t, w.stdin.Close())
	agenttest.WaitFor(t, "the temporary file is there", func() bool {
		temporary, err := filepath.Glob(filepath.Join(spool, ".job=mine.prom*"))
		agenttest.NoError(t, err)
		return len(temporary) == 1
	})
	if _, err := os.Stat(filepath.Join(spool, "mine.prom")); err == nil {
		t.Error("it did not wait for the lock")
	}
	agenttest.NoError(t, unix.Flock(int(pipe.Fd()), unix.LOCK_UN))
	if err := w.Wait(); err != nil {
		t.Errorf("%v: %s", err, &w.stderr)
	}
	if got := agenttest.Files(t, spool); !slices.Equal(got, []string{"mine.prom"}) {
		t.Errorf("the spool holds %q", got)
	}
}
