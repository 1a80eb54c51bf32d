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

// timeout limits operations whose duration is not under test.
const timeout = 2 * time.Minute

var (
	promspool string // the program under test
	workDir   string // for spools and images; deleted at the end
	seed      = uint64(time.Now().UnixNano())
)

func TestMain(m *testing.M) {
	switch os.Getenv("PROMSPOOL_TORTURE") {
	case "off":
		fmt.Println("SKIP: the torture: PROMSPOOL_TORTURE=off")
		return
	case "":
		if !agenttest.RunAll("the torture") {
			os.Exit(m.Run())
		}
	}
	if os.Geteuid() == 0 && os.Getenv("PROMSPOOL_TORTURE_NAMESPACE") == "" {
		os.Exit(reexec())
	}
	os.Exit(buildAndRun(m))
}

// reexec runs the tests in a new mount namespace, so that their mounts end with them,
// however they end.
func reexec() int {
	runtime.LockOSThread() // Pdeathsig is sent when the thread ends
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
	syscall.Umask(0o077) // the agents must set the modes of their files themselves
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

// build builds the program. It omits the race detector, as the tests are of the product.
func build(to string, flags ...string) (output string, err error) {
	args := append([]string{"build", "-buildvcs=false", "-o", to}, flags...)
	cmd := exec.Command("go", append(args, "github.com/promspool/promspool/cmd/promspool")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// long reports whether the long form is selected.
func long() bool { return os.Getenv("PROMSPOOL_TORTURE") == "long" }

// size returns the value for the current form.
func size[T any](short, inLong T) T {
	if long() {
		return inLong
	}
	return short
}

// choices returns a random source that depends on the seed.
func choices(t *testing.T, stream uint64) *rand.Rand {
	t.Logf("PROMSPOOL_TORTURE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, stream))
}

// missing skips the test, or fails it if PROMSPOOL_TEST_NO_SKIP is set.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// need skips the test unless all of the programs are installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing(t, fmt.Sprintf("a program is missing: %v", err))
		}
	}
}

// needMounts skips the test without permission to mount or without loop devices.
func needMounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "mounting needs root")
	}
	need(t, "mount", "mkfs.ext4")
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		missing(t, "no loop devices: "+err.Error())
	}
}

// needDisk skips the test if a disk with a log is not possible.
func needDisk(t *testing.T) {
	t.Helper()
	needMounts(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		missing(t, "there is no FUSE: "+err.Error())
	}
}

// done fails the test if err is not nil.
func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually retries the condition until it returns nil. It returns the last error if
// the time is up.
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

// directory creates an empty directory below that of this run.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(workDir, "")
	done(t, err)
	return dir
}
