package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestScriptRun(t *testing.T) { runScripts(t, "run") }

func TestKilledCommandIsAFailure(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	j := agenttest.StartJob(t, spool, "")
	agenttest.NoError(t, syscall.Kill(j.PID(), syscall.SIGKILL))
	if status := j.Wait().Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Errorf("the run ended with %v, want to be killed as its command", j.Cmd.ProcessState)
	}
	agenttest.WantLines(t, agenttest.Record(t, spool, "a"), agenttest.Runs("a", "failure", 1), `promspool_job_exit_code{job="a"} 137`, `promspool_job_running{job="a"} 0`)
}

// TestKilledRunIsLostWhenItsCommandHasEnded kills promspool run while its command
// keeps running. The run is lost only after the command has ended.
func TestKilledRunIsLostWhenItsCommandHasEnded(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	a := agenttest.StartAgent(t, spool, "--job.interval=10ms")
	j := agenttest.StartJob(t, spool, "")
	a.Serves(`promspool_job_running{job="a"} 1`)
	agenttest.NoError(t, j.Cmd.Process.Kill())
	j.Wait()
	// A second run detects it as well, and so does an agent at its start.
	again := agenttest.StartJob(t, spool, "")
	a.Serves(`promspool_job_running{job="a"} 2`)
	if got := again.Finish().ExitCode(); got != 0 {
		t.Errorf("exit status %d, want 0", got)
	}
	a = a.Restart("--job.interval=10ms")
	lines := agenttest.Record(t, spool, "a")
	agenttest.WantLines(t, lines, agenttest.Runs("a", "lost", 0), agenttest.Runs("a", "success", 1), `promspool_job_running{job="a"} 1`)
	agenttest.NoError(t, j.Input.Close())
	a.Serves(agenttest.Runs("a", "lost", 1))
	agenttest.WantLines(t, a.Page(), `promspool_job_running{job="a"} 0`, `promspool_job_exit_code{job="a"} -1`, agenttest.Runs("a", "success", 1))
	agenttest.WaitFor(t, "the agent logs it", func() bool { return strings.Contains(a.Log.String(), "Job run lost") })
	agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + spool, "run", "--job=a", "--", "true"}}.Must(t)
	a.Serves(`promspool_job_exit_code{job="a"} 0`)
	agenttest.WantLines(t, a.Page(), agenttest.Runs("a", "lost", 1), agenttest.Runs("a", "success", 2))
}

func TestKilledTogetherIsLost(t *testing.T) {
	t.Parallel()
	for _, finder := range []string{"agent", "next run", "ls"} {
		t.Run(finder, func(t *testing.T) {
			t.Parallel()
			spool := t.TempDir()
			j := agenttest.StartJob(t, spool, "")
			agenttest.NoError(t, j.Cmd.Process.Kill())
			agenttest.NoError(t, syscall.Kill(j.PID(), syscall.SIGKILL))
			j.Wait()
			agenttest.WantLines(t, agenttest.Record(t, spool, "a"), `promspool_job_running{job="a"} 1`, agenttest.Runs("a", "lost", 0))
			if finder == "agent" {
				agenttest.StartAgent(t, spool, "--job.interval=10ms").Serves(agenttest.Runs("a", "lost", 1))
				return
			}
			// The lock is free as soon as the kernel has ended both.
			agenttest.WaitFor(t, "the run is lost", func() bool {
				if args := []string{"--spool.directory=" + spool, "run", "--job=a", "--", "true"}; finder == "next run" {
					agenttest.Command{Name: agenttest.Promspool, Args: args}.Must(t)
				} else {
					agenttest.Command{Name: agenttest.Promspool, Args: []string{args[0], "ls"}}.Must(t)
				}
				return agenttest.HasLine(agenttest.Record(t, spool, "a"), agenttest.Runs("a", "lost", 1))
			})
		})
	}
}

// TestReboot covers runs whose lock file is gone, so that the lock tells nothing.
func TestReboot(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + spool, "--boot-id=first", "job", "declare", "a"}}.Must(t)
	j := agenttest.StartJob(t, spool, "", "--boot-id=first")
	agenttest.NoError(t, j.Cmd.Process.Kill())
	agenttest.NoError(t, syscall.Kill(j.PID(), syscall.SIGKILL))
	j.Wait()
	locks, err := filepath.Glob(spool + "/.job=*.lock")
	if err != nil || len(locks) != 1 {
		t.Fatalf("locks %q, %v, want one", locks, err)
	}
	agenttest.NoError(t, os.Remove(locks[0]))
	a := agenttest.StartAgent(t, spool, "--boot-id=first", "--job.interval=10ms")
	a.Push("/metrics/job/b", "b 1\n") // once it is served, the agent has checked the jobs
	agenttest.WantLines(t, a.Page(), `promspool_job_running{job="a"} 1`, agenttest.Runs("a", "lost", 0))
	a = a.Restart("--boot-id=second")
	a.Serves(agenttest.Runs("a", "lost", 1))
	agenttest.WantLines(t, a.Page(), `promspool_job_running{job="a"} 0`)
}

func TestSignalsAreHandedOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		signal syscall.Signal
	}{{"TERM", syscall.SIGTERM}, {"INT", syscall.SIGINT}, {"HUP", syscall.SIGHUP}, {"QUIT", syscall.SIGQUIT}, {"USR1", syscall.SIGUSR1}, {"USR2", syscall.SIGUSR2}} {
		for _, flag := range []string{"--timeout=0s", "--timeout=1h"} {
			t.Run(c.name+flag, func(t *testing.T) {
				t.Parallel()
				j := agenttest.StartJob(t, t.TempDir(), "trap 'exit 7' "+c.name+"; echo ready; read x", flag)
				agenttest.NoError(t, j.Cmd.Process.Signal(c.signal))
				if got := j.Wait().ExitCode(); got != 7 {
					t.Errorf("exit status %d, want 7", got)
				}
			})
		}
	}
}

func TestNohupHolds(t *testing.T) {
	t.Parallel()
	c := agenttest.Command{Name: agenttest.Need(t, "nohup"), Args: []string{agenttest.Promspool, "--spool.directory=" + t.TempDir(), "run", "--", "sh", "-c", "kill -HUP $$ $PPID; echo still here"}}
	if out := c.Must(t); !strings.Contains(out, "still here") {
		t.Errorf("it printed %q", out)
	}
}

// TestDaemonDoesNotHoldTheLock has the command leave a process behind that inherited
// the lock. The lock is free when the run has ended.
func TestDaemonDoesNotHoldTheLock(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	j := agenttest.StartJob(t, spool, "tail -f /dev/null >/dev/null 2>&1 & echo $!", "--lock=fail")
	if got := j.Wait().ExitCode(); got != 0 {
		t.Errorf("exit status %d, want 0", got)
	}
	agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + spool, "run", "--job=a", "--lock=fail", "--", "true"}}.Must(t)
	_ = syscall.Kill(j.PID(), syscall.SIGKILL)
}

func TestLockAgainstOverlap(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	j := agenttest.StartJob(t, spool, "", "--lock=skip")
	run := func(flags ...string) agenttest.Command {
		return agenttest.Command{Name: agenttest.Promspool, Args: append([]string{"--spool.directory=" + spool, "run", "--job=a"}, append(flags, "--", "echo", "ran")...)}
	}
	if out, errs, status := run("--lock=skip").Run(t); out != "" || errs != "" || status != 0 {
		t.Errorf("--lock=skip: %q, %q, %d, want nothing and 0", out, errs, status)
	}
	if out, errs, status := run("--lock=fail").Run(t); out != "" || !strings.Contains(errs, "running already") || status != 125 {
		t.Errorf("--lock=fail: %q, %q, %d, want a sentence and 125", out, errs, status)
	}
	agenttest.WantLines(t, agenttest.Record(t, spool, "a"), agenttest.Runs("a", "skipped", 2), `promspool_job_running{job="a"} 1`)
	// A run without --lock starts.
	if out, _, status := run().Run(t); out != "ran\n" || status != 0 {
		t.Errorf("without --lock: %q, %d", out, status)
	}
	agenttest.WantLines(t, agenttest.Record(t, spool, "a"), agenttest.Runs("a", "success", 1), `promspool_job_running{job="a"} 1`)
	waits := make(chan string)
	go func() {
		c := exec.Command(agenttest.Promspool, run("--lock=wait").Args...)
		out, err := c.CombinedOutput()
		waits <- fmt.Sprintf("%s%v", out, err)
	}()
	select {
	case got := <-waits:
		t.Errorf("--lock=wait did not wait: %s", got)
	case <-time.After(200 * time.Millisecond):
	}
	j.Finish()
	if got := <-waits; got != "ran\n<nil>" {
		t.Errorf("--lock=wait: %s", got)
	}
	agenttest.WantLines(t, agenttest.Record(t, spool, "a"), agenttest.Runs("a", "success", 3), agenttest.Runs("a", "lost", 0), `promspool_job_running{job="a"} 0`)
}

// TestFiftyAtOnce runs fifty jobs, half of them the same, next to an agent.
func TestFiftyAtOnce(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "", "--job.interval=10ms")
	var all sync.WaitGroup
	for i := range 50 {
		job := "shared"
		if i%2 == 0 {
			job = fmt.Sprint("own", i)
		}
		all.Go(func() {
			c := exec.Command(agenttest.Promspool, "--spool.directory="+a.Spool, "run", "--job="+job, "--patience=2m", "--", "sh", "-c", fmt.Sprintf("exit %d", i%4/3))
			out, err := c.CombinedOutput()
			if got := c.ProcessState.ExitCode(); got != i%4/3 || len(out) > 0 {
				t.Errorf("%s: %v %s", job, err, out)
			}
		})
	}
	all.Wait()
	agenttest.WantLines(t, agenttest.Record(t, a.Spool, "shared"), agenttest.Runs("shared", "success", 13), agenttest.Runs("shared", "failure", 12), agenttest.Runs("shared", "lost", 0), `promspool_job_running{job="shared"} 0`)
	a.Serves(agenttest.Runs("shared", "success", 13))
	for i := 0; i < 50; i += 2 {
		a.Serves(agenttest.Runs(fmt.Sprint("own", i), "success", 1))
	}
}

// TestRunDoesNotWaitForAStuckSpool holds the lock of the spool, like a process on a
// hanging disk.
func TestRunDoesNotWaitForAStuckSpool(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	c := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + spool, "run", "--job=a", "--patience=200ms", "--", "echo", "ran"}}
	c.Must(t)
	lock, err := os.OpenFile(filepath.Join(spool, ".promspool.lock"), syscall.O_NONBLOCK, 0)
	agenttest.NoError(t, err)
	defer lock.Close()
	agenttest.NoError(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	out, errs, status := c.Run(t)
	want := "promspool: job {job=\"a\"}: its start is not recorded: the spool does not answer in time: its disk is slow or another process holds its lock; promspool doctor shows which\n"
	if out != "ran\n" || errs != want || status != 0 {
		t.Errorf("it printed %q and %q with status %d, want that it ran and %q", out, errs, status, want)
	}
	c.Args[3] = "--strict"
	if _, _, status := c.Run(t); status != 125 {
		t.Errorf("exit status %d with --strict, want 125", status)
	}
}

// TestRunAsAnotherUser records the jobs of users with and without write permission in
// the spool.
func TestRunAsAnotherUser(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t, "becomes another user")
	const gid = 65533
	spool := openDir(t)
	agenttest.NoError(t, os.Chown(spool, 0, gid))
	agenttest.NoError(t, os.Chmod(spool, 0o2775|os.ModeSetgid))
	a := agenttest.StartAgent(t, spool, "--job.interval=10ms")
	c := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + spool, "run", "--job=a", "--", "echo", "ran"}}
	c.User = &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{gid}}
	if out, errs, status := c.Run(t); out != "ran\n" || errs != "" || status != 0 {
		t.Errorf("a member of the group: %q, %q, %d", out, errs, status)
	}
	a.Serves(agenttest.Runs("a", "success", 1))
	c.User = &syscall.Credential{Uid: 65532, Gid: 65532}
	if out, errs, status := c.Run(t); out != "ran\n" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "permission denied") || status != 0 {
		t.Errorf("another user: %q, %q, %d, want a run and one line", out, errs, status)
	}
	agenttest.WantLines(t, agenttest.Record(t, spool, "a"), agenttest.Runs("a", "success", 1))
}

func TestRunOnAFullDisk(t *testing.T) {
	t.Parallel()
	c := agenttest.InNamespace(t, `mount -t tmpfs -o size=16k none "$DIR"
$RUN -- true
cat /dev/zero > "$DIR/zero" 2>/dev/null || true
$RUN -- echo ran
$RUN --strict -- echo never || echo $?
rm "$DIR/zero"
cat "$DIR/job=a.prom"`, "DIR="+t.TempDir())
	c.Env = append(c.Env, "RUN="+agenttest.Promspool+" run --job=a", "PROMSPOOL_SPOOL_DIRECTORY="+c.Env[0][len("DIR="):])
	out, errs, status := c.Run(t)
	if status != 0 || !strings.HasPrefix(out, "ran\n125\n") {
		t.Errorf("it printed %q with status %d", out, status)
	}
	line := `promspool: job {job="a"}: its start is not recorded: storing group {job="a"}: no space left on device` + "\n"
	if errs != line+line {
		t.Errorf("it complained %q, want %q for each run", errs, line)
	}
	agenttest.WantLines(t, out, agenttest.Runs("a", "success", 1))
}

func TestRunFallsBackToTheSpool(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	url := "--push-url=http://127.0.0.1:1"
	if out, errs, status := agenttest.RunJob(spool, "echo ran; exit 3", url, "--patience=200ms").Run(t); out != "ran\n" || errs != "" || status != 3 {
		t.Errorf("it printed %q and %q with status %d", out, errs, status)
	}
	agenttest.WantLines(t, agenttest.Record(t, spool, "a"), agenttest.Runs("a", "failure", 1), `promspool_job_running{job="a"} 0`)
	out, errs, status := agenttest.RunJob("/none", "echo ran", url, "--patience=200ms").Run(t)
	want := `promspool: job {job="a"}: its start is not recorded: asking http://127.0.0.1:1/metrics: dial tcp 127.0.0.1:1: connect: connection refused; opening the directory /none: no such file or directory: set --spool.directory or PROMSPOOL_SPOOL_DIRECTORY` + "\n"
	if out != "ran\n" || errs != want || status != 0 {
		t.Errorf("it printed %q and %q with status %d, want %q", out, errs, status, want)
	}
}
