package agenttest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// RunJob returns the command that runs the job a.
func RunJob(spool, script string, flags ...string) Command {
	args := append([]string{"--spool.directory=" + spool, "run", "--job=a"}, flags...)
	return Command{Name: Promspool, Args: append(args, "--", "sh", "-c", script)}
}

// A JobRun is a promspool run whose command runs until Finish.
type JobRun struct {
	T      *testing.T
	Cmd    *exec.Cmd
	Input  io.WriteCloser // its end ends the command
	Output *Buffer
}

// StartJob starts a run of the job a. By default its command prints its process ID and
// copies its input.
func StartJob(t *testing.T, spool, script string, flags ...string) *JobRun {
	t.Helper()
	if script == "" {
		script = "echo $$; exec cat"
	}
	args := append([]string{"--spool.directory=" + spool, "run", "--job=a", "--patience=2m"}, flags...)
	j := &JobRun{T: t, Output: &Buffer{}}
	j.Cmd = exec.Command(Promspool, append(args, "--", "sh", "-c", script)...)
	j.Cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // a killed run leaves a file there
	out, w, err := os.Pipe()
	NoError(t, err)
	j.Cmd.Stdout, j.Cmd.Stderr = w, w
	in, input, err := os.Pipe() // Wait would close a StdinPipe
	NoError(t, err)
	j.Cmd.Stdin, j.Input = in, input
	NoError(t, j.Cmd.Start())
	NoError(t, w.Close())
	NoError(t, in.Close())
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(j.Output, out)
		close(copied)
	}()
	t.Cleanup(func() {
		_ = j.Input.Close()
		_ = j.Cmd.Process.Kill()
		<-copied // the command has ended as well
	})
	WaitFor(t, "the command runs", func() bool { return strings.Contains(j.Output.String(), "\n") })
	return j
}

// PID returns the process ID of the command.
func (j *JobRun) PID() (pid int) {
	j.T.Helper()
	_, err := fmt.Sscan(j.Output.String(), &pid)
	NoError(j.T, err)
	return pid
}

// Finish ends the command and returns how the run ended.
func (j *JobRun) Finish() *os.ProcessState {
	j.T.Helper()
	NoError(j.T, j.Input.Close())
	return j.Wait()
}

// Wait waits for the run to end and returns how it ended.
func (j *JobRun) Wait() *os.ProcessState {
	_ = j.Cmd.Wait() // the state has the status
	return j.Cmd.ProcessState
}

// Record returns the lines of the file of a job.
func Record(t *testing.T, spool, job string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(spool, "job="+job+".prom"))
	NoError(t, err)
	return string(text)
}

// Runs returns the line that counts the runs of a job by outcome.
func Runs(job, outcome string, n int) string {
	return fmt.Sprintf("promspool_job_runs_total{job=%q,outcome=%q} %d", job, outcome, n)
}
