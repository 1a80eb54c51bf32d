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
	w := &writer{Cmd: exec.CommandContext(t.Context(), promspool, "--spool.directory="+spool, "write", name), t: t}
	var err error
	w.stdin, err = w.StdinPipe()
	done(t, err)
	w.Stderr = &w.stderr
	done(t, w.Start())
	t.Cleanup(func() {
		if w.ProcessState == nil {
			_ = w.Process.Kill() // it may have exited
			_ = w.Wait()
		}
	})
	return w
}

// send returns when the writer has read some of the input: more than a pipe holds.
func (w *writer) send(line string) {
	w.t.Helper()
	_, err := io.WriteString(w.stdin, line+strings.Repeat("# filler\n", 1<<15))
	done(w.t, err)
}

func TestWriteThatIsInterruptedLeavesTheOldFile(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			spool := t.TempDir()
			command{name: promspool, args: []string{"--spool.directory=" + spool, "write", "mine"}, stdin: "m 1\n"}.must(t)
			w := startWrite(t, spool, "mine")
			w.send("m 2\n")
			done(t, w.Process.Signal(signal))
			if err := w.Wait(); err == nil {
				t.Error("it succeeded")
			}
			if got := files(t, spool); !slices.Equal(got, []string{"mine.prom"}) {
				t.Errorf("the spool holds %q", got)
			}
			text, err := os.ReadFile(filepath.Join(spool, "mine.prom"))
			done(t, err)
			if string(text) != "m 1\n" {
				t.Errorf("the file holds %q", text)
			}
		})
	}
}

func TestWriteIsServedByARunningAgent(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	a.push("/metrics/job/a", "# TYPE m gauge\nm 1\n")
	write := command{name: promspool, args: []string{"--spool.directory=" + a.spool, "write", "mine"}, stdin: "m 2\n"}
	write.must(t)
	a.serves(`m 2`)
	write.stdin = "m{job=\"a\"} 2\n"
	if _, stderr, status := write.run(t); status != 1 || !strings.Contains(stderr, `"job=a.prom"`) {
		t.Errorf("exit status %d, %s", status, stderr)
	}
	// And the agent knows at once what it may not contradict.
	if code, answer := a.send("PUT", "/metrics/job/b", "# TYPE m counter\nm 1\n"); code != 400 {
		t.Errorf("PUT = %d %q, want 400", code, answer)
	}
}

// TestWriteWaitsForTheLock holds the lock that a commit of another process has.
func TestWriteWaitsForTheLock(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	lock := filepath.Join(spool, ".promspool.lock")
	done(t, unix.Mkfifo(lock, 0o600))
	pipe, err := os.OpenFile(lock, unix.O_NONBLOCK, 0)
	done(t, err)
	defer pipe.Close()
	done(t, unix.Flock(int(pipe.Fd()), unix.LOCK_EX))
	w := startWrite(t, spool, "mine")
	_, err = io.WriteString(w.stdin, "m 1\n")
	done(t, err)
	done(t, w.stdin.Close())
	waitFor(t, "the temporary file is there", func() bool {
		temporary, err := filepath.Glob(filepath.Join(spool, ".job=mine.prom*"))
		done(t, err)
		return len(temporary) == 1
	})
	if _, err := os.Stat(filepath.Join(spool, "mine.prom")); err == nil {
		t.Error("it did not wait for the lock")
	}
	done(t, unix.Flock(int(pipe.Fd()), unix.LOCK_UN))
	if err := w.Wait(); err != nil {
		t.Errorf("%v: %s", err, &w.stderr)
	}
	if got := files(t, spool); !slices.Equal(got, []string{"mine.prom"}) {
		t.Errorf("the spool holds %q", got)
	}
}
