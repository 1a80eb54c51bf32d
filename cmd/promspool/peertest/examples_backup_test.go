package peertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestClientExamples runs the same job in two languages.
func TestClientExamples(t *testing.T) {
	t.Parallel()
	for name, program := range map[string]func(t *testing.T) string{
		"python": func(t *testing.T) string {
			t.Helper()
			needPython(t)
			return examples + "/python/backup.py"
		},
		"go": func(t *testing.T) string {
			t.Helper()
			program := filepath.Join(t.TempDir(), "backup")
			if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, examples+"/go").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return program
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := agenttest.Command{Name: program(t)}
			a := agenttest.StartAgent(t, "")
			job.Env = []string{"PROMSPOOL=" + a.Addr}
			run := func(script string, want int) (stderr string) {
				t.Helper()
				job.Args = []string{"/bin/sh", "-c", script}
				stdout, stderr, status := job.Run(t)
				if stdout != "backed up\n" || status != want {
					t.Errorf("the job prints %q and ends with status %d, want %d", stdout, status, want)
				}
				return stderr
			}
			if stderr := run("echo backed up", 0); stderr != "" {
				t.Errorf("complains %q", stderr)
			}
			page := a.Page()
			agenttest.WantLines(t, page, "# TYPE backup_duration_seconds gauge", `backup_exit_status{job="backup"} 0`)
			success := regexp.MustCompile(`(?m)^backup_last_success_timestamp_seconds\{job="backup"\} 1\.\d+e\+09$`).FindString(page)
			if success == "" {
				t.Errorf("no last success in\n%s", page)
			}
			run("echo backed up; exit 3", 3)
			agenttest.WantLines(t, a.Page(), `backup_exit_status{job="backup"} 3`, success)
			a.Stop()
			if stderr := run("echo backed up", 0); !strings.Contains(stderr, "the push failed") {
				t.Errorf("without an agent it complains %q", stderr)
			}
		})
	}
}

func TestBackupExample(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "tar")
	dir, spool := t.TempDir(), t.TempDir()
	agenttest.NoError(t, os.Mkdir(dir+"/data", 0o755))
	agenttest.NoError(t, os.WriteFile(dir+"/data/file", []byte("text"), 0o644))
	script := agenttest.Command{
		Name: examples + "/backup/backup-directory", Args: []string{dir + "/data", dir + "/data.tgz"},
		Env: []string{"PATH=" + filepath.Dir(agenttest.Promspool) + ":" + os.Getenv("PATH"), "PROMSPOOL_SPOOL_DIRECTORY=" + spool},
	}
	script.Must(t)
	if out := (agenttest.Command{Name: "tar", Args: []string{"-tzf", dir + "/data.tgz"}}).Must(t); !strings.Contains(out, "./file") {
		t.Errorf("the backup has %q", out)
	}
	a := agenttest.StartAgent(t, spool)
	page := a.Page()
	agenttest.WantLines(t, page, "# TYPE backup_size_bytes gauge")
	if !regexp.MustCompile(`(?m)^backup_last_success_timestamp_seconds 1\d{9}$|^backup_last_success_timestamp_seconds 1\.\d+e\+09$`).MatchString(page) {
		t.Errorf("no last success in\n%s", page)
	}
	before := a.Merge()
	script.Args[0] = dir + "/none"
	if _, stderr, status := script.Run(t); status == 0 || !strings.Contains(stderr, "/none") {
		t.Errorf("of a directory that is not there: status %d, %q", status, stderr)
	}
	if after := a.Restart().Merge(); after != before {
		t.Errorf("after a run that failed the agent serves\n%s\nwant\n%s", after, before)
	}
	script.Args[0] = dir + "/data"
	script.Env[1] = "PROMSPOOL_SPOOL_DIRECTORY=" + dir + "/none"
	if _, stderr, status := script.Run(t); status != 0 || !strings.Contains(stderr, "no metrics were written") {
		t.Errorf("without a spool: status %d, %q", status, stderr)
	}
}
