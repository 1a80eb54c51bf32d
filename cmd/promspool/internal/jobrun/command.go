package jobrun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/ingest/job"
)

// An ending describes how a command ended.
type ending struct {
	job.End
	signal syscall.Signal // that killed it, unless promspool sent it
}

// execute runs the command and waits for it. The command inherits the environment, the
// standard files and the given descriptor, which execute closes.
func (r *jobRun) execute(inherited *os.File, own *textfile) ending {
	cmd := exec.Command(r.Command[0], r.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if own.dir != "" {
		cmd.Env = append(os.Environ(), textfileVariable+"="+own.path())
	}
	// With a time limit the command gets a process group, so that all of it can be
	// stopped. In the foreground of a terminal it does not: the new group would be in
	// the background and could not read from the terminal.
	foreground := inForeground()
	grouped := r.Timeout > 0 && !foreground
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: grouped}

	signals := make(chan os.Signal, 32)
	signal.Notify(signals, forwarded()...)
	// Without this, a line on a standard error without a reader would end promspool.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	cmd, err := start(cmd)
	if inherited != nil {
		_ = inherited.Close() // the command has it now
	}
	if err != nil {
		return r.notStarted(err)
	}

	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its state has the result
		close(exited)
	}()
	p := process{pid: cmd.Process.Pid, group: grouped}
	var timeout, kill <-chan time.Time
	if r.Timeout > 0 {
		timeout = time.After(r.Timeout)
	}
	timedOut := false
	for {
		select {
		case s := <-signals:
			// A terminal sends its signals to the whole foreground group.
			if s := s.(syscall.Signal); grouped || !typed(s) || !inForeground() {
				p.signal(s)
			}
		case <-timeout:
			timedOut = true
			adoptOrphans()
			p.signal(syscall.SIGTERM)
			p.signal(syscall.SIGCONT) // a stopped process could not end
			kill = time.After(r.KillAfter)
		case <-kill:
			p.signal(syscall.SIGKILL)
			kill = nil
		case <-exited:
			if timedOut && grouped {
				p.stopOthers(kill)
			}
			return ended(cmd.ProcessState, timedOut)
		}
	}
}

// start starts the command as a shell does. A file in an unknown format is run as a shell
// script, and the command may be in the current directory.
func start(cmd *exec.Cmd) (*exec.Cmd, error) {
	if errors.Is(cmd.Err, exec.ErrDot) {
		cmd.Err = nil
	}
	err := cmd.Start()
	if !errors.Is(err, syscall.ENOEXEC) {
		return cmd, err
	}
	script := exec.Command("/bin/sh", append([]string{cmd.Path}, cmd.Args[1:]...)...)
	script.Stdin, script.Stdout, script.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	script.Env, script.SysProcAttr = cmd.Env, cmd.SysProcAttr
	return script, script.Start()
}

func (r *jobRun) notStarted(err error) ending {
	code := exitNotStarted
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNotFound
	}
	var path *fs.PathError
	var look *exec.Error
	switch {
	case errors.As(err, &look):
		err = look.Err
	case errors.As(err, &path):
		err = path.Err
	}
	fmt.Fprintf(r.Stderr, "promspool: starting %s: %v\n", r.Command[0], err)
	return ending{End: job.End{Outcome: job.Failure, ExitCode: code}}
}

// ended returns how a command ended.
func ended(state *os.ProcessState, timedOut bool) ending {
	e := ending{End: job.End{Outcome: job.Success, ExitCode: state.ExitCode(), Usage: usageOf(state)}}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.signal = status.Signal()
		e.ExitCode = 128 + int(e.signal)
	}
	switch {
	case timedOut:
		e.Outcome, e.ExitCode, e.signal = job.Timeout, exitTimeout, 0
	case e.ExitCode != 0:
		e.Outcome = job.Failure
	}
	return e
}

func usageOf(state *os.ProcessState) *job.Usage {
	u := &job.Usage{User: state.UserTime(), System: state.SystemTime()}
	if r, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.MaxResident = int64(r.Maxrss) //nolint:unconvert // it is narrower elsewhere
		if runtime.GOOS != "darwin" {
			u.MaxResident <<= 10 // KiB
		}
	}
	return u
}

// forwarded returns the signals that are passed on to the command. The command also
// ignores each signal that was ignored when promspool started, as by nohup.
func forwarded() []os.Signal {
	var all []os.Signal
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH} {
		if !signal.Ignored(s) {
			all = append(all, s)
		}
	}
	return all
}

// typed reports whether a signal is one that a terminal sends.
func typed(s syscall.Signal) bool {
	return s == syscall.SIGINT || s == syscall.SIGQUIT || s == syscall.SIGWINCH
}

// inForeground reports whether promspool is in the foreground of a terminal.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close() //nolint:errcheck // only asked
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// A process is the target of signals.
type process struct {
	pid   int
	group bool // all of its group
}

// signal sends a signal and reports whether a process has received it.
func (p process) signal(s syscall.Signal) bool {
	if p.group {
		return syscall.Kill(-p.pid, s) == nil
	}
	return syscall.Kill(p.pid, s) == nil
}

// stopOthers stops the other processes of a group whose first process has ended.
func (p process) stopOthers(kill <-chan time.Time) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for kill != nil && p.signal(0) {
		_, _ = syscall.Wait4(-p.pid, nil, syscall.WNOHANG, nil) // if promspool is its parent by now
		select {
		case <-tick.C:
		case <-kill:
			kill = nil
		}
	}
	p.signal(syscall.SIGKILL) // there may be no process left
}
