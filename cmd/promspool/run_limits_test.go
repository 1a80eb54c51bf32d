package main_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestRunUnderLimits checks the statements of docs/jobs.md about shell limits.
func TestRunUnderLimits(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the figures are those of linux/amd64")
	}
	static := staticPromspool(t)
	limited := func(t *testing.T, limit string, user *syscall.Credential) (errs string, status int, ran, recorded bool) {
		spool, out := openDir(t), openDir(t)
		agenttest.NoError(t, os.Chmod(spool, 0o777))
		agenttest.NoError(t, os.Chmod(out, 0o777))
		c := agenttest.Command{Name: "bash", Args: []string{"-c", "ulimit " + limit + ` && exec "$0" "$@"`, static, "--spool.directory=" + spool, "run", "--job=a", "--", "bash", "-c", `echo >"$0"; exit 3`, out + "/ran"}, User: user}
		_, errs, status = c.Run(t)
		_, err := os.Stat(out + "/ran")
		names, globErr := filepath.Glob(spool + "/job=*")
		agenttest.NoError(t, globErr)
		return errs, status, err == nil, len(names) > 0
	}
	t.Run("enough memory", func(t *testing.T) {
		if errs, status, ran, recorded := limited(t, "-v 1000000", nil); errs != "" || status != 3 || !ran || !recorded {
			t.Errorf("%.200q, %d, ran: %t, recorded: %t, want the status of the command and a record", errs, status, ran, recorded)
		}
	})
	t.Run("too little memory", func(t *testing.T) {
		errs, status, ran, recorded := limited(t, "-v 300000", nil)
		if status != 2 || ran || recorded || !strings.HasPrefix(errs, "fatal error: ") {
			t.Errorf("%.200q, %d, ran: %t, recorded: %t, want 2, a fatal error and neither", errs, status, ran, recorded)
		}
	})
	if os.Geteuid() != 0 {
		t.Skip("needs root to be a user without other processes")
	}
	user := &syscall.Credential{Uid: 64998, Gid: 64998} // the limit of processes does not apply to root
	t.Run("enough processes", func(t *testing.T) {
		if errs, status, ran, recorded := limited(t, "-u 40", user); errs != "" || status != 3 || !ran || !recorded {
			t.Errorf("%.200q, %d, ran: %t, recorded: %t, want the status of the command and a record", errs, status, ran, recorded)
		}
	})
	t.Run("too few processes", func(t *testing.T) {
		errs, status, ran, _ := limited(t, "-u 2", user)
		if status != 2 || ran || !strings.Contains(errs, "failed to create new OS thread") {
			t.Errorf("%.200q, %d, ran: %t, want 2, the missing command and no run", errs, status, ran)
		}
	})
}
