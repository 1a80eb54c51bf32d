package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestScriptRun(t *testing.T) { runScripts(t, "run") }

// A jobRun is a promspool run whose command goes on until it is let go.
type jobRun struct {
	t      *testing.T
	cmd    *exec.Cmd
	input  io.WriteCloser // closed, it ends the command
	output *buffer
}

// startJob starts a run of the job a. Its command says its process ID and copies
// its input, or does as the script says that is given.
func startJob(t *testing.T, spool, script string, flags ...string) *jobRun {
	t.Helper()
	if script == "" {
		script = "echo $$; exec cat"
	}
	args := append([]string{"--spool.directory=" + spool, "run", "--job=a", "--patience=15s"}, flags...)
	j := &jobRun{t: t, output: &buffer{}}
	j.cmd = exec.Command(promspool, append(args, "--", "sh", "-c", script)...)
	j.cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // one that is killed leaves something there
	out, w, err := os.Pipe()
	done(t, err)
	j.cmd.Stdout, j.cmd.Stderr = w, w
	in, input, err := os.Pipe() // which, unlike StdinPipe, Wait leaves alone
	done(t, err)
	j.cmd.Stdin, j.input = in, input
	done(t, j.cmd.Start())
	done(t, w.Close())
	done(t, in.Close())
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(j.output, out)
		close(copied)
	}()
	t.Cleanup(func() {
		_ = j.input.Close()
		_ = j.cmd.Process.Kill()
		<-copied // when the command has ended, too
	})
	waitFor(t, "the command runs", func() bool { return strings.Contains(j.output.String(), "\n") })
	return j
}

// pid returns the process ID of the command.
func (j *jobRun) pid() (pid int) {
	j.t.Helper()
	_, err := fmt.Sscan(j.output.String(), &pid)
	done(j.t, err)
	return pid
}

// letGo ends the command and returns how the run ended.
func (j *jobRun) letGo() *os.ProcessState {
	j.t.Helper()
	done(j.t, j.input.Close())
	return j.wait()
}

func (j *jobRun) wait() *os.ProcessState {
	_ = j.cmd.Wait() // the state has the status
	return j.cmd.ProcessState
}

// record returns the lines of the file of a job.
func record(t *testing.T, spool, job string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(spool, "job="+job+".prom"))
	done(t, err)
	return string(text)
}

func runs(job, outcome string, n int) string {
	return fmt.Sprintf("promspool_job_runs_total{job=%q,outcome=%q} %d", job, outcome, n)
}

func TestKilledCommandIsAFailure(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	j := startJob(t, spool, "")
	done(t, syscall.Kill(j.pid(), syscall.SIGKILL))
	if status := j.wait().Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Errorf("the run ended with %v, want to be killed as its command", j.cmd.ProcessState)
	}
	wantLines(t, record(t, spool, "a"), runs("a", "failure", 1), `promspool_job_exit_code{job="a"} 137`, `promspool_job_running{job="a"} 0`)
}

// TestKilledRunIsLostWhenItsCommandHasEnded kills what records, while the command
// goes on: nobody may call the run lost until that has ended.
func TestKilledRunIsLostWhenItsCommandHasEnded(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	a := startAgent(t, spool, "--job.interval=10ms")
	j := startJob(t, spool, "")
	a.serves(`promspool_job_running{job="a"} 1`)
	done(t, j.cmd.Process.Kill())
	j.wait()
	// A second run looks as well, and an agent when it starts.
	again := startJob(t, spool, "")
	a.serves(`promspool_job_running{job="a"} 2`)
	if got := again.letGo().ExitCode(); got != 0 {
		t.Errorf("exit status %d, want 0", got)
	}
	a = a.restart("--job.interval=10ms")
	lines := record(t, spool, "a")
	wantLines(t, lines, runs("a", "lost", 0), runs("a", "success", 1), `promspool_job_running{job="a"} 1`)
	done(t, j.input.Close())
	a.serves(runs("a", "lost", 1))
	wantLines(t, a.page(), `promspool_job_running{job="a"} 0`, `promspool_job_exit_code{job="a"} -1`, runs("a", "success", 1))
	waitFor(t, "the agent tells", func() bool { return strings.Contains(a.log.String(), "A run of a job is lost") })
	command{name: promspool, args: []string{"--spool.directory=" + spool, "run", "--job=a", "--", "true"}}.must(t)
	a.serves(`promspool_job_exit_code{job="a"} 0`)
	wantLines(t, a.page(), runs("a", "lost", 1), runs("a", "success", 2))
}

func TestKilledTogetherIsLost(t *testing.T) {
	t.Parallel()
	for _, finder := range []string{"agent", "next run", "ls"} {
		t.Run(finder, func(t *testing.T) {
			t.Parallel()
			spool := t.TempDir()
			j := startJob(t, spool, "")
			done(t, j.cmd.Process.Kill())
			done(t, syscall.Kill(j.pid(), syscall.SIGKILL))
			j.wait()
			wantLines(t, record(t, spool, "a"), `promspool_job_running{job="a"} 1`, runs("a", "lost", 0))
			if finder == "agent" {
				startAgent(t, spool, "--job.interval=10ms").serves(runs("a", "lost", 1))
				return
			}
			// The lock is free as soon as the kernel is done with both.
			waitFor(t, "the run is lost", func() bool {
				if args := []string{"--spool.directory=" + spool, "run", "--job=a", "--", "true"}; finder == "next run" {
					command{name: promspool, args: args}.must(t)
				} else {
					command{name: promspool, args: []string{args[0], "ls"}}.must(t)
				}
				return hasLine(record(t, spool, "a"), runs("a", "lost", 1))
			})
		})
	}
}

// TestReboot is for where the lock says nothing, because its file is gone.
func TestReboot(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	command{name: promspool, args: []string{"--spool.directory=" + spool, "--boot-id=first", "job", "declare", "a"}}.must(t)
	j := startJob(t, spool, "", "--boot-id=first")
	done(t, j.cmd.Process.Kill())
	done(t, syscall.Kill(j.pid(), syscall.SIGKILL))
	j.wait()
	locks, err := filepath.Glob(spool + "/.job=*.lock")
	if err != nil || len(locks) != 1 {
		t.Fatalf("locks %q, %v, want one", locks, err)
	}
	done(t, os.Remove(locks[0]))
	a := startAgent(t, spool, "--boot-id=first", "--job.interval=10ms")
	a.push("/metrics/job/b", "b 1\n") // and as it is served, the agent has looked
	wantLines(t, a.page(), `promspool_job_running{job="a"} 1`, runs("a", "lost", 0))
	a = a.restart("--boot-id=second")
	a.serves(runs("a", "lost", 1))
	wantLines(t, a.page(), `promspool_job_running{job="a"} 0`)
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
				j := startJob(t, t.TempDir(), "trap 'exit 7' "+c.name+"; echo ready; read x", flag)
				done(t, j.cmd.Process.Signal(c.signal))
				if got := j.wait().ExitCode(); got != 7 {
					t.Errorf("exit status %d, want 7", got)
				}
			})
		}
	}
}

func TestNohupHolds(t *testing.T) {
	t.Parallel()
	c := command{name: need(t, "nohup"), args: []string{promspool, "--spool.directory=" + t.TempDir(), "run", "--", "sh", "-c", "kill -HUP $$ $PPID; echo still here"}}
	if out := c.must(t); !strings.Contains(out, "still here") {
		t.Errorf("it printed %q", out)
	}
}

// TestDaemonDoesNotHoldTheLock has the command leave a process behind, which has
// inherited the lock: when the run has ended the lock is free all the same.
func TestDaemonDoesNotHoldTheLock(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	j := startJob(t, spool, "tail -f /dev/null >/dev/null 2>&1 & echo $!", "--lock=fail")
	if got := j.wait().ExitCode(); got != 0 {
		t.Errorf("exit status %d, want 0", got)
	}
	command{name: promspool, args: []string{"--spool.directory=" + spool, "run", "--job=a", "--lock=fail", "--", "true"}}.must(t)
	_ = syscall.Kill(j.pid(), syscall.SIGKILL)
}

func TestLockAgainstOverlap(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	j := startJob(t, spool, "", "--lock=skip")
	run := func(flags ...string) command {
		return command{name: promspool, args: append([]string{"--spool.directory=" + spool, "run", "--job=a"}, append(flags, "--", "echo", "ran")...)}
	}
	if out, errs, status := run("--lock=skip").run(t); out != "" || errs != "" || status != 0 {
		t.Errorf("--lock=skip: %q, %q, %d, want nothing and 0", out, errs, status)
	}
	if out, errs, status := run("--lock=fail").run(t); out != "" || !strings.Contains(errs, "running already") || status != 125 {
		t.Errorf("--lock=fail: %q, %q, %d, want a sentence and 125", out, errs, status)
	}
	wantLines(t, record(t, spool, "a"), runs("a", "skipped", 2), `promspool_job_running{job="a"} 1`)
	// Who does not ask for the lock runs.
	if out, _, status := run().run(t); out != "ran\n" || status != 0 {
		t.Errorf("without --lock: %q, %d", out, status)
	}
	wantLines(t, record(t, spool, "a"), runs("a", "success", 1), `promspool_job_running{job="a"} 1`)
	waits := make(chan string)
	go func() {
		c := exec.Command(promspool, run("--lock=wait").args...)
		out, err := c.CombinedOutput()
		waits <- fmt.Sprintf("%s%v", out, err)
	}()
	select {
	case got := <-waits:
		t.Errorf("--lock=wait did not wait: %s", got)
	case <-time.After(200 * time.Millisecond):
	}
	j.letGo()
	if got := <-waits; got != "ran\n<nil>" {
		t.Errorf("--lock=wait: %s", got)
	}
	wantLines(t, record(t, spool, "a"), runs("a", "success", 3), runs("a", "lost", 0), `promspool_job_running{job="a"} 0`)
}

// TestFiftyAtOnce runs fifty, half of them of one job, beside an agent.
func TestFiftyAtOnce(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "", "--job.interval=10ms")
	var all sync.WaitGroup
	for i := range 50 {
		job := "shared"
		if i%2 == 0 {
			job = fmt.Sprint("own", i)
		}
		all.Go(func() {
			c := exec.Command(promspool, "--spool.directory="+a.spool, "run", "--job="+job, "--patience=15s", "--", "sh", "-c", fmt.Sprintf("exit %d", i%4/3))
			out, err := c.CombinedOutput()
			if got := c.ProcessState.ExitCode(); got != i%4/3 || len(out) > 0 {
				t.Errorf("%s: %v %s", job, err, out)
			}
		})
	}
	all.Wait()
	wantLines(t, record(t, a.spool, "shared"), runs("shared", "success", 13), runs("shared", "failure", 12), runs("shared", "lost", 0), `promspool_job_running{job="shared"} 0`)
	a.serves(runs("shared", "success", 13))
	for i := 0; i < 50; i += 2 {
		a.serves(runs(fmt.Sprint("own", i), "success", 1))
	}
}

// TestRunDoesNotWaitForAStuckSpool has somebody hold the lock of the spool, as a disk
// would that hangs.
func TestRunDoesNotWaitForAStuckSpool(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	c := command{name: promspool, args: []string{"--spool.directory=" + spool, "run", "--job=a", "--patience=200ms", "--", "echo", "ran"}}
	c.must(t)
	lock, err := os.OpenFile(filepath.Join(spool, ".promspool.lock"), syscall.O_NONBLOCK, 0)
	done(t, err)
	defer lock.Close()
	done(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	start := time.Now()
	out, errs, status := c.run(t)
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	want := "promspool: job {job=\"a\"}: its start is not recorded: the disk does not answer in time\n"
	if out != "ran\n" || errs != want || status != 0 {
		t.Errorf("it printed %q and %q with status %d, want that it ran and %q", out, errs, status, want)
	}
	c.args[3] = "--strict"
	if _, _, status := c.run(t); status != 125 {
		t.Errorf("exit status %d with --strict, want 125", status)
	}
}

// TestRunAsAnotherUser has users record their jobs who may write the spool, as
// members of its group, and who may not.
func TestRunAsAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	const gid = 65533
	spool := t.TempDir()
	for dir := spool; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		done(t, os.Chmod(dir, 0o755))
	}
	done(t, os.Chown(spool, 0, gid))
	done(t, os.Chmod(spool, 0o2775|os.ModeSetgid))
	a := startAgent(t, spool, "--job.interval=10ms")
	c := command{name: promspool, args: []string{"--spool.directory=" + spool, "run", "--job=a", "--", "echo", "ran"}}
	c.user = &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{gid}}
	if out, errs, status := c.run(t); out != "ran\n" || errs != "" || status != 0 {
		t.Errorf("a member of the group: %q, %q, %d", out, errs, status)
	}
	a.serves(runs("a", "success", 1))
	c.user = &syscall.Credential{Uid: 65532, Gid: 65532}
	if out, errs, status := c.run(t); out != "ran\n" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "permission denied") || status != 0 {
		t.Errorf("somebody else: %q, %q, %d, want that it ran and one line", out, errs, status)
	}
	wantLines(t, record(t, spool, "a"), runs("a", "success", 1))
}
