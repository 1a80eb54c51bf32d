//go:build linux

package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// patience is how long anything may take that is not the point of a test.
const patience = 2 * time.Minute

var (
	promspool string // the program under test
	workDir   string // for spools and images; it is removed in the end
	seed      = uint64(time.Now().UnixNano())
)

func TestMain(m *testing.M) {
	switch os.Getenv("PROMSPOOL_TORTURE") {
	case "off":
		fmt.Println("SKIP: the torture: PROMSPOOL_TORTURE=off")
		return
	case "":
		if !agenttest.Asked("the torture") {
			os.Exit(m.Run())
		}
	}
	if os.Geteuid() == 0 && os.Getenv("PROMSPOOL_TORTURE_NAMESPACE") == "" {
		os.Exit(again())
	}
	os.Exit(buildAndRun(m))
}

// again runs the tests in a mount namespace of their own, with which all that
// they mount goes, however they end.
func again() int {
	runtime.LockOSThread() // the signal is for the death of the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), "PROMSPOOL_TORTURE_NAMESPACE=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func buildAndRun(m *testing.M) int {
	syscall.Umask(0o077) // for the agents: they have to set the modes of their files
	if s := os.Getenv("PROMSPOOL_TORTURE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			fmt.Fprintln(os.Stderr, "PROMSPOOL_TORTURE_SEED:", err)
			return 1
		}
	}
	var err error
	if workDir, err = os.MkdirTemp("", "promspool-torture-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(workDir)
	promspool = filepath.Join(workDir, "promspool")
	if out, err := build(promspool); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// build builds the program, without the race detector: it is the product that
// is tried.
func build(to string, flags ...string) (output string, err error) {
	args := append([]string{"build", "-buildvcs=false", "-o", to}, flags...)
	cmd := exec.Command("go", append(args, "github.com/promspool/promspool/cmd/promspool")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// long reports whether the long form was asked for.
func long() bool { return os.Getenv("PROMSPOOL_TORTURE") == "long" }

// size returns the one of the form that runs.
func size[T any](short, inLong T) T {
	if long() {
		return inLong
	}
	return short
}

// choices returns a source of random choices that the seed repeats.
func choices(t *testing.T, stream uint64) *rand.Rand {
	t.Logf("PROMSPOOL_TORTURE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, stream))
}

// missing skips the test for want of something, or fails it where everything is
// promised to be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// need skips the test unless all of the programs are there.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing(t, fmt.Sprintf("a program is missing: %v", err))
		}
	}
}

// needMounts skips the test where it may not mount, or has no loop devices.
func needMounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "mounting needs root")
	}
	need(t, "mount", "mkfs.ext4")
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		missing(t, "there are no loop devices: "+err.Error())
	}
}

// needDisk skips the test where there can be no disk that remembers.
func needDisk(t *testing.T) {
	t.Helper()
	needMounts(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		missing(t, "there is no FUSE: "+err.Error())
	}
}

// done fails the test if something that has to succeed did not.
func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually returns nil once the condition does, and its last error if it does
// not in time.
func eventually(within time.Duration, condition func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); ; <-tick.C {
		err := condition()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// directory makes an empty directory below the one for this run.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(workDir, "")
	done(t, err)
	return dir
}
