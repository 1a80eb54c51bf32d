package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRunExample runs what cron would run, twice.
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
	cron := command{
		name: "/bin/sh", args: []string{"-c", strings.Join(fields[6:], " ")},
		env: []string{"PATH=" + bin + ":" + filepath.Dir(promspool) + ":/usr/local/bin:/usr/bin:/bin", "PROMSPOOL_SPOOL_DIRECTORY=" + spool},
	}
	backup := func(script string) {
		t.Helper()
		done(t, os.WriteFile(bin+"/backup-databases", []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	backup("echo backed up")
	if out := cron.must(t); out != "backed up\n" {
		t.Errorf("the job prints %q, want what its command does", out)
	}
	a := startAgent(t, spool)
	wantLines(t, a.page(), `promspool_job_exit_code{job="nightly_backup"} 0`)
	backup("exit 3")
	if _, _, status := cron.run(t); status != 3 {
		t.Errorf("the failed job has status %d, want 3", status)
	}
	a.serves(`promspool_job_exit_code{job="nightly_backup"} 3`)
	due := regexp.MustCompile(`(?m)^promspool_job_next_due_timestamp_seconds\{job="nightly_backup"\} 1\.\d+e\+09$`)
	if page := a.page(); !due.MatchString(page) {
		t.Errorf("it is not said when the job is due in\n%s", page)
	}
}
