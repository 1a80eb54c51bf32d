package peertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestStoryOfAJob follows a job in Prometheus: the alerts of the example fire and
// resolve. Their waiting times are removed.
func TestStoryOfAJob(t *testing.T) {
	t.Parallel()
	program := agenttest.Need(t, "prometheus")
	a := agenttest.StartAgent(t, "", "--job.interval=50ms")
	dir := t.TempDir()
	rules := regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAllString(example(t, "alerts/promspool.rules.yml"), "")
	agenttest.NoError(t, os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(rules), 0o644))
	config := replace(t, `global: {scrape_interval: 200ms, evaluation_interval: 200ms}
rule_files: [rules.yml]
scrape_configs:
  - {job_name: promspool, honor_labels: true, static_configs: [{targets: ["TARGET"]}]}
`, "TARGET", a.Addr)
	agenttest.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o644))
	p := &realPrometheus{agenttest.StartServer(t, listensOn, program, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")}
	fires := func(alert string, want bool) {
		t.Helper()
		agenttest.WaitFor(t, fmt.Sprintf("%s fires: %v", alert, want), func() bool {
			series, _ := p.query(fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing",job="a"}`, alert))
			return len(series) > 0 == want
		})
	}
	has := func(expr, value string) {
		t.Helper()
		agenttest.WaitFor(t, expr+" is "+value, func() bool { _, got := p.query(expr); return got == value })
	}

	// The job is declared and does not run.
	agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + a.Spool, "job", "declare", "a", "--every=100ms"}}.Must(t)
	fires("JobOverdue", true)
	has(`promspool_job_success_timestamp_seconds{job="a"}`, "0")
	has(`sum(promspool_job_runs_total{job="a"})`, "0")
	has(`count(promspool_job_runs_total{job="a"})`, "5")
	// The job runs with its own expectations.
	agenttest.RunJob(a.Spool, "exit 0", "--every=1h", "--grace=1m", "--max-runtime=1s").Must(t)
	fires("JobOverdue", false)
	has(`promspool_job_runs_total{job="a",outcome="success"}`, "1")
	has(`promspool_job_next_due_timestamp_seconds{job="a"} - promspool_job_start_timestamp_seconds > bool 3659`, "1")
	fires("JobNeverSucceeded", false)
	// The job fails.
	if _, _, status := agenttest.RunJob(a.Spool, "exit 3").Run(t); status != 3 {
		t.Errorf("exit status %d, want 3", status)
	}
	fires("JobFailed", true)
	has(`promspool_job_exit_code{job="a"}`, "3")
	// The job runs too long and is killed, together with promspool run.
	j := agenttest.StartJob(t, a.Spool, "")
	has(`promspool_job_running{job="a"}`, "1")
	fires("JobRunsTooLong", true)
	agenttest.NoError(t, j.Cmd.Process.Kill())
	agenttest.NoError(t, syscall.Kill(j.PID(), syscall.SIGKILL))
	j.Wait()
	fires("JobLost", true)
	fires("JobFailed", false)
	fires("JobRunsTooLong", false)
	has(`promspool_job_exit_code{job="a"}`, "-1")
	// The job succeeds again.
	agenttest.RunJob(a.Spool, "exit 0").Must(t)
	has(`promspool_job_exit_code{job="a"}`, "0")
	fires("JobLost", false)
	fires("JobFailed", false)
	has(`promspool_job_runs_total{job="a",outcome="success"}`, "2")
	has(`promspool_job_end_timestamp_seconds{job="a"} == bool promspool_job_success_timestamp_seconds`, "1")
	agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + a.Spool, "job", "forget", "a"}}.Must(t)
	agenttest.WaitFor(t, "the job is forgotten", func() bool { series, _ := p.query(`{job="a",__name__=~"promspool_job_.+"}`); return len(series) == 0 })
}

// TestCron has the real cron run a job, in cron's environment.
func TestCron(t *testing.T) {
	t.Parallel()
	cron := agenttest.Need(t, "cron")
	spool := t.TempDir()
	a := agenttest.StartAgent(t, spool)
	// Mounts hide its other jobs; @reboot jobs run now.
	c := agenttest.InNamespace(t, `for dir in /var/spool/cron/crontabs /etc/cron.d /run; do mount -t tmpfs -o mode=755 none $dir; done
mount --bind /dev/null /etc/crontab
printf '%s\n' "$CRONTAB" > /var/spool/cron/crontabs/root
chmod 600 /var/spool/cron/crontabs/root
exec "$CRON" -f`)
	cmd := exec.Command(c.Name, c.Args...)
	cmd.Env = append(os.Environ(), "CRON="+cron, "CRONTAB="+
		"@reboot "+agenttest.Promspool+" --spool.directory="+spool+" run --job=good --every=1d -- sh -c 'echo \"rows 5\" > $PROMSPOOL_TEXTFILE'\n"+
		"@reboot "+agenttest.Promspool+" --spool.directory="+spool+" run --job=bad -- sh -c 'exit 4'")
	log := &agenttest.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	agenttest.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("cron said %s", log)
		}
	})
	a.Serves(agenttest.Runs("good", "success", 1))
	a.Serves(agenttest.Runs("bad", "failure", 1))
	agenttest.WantLines(t, a.Page(), `rows{job="good"} 5`, `promspool_job_exit_code{job="bad"} 4`)
}

func TestRunRecordsAtAURL(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"promspool", "Pushgateway", "Pushgateway behind a path"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var page func() string
			var url string
			switch kind {
			case "promspool":
				a := agenttest.StartAgent(t, "")
				url, page = a.URL, a.Page
			case "Pushgateway":
				s := startPushgateway(t)
				url = "http://" + s.Addr
				page = (&agenttest.Agent{Server: s, URL: url}).Page
			default:
				s := startPushgateway(t, "--web.route-prefix=/gateway")
				url = "http://" + s.Addr + "/gateway/"
				page = (&agenttest.Agent{Server: s, URL: "http://" + s.Addr + "/gateway"}).Page
			}
			run := func(script string) (status int) {
				t.Helper()
				_, errs, status := agenttest.RunJob("/none", script, "--push-url="+url, "--every=1d", "--label=path=/a/b").Run(t)
				if errs != "" {
					t.Errorf("it complained %q", errs)
				}
				return status
			}
			at := func(name, more string) *regexp.Regexp {
				if more != "" {
					more += ","
				}
				return regexp.MustCompile(`(?m)^` + name + `\{(?:instance="",)?job="a",` + more + `path="/a/b"\} (\S+)$`)
			}
			is := func(name, more, want string) {
				t.Helper()
				text := page()
				if m := at(name, more).FindStringSubmatch(text); m == nil || m[1] != want {
					t.Errorf("%s{%s} = %q, want %s in\n%s", name, more, m, want, text)
				}
			}
			if got := run("echo rows 5 > $PROMSPOOL_TEXTFILE"); got != 0 {
				t.Errorf("exit status %d, want 0", got)
			}
			is("rows", "", "5")
			run("exit 0")
			if got := run("exit 3"); got != 3 {
				t.Errorf("exit status %d, want 3", got)
			}
			is("promspool_job_runs_total", `outcome="success"`, "2")
			is("promspool_job_runs_total", `outcome="failure"`, "1")
			is("promspool_job_exit_code", "", "3")
			is("promspool_job_running", "", "0")
			if at("promspool_job_next_due_timestamp_seconds", "").FindString(page()) == "" {
				t.Error("it is not said when the job is due")
			}
		})
	}
}

func TestPingsByCurl(t *testing.T) {
	t.Parallel()
	curl := agenttest.Need(t, "curl")
	a := agenttest.StartAgent(t, "", "--ping.enable", "--boot-id=first")
	ping := func(path string) {
		t.Helper()
		c := agenttest.Command{Name: curl, Args: []string{"-fsS", "-m", "120", "--retry", "5", "-o", "/dev/null", a.URL + "/ping/" + path}}
		c.Must(t)
	}
	ping("backup/start")
	agenttest.WantLines(t, a.Page(), `promspool_job_running{job="backup"} 1`)
	ping("backup")
	ping("backup/start")
	// The job survives a restart of the agent, but not of the host.
	a = a.Restart("--ping.enable", "--boot-id=first", "--job.interval=10ms")
	a.Push("/metrics/job/other", "other 1\n")
	agenttest.WantLines(t, a.Page(), `promspool_job_running{job="backup"} 1`, agenttest.Runs("backup", "success", 1))
	a = a.Restart("--ping.enable", "--boot-id=second", "--job.interval=10ms")
	a.Serves(agenttest.Runs("backup", "lost", 1))
	a = a.Restart()
	if code, _ := a.Send("GET", "/ping/backup", ""); code != 404 {
		t.Errorf("a ping without --ping.enable = %d, want 404", code)
	}
}
