package main_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
	"github.com/promspool/promspool/filestore"
)

func TestScriptDoctor(t *testing.T) { runScripts(t, "doctor") }

// TestDoctorOnALockedSpool has a lock that blocks every push. No other check finds it.
func TestDoctorOnALockedSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func() (string, int) {
		stdout, _, status := agenttest.Command{
			Name: agenttest.Promspool, Args: []string{"--spool.directory=" + dir, "doctor", "--url=http://127.0.0.1:1", "--prometheus.config=none", "--node-exporter.defaults=none"},
		}.Run(t)
		return stdout, status
	}
	store, err := filestore.Open(dir, nil) // creates the lock
	agenttest.NoError(t, err)
	defer store.Close()
	if stdout, _ := run(); strings.Contains(stdout, "lock:") {
		t.Errorf("without a lock:\n%s", stdout)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".promspool.lock"), os.O_RDWR, 0)
	agenttest.NoError(t, err)
	defer f.Close()
	agenttest.NoError(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	if stdout, status := run(); status != 1 || !strings.Contains(stdout, "wrong    lock: another process holds the lock of the spool") {
		t.Errorf("with the lock held: exit status %d\n%s", status, stdout)
	}
}

// TestDoctorOnAnotherProgram checks another program on the agent's port.
func TestDoctorOnAnotherProgram(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"a Pushgateway": `{"status":"success","data":{"build_information":{"version":"1.5.1"},"flags":{"push.disable-consistency-check":"false"}}}`,
		"some page":     `<html>`,
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
			defer srv.Close()
			stdout, stderr, status := agenttest.Command{
				Name: agenttest.Promspool, Args: []string{"--spool.directory=" + t.TempDir(), "doctor", "--url=" + srv.URL, "--prometheus.config=none", "--node-exporter.defaults=none"},
			}.Run(t)
			if status != 1 || stderr != "" || !strings.Contains(stdout, "is not promspool, perhaps a Pushgateway") {
				t.Errorf("exit status %d\n%s%s", status, stdout, stderr)
			}
		})
	}
}
