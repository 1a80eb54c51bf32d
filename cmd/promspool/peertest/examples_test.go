package peertest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

var examples = agenttest.Repository + "/examples"

// example returns the text of an example.
func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, name))
	agenttest.NoError(t, err)
	return string(text)
}

// replace replaces a text that occurs exactly once.
func replace(t *testing.T, text, from, to string) string {
	t.Helper()
	if n := strings.Count(text, from); n != 1 {
		t.Fatalf("%q is there %d times, want once, in:\n%s", from, n, text)
	}
	return strings.Replace(text, from, to, 1)
}

// TestExamplesAreListed compares the list of examples with the directories.
func TestExamplesAreListed(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, link := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(example(t, "README.md"), -1) {
		listed = append(listed, link[1])
	}
	slices.Sort(listed)
	there := slices.DeleteFunc(agenttest.Files(t, examples), func(name string) bool { return name == "README.md" })
	if !slices.Equal(listed, there) {
		t.Errorf("examples/README.md lists %q, there are %q", listed, there)
	}
}

// TestCronExample runs the cron job, with a stand-in for the backup program.
func TestCronExample(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "curl")
	a := agenttest.StartAgent(t, "")
	var line string
	for l := range strings.Lines(example(t, "cron/backup")) {
		if l[0] >= '0' && l[0] <= '9' {
			line = l
		}
	}
	fields := strings.Fields(line)
	if len(fields) < 7 || !slices.Equal(fields[5:7], []string{"root", "push-duration"}) {
		t.Fatalf("the cron file has no line of root's with push-duration, but %q", line)
	}
	bin := t.TempDir()
	script, err := filepath.Abs(examples + "/cron/push-duration")
	agenttest.NoError(t, err)
	agenttest.NoError(t, os.Symlink(script, bin+"/push-duration"))
	cron := agenttest.Command{
		Name: "/bin/sh", Args: []string{"-c", strings.Join(fields[6:], " ")},
		Env: []string{"PATH=" + bin + ":/usr/local/bin:/usr/bin:/bin", "PROMSPOOL_URL=" + a.URL},
	}
	backup := func(script string) {
		t.Helper()
		agenttest.NoError(t, os.WriteFile(bin+"/backup-databases", []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}

	backup("echo backed up")
	if out := cron.Must(t); out != "backed up\n" {
		t.Errorf("the job prints %q, want what its command does", out)
	}
	page := a.Page()
	agenttest.WantLines(t, page, "# TYPE job_duration_seconds gauge", `job_exit_status{job="nightly_backup"} 0`)
	success := regexp.MustCompile(`(?m)^job_last_success_timestamp_seconds\{job="nightly_backup"\} 1\.\d+e\+09$`).FindString(page)
	if success == "" || !strings.Contains(page, `job_duration_seconds{job="nightly_backup"} `) {
		t.Errorf("no duration or last success in:\n%s", page)
	}

	backup("exit 3")
	if _, stderr, status := cron.Run(t); status != 3 || stderr != "" {
		t.Errorf("the failed job has status %d and complains %q, want 3 and nothing", status, stderr)
	}
	agenttest.WantLines(t, a.Page(), `job_exit_status{job="nightly_backup"} 3`, success)

	a.Stop()
	if _, stderr, status := cron.Run(t); status != 3 || !strings.Contains(stderr, "the push of nightly_backup failed") {
		t.Errorf("without an agent the job has status %d and complains %q, want 3 and the push", status, stderr)
	}
}

func TestTextfileExample(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	odd := filepath.Join(t.TempDir(), `a "quoted" \directory`)
	agenttest.NoError(t, os.Mkdir(odd, 0o755))
	agenttest.NoError(t, os.WriteFile(odd+"/file", make([]byte, 100_000), 0o644))
	script := agenttest.Command{Name: examples + "/textfile/directory-size", Args: []string{a.Spool, odd}}
	script.Must(t)
	label := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(odd)
	agenttest.WaitFor(t, "the page has the directory", func() bool {
		return strings.Contains(a.Page(), `directory_size_bytes{directory="`+label+`"} 1`) // a prefix: the directory itself adds to it
	})
	before := a.Merge()
	agenttest.WantLines(t, before, "# HELP directory_size_bytes Disk space used by a directory and all below it.", "# TYPE directory_size_bytes gauge")
	if fi, err := os.Stat(a.Spool + "/directory-size.prom"); err != nil || fi.Mode() != 0o644 {
		t.Errorf("the file has mode %v, %v, want one that all can read", fi.Mode(), err)
	}

	script.Args = append(script.Args, "/no/such/directory")
	if _, stderr, status := script.Run(t); status == 0 || !strings.Contains(stderr, "/no/such/directory") {
		t.Errorf("for a directory that is not there the script has status %d and complains %q", status, stderr)
	}
	if got := agenttest.Files(t, a.Spool); !slices.Equal(got, []string{"directory-size.prom"}) {
		t.Errorf("the spool has %q, want the old file", got)
	}
	if after := a.Restart().Merge(); after != before {
		t.Errorf("after a script that failed the agent serves\n%s\nwant\n%s", after, before)
	}
}

// TestNodeExporterExample runs the command line of the example. It omits the host's own
// metrics.
func TestNodeExporterExample(t *testing.T) {
	t.Parallel()
	program := agenttest.Need(t, "prometheus-node-exporter")
	a := agenttest.StartAgent(t, "")
	a.Push("/metrics/job/backup", "backup_size_bytes 42\n")
	starts := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindAllStringSubmatch(example(t, "node_exporter/promspool.conf"), -1)
	if len(starts) != 2 || starts[0][1] != "" {
		t.Fatalf("the example has the commands %q, want an empty one to clear and one to run", starts)
	}
	line := replace(t, starts[1][1], "/var/lib/promspool/spool", a.Spool)
	line = replace(t, line, " $ARGS", " --web.listen-address=127.0.0.1:0 --collector.disable-defaults --collector.textfile")
	args := strings.Fields(replace(t, line, "/usr/bin/prometheus-node-exporter", program))
	node := agenttest.StartServer(t, listensOn, args[0], args[1:]...)
	agenttest.WantLines(t, nodePage(t, node), "node_textfile_scrape_error 0", `backup_size_bytes{job="backup"} 42`)
}

func TestWriteExample(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	who := filepath.Join(t.TempDir(), "who")
	script, err := filepath.Abs(examples + "/write/users-logged-in")
	agenttest.NoError(t, err)
	line := agenttest.Command{
		Name: "/bin/bash", Args: []string{"-o", "pipefail", "-c", script + " | " + agenttest.Promspool + " --spool.directory=" + a.Spool + " write users-logged-in"},
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "WHO=" + who},
	}
	agenttest.NoError(t, os.WriteFile(who, []byte("#!/bin/sh\necho 'ann pts/0 today'\necho 'ann pts/1 today'\necho 'bob pts/2 today'\n"), 0o755))
	line.Must(t)
	agenttest.WaitFor(t, "the page has the users", func() bool { return strings.Contains(a.Page(), `users_logged_in{user="bob"} 1`) })
	agenttest.WantLines(t, a.Page(), `users_logged_in{user="ann"} 2`)
	before := a.Merge()

	agenttest.NoError(t, os.WriteFile(who, []byte("#!/bin/sh\nexit 1\n"), 0o755))
	if _, stderr, status := line.Run(t); status == 0 || stderr == "" {
		t.Errorf("a script that fails ends with status %d and says %q", status, stderr)
	}
	if after := a.Restart().Merge(); after != before {
		t.Errorf("after a script that failed the agent serves\n%s\nwant\n%s", after, before)
	}
}

// TestTimerExample verifies the units, with existing programs, and runs the command of
// the service.
func TestTimerExample(t *testing.T) {
	t.Parallel()
	analyze := agenttest.Need(t, "systemd-analyze")
	dir := t.TempDir()
	service := example(t, "systemd-timer/users-logged-in.service")
	script, err := filepath.Abs(examples + "/write/users-logged-in")
	agenttest.NoError(t, err)
	service = replace(t, replace(t, service, "/usr/local/bin/users-logged-in", script), "/usr/bin/promspool", agenttest.Promspool)
	agenttest.NoError(t, os.WriteFile(dir+"/users-logged-in.service", []byte(service), 0o644))
	agenttest.NoError(t, os.WriteFile(dir+"/users-logged-in.timer", []byte(example(t, "systemd-timer/users-logged-in.timer")), 0o644))
	agenttest.Command{Name: analyze, Args: []string{"verify", "--recursive-errors=one", dir + "/users-logged-in.timer", dir + "/users-logged-in.service"}}.Must(t)

	start := regexp.MustCompile(`(?m)^ExecStart=/bin/bash -o pipefail -c '(.*)'$`).FindStringSubmatch(service)
	if start == nil {
		t.Fatalf("no command in\n%s", service)
	}
	spool := t.TempDir()
	agenttest.Command{Name: "/bin/bash", Args: []string{"-o", "pipefail", "-c", start[1]}, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "WHO=echo ann", "PROMSPOOL_SPOOL_DIRECTORY=" + spool}}.Must(t)
	text, err := os.ReadFile(spool + "/users-logged-in.prom")
	agenttest.NoError(t, err)
	agenttest.WantLines(t, string(text), `users_logged_in{user="ann"} 1`)
}

// TestJobUnit runs promspool-run@backup.service, with its own program and flags.
func TestJobUnit(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(agenttest.Repository + "/systemd/promspool-run@.service")
	agenttest.NoError(t, err)
	dir := t.TempDir()
	unit := strings.NewReplacer("/etc/promspool/jobs", dir, "/usr/bin/promspool", agenttest.Promspool, "%i", "backup").Replace(string(text))
	setting := func(name string) string {
		found := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(unit)
		if found == nil {
			t.Fatalf("no %s= in\n%s", name, unit)
		}
		return found[1]
	}
	if file := setting("EnvironmentFile"); file != "-"+dir+"/backup.env" {
		t.Errorf("EnvironmentFile=%s", file)
	}
	agenttest.NoError(t, os.WriteFile(dir+"/backup", []byte("#!/bin/sh\nexit 3\n"), 0o755))
	spool := t.TempDir()
	env := []string{"PROMSPOOL_SPOOL_DIRECTORY=" + spool, "RUN_ARGS=--every=1d --grace=1h --lock=skip"}
	_, stderr, status := agenttest.Command{Name: "/bin/sh", Args: []string{"-c", "exec " + setting("ExecStart")}, Env: env}.Run(t)
	if status != 3 || stderr != "" {
		t.Errorf("the unit ends with status %d and %q, want that of the job", status, stderr)
	}
	agenttest.WantLines(t, agenttest.StartAgent(t, spool).Page(), `promspool_job_exit_code{job="backup"} 3`)
}
