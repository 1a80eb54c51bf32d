package peertest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestRunExample runs the cron job twice.
func TestRunExample(t *testing.T) {
	t.Parallel()
	var line string
	for l := range strings.Lines(example(t, "run/backup")) {
		if l[0] >= '0' && l[0] <= '9' {
			line = l
		}
	}
	fields := strings.Fields(line)
	if len(fields) < 7 || fields[5] != "root" {
		t.Fatalf("the cron file has no line of root's, but %q", line)
	}
	bin, spool := t.TempDir(), t.TempDir()
	cron := agenttest.Command{
		Name: "/bin/sh", Args: []string{"-c", strings.Join(fields[6:], " ")},
		Env: []string{"PATH=" + bin + ":" + filepath.Dir(agenttest.Promspool) + ":/usr/local/bin:/usr/bin:/bin", "PROMSPOOL_SPOOL_DIRECTORY=" + spool},
	}
	backup := func(script string) {
		t.Helper()
		agenttest.NoError(t, os.WriteFile(bin+"/backup-databases", []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	backup("echo backed up")
	if out := cron.Must(t); out != "backed up\n" {
		t.Errorf("the job prints %q, want what its command does", out)
	}
	a := agenttest.StartAgent(t, spool)
	agenttest.WantLines(t, a.Page(), `promspool_job_exit_code{job="nightly_backup"} 0`)
	backup("exit 3")
	if _, _, status := cron.Run(t); status != 3 {
		t.Errorf("the failed job has status %d, want 3", status)
	}
	a.Serves(`promspool_job_exit_code{job="nightly_backup"} 3`)
	due := regexp.MustCompile(`(?m)^promspool_job_next_due_timestamp_seconds\{job="nightly_backup"\} 1\.\d+e\+09$`)
	if page := a.Page(); !due.MatchString(page) {
		t.Errorf("it is not said when the job is due in\n%s", page)
	}
}
