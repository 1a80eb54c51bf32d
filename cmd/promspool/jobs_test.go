package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// runJob returns the command that runs the job a.
func runJob(spool, script string, flags ...string) command {
	args := append([]string{"--spool.directory=" + spool, "run", "--job=a"}, flags...)
	return command{name: promspool, args: append(args, "--", "sh", "-c", script)}
}

// TestStoryOfAJob tells what happens to a job as Prometheus sees it: the alerts of
// the example fire and resolve, but for the times that they wait.
func TestStoryOfAJob(t *testing.T) {
	t.Parallel()
	program := need(t, "prometheus")
	a := startAgent(t, "", "--job.interval=50ms")
	dir := t.TempDir()
	rules := regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAllString(example(t, "alerts/promspool.rules.yml"), "")
	done(t, os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(rules), 0o644))
	config := replace(t, `global: {scrape_interval: 200ms, evaluation_interval: 200ms}
rule_files: [rules.yml]
scrape_configs:
  - {job_name: promspool, honor_labels: true, static_configs: [{targets: ["TARGET"]}]}
`, "TARGET", a.addr)
	done(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o644))
	p := &realPrometheus{startServer(t, listensOn, program, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")}
	fires := func(alert string, want bool) {
		t.Helper()
		waitFor(t, fmt.Sprintf("%s fires: %v", alert, want), func() bool {
			series, _ := p.query(fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing",job="a"}`, alert))
			return len(series) > 0 == want
		})
	}
	has := func(expr, value string) {
		t.Helper()
		waitFor(t, expr+" is "+value, func() bool { _, got := p.query(expr); return got == value })
	}

	// It is declared and does not run.
	command{name: promspool, args: []string{"--spool.directory=" + a.spool, "job", "declare", "a", "--every=100ms"}}.must(t)
	fires("JobOverdue", true)
	has(`promspool_job_success_timestamp_seconds{job="a"}`, "0")
	has(`sum(promspool_job_runs_total{job="a"})`, "0")
	has(`count(promspool_job_runs_total{job="a"})`, "5")
	// It runs, and says itself what is expected.
	runJob(a.spool, "exit 0", "--every=1h", "--grace=1m", "--max-runtime=1s").must(t)
	fires("JobOverdue", false)
	has(`promspool_job_runs_total{job="a",outcome="success"}`, "1")
	has(`promspool_job_next_due_timestamp_seconds{job="a"} - promspool_job_start_timestamp_seconds > bool 3659`, "1")
	fires("JobNeverSucceeded", false)
	// It fails.
	if _, _, status := runJob(a.spool, "exit 3").run(t); status != 3 {
		t.Errorf("exit status %d, want 3", status)
	}
	fires("JobFailed", true)
	has(`promspool_job_exit_code{job="a"}`, "3")
	// It takes too long, and is killed with everything that knows of it.
	j := startJob(t, a.spool, "")
	has(`promspool_job_running{job="a"}`, "1")
	fires("JobRunsTooLong", true)
	done(t, j.cmd.Process.Kill())
	done(t, syscall.Kill(j.pid(), syscall.SIGKILL))
	j.wait()
	fires("JobLost", true)
	fires("JobRunsTooLong", false)
	has(`promspool_job_exit_code{job="a"}`, "-1")
	// It works again.
	runJob(a.spool, "exit 0").must(t)
	has(`promspool_job_exit_code{job="a"}`, "0")
	fires("JobFailed", false)
	has(`promspool_job_runs_total{job="a",outcome="success"}`, "2")
	has(`promspool_job_end_timestamp_seconds{job="a"} == bool promspool_job_success_timestamp_seconds`, "1")
	command{name: promspool, args: []string{"--spool.directory=" + a.spool, "job", "forget", "a"}}.must(t)
	waitFor(t, "the job is forgotten", func() bool { series, _ := p.query(`{job="a",__name__=~"promspool_job_.+"}`); return len(series) == 0 })
}

// inNamespace runs a script of root's with mounts of its own.
func inNamespace(t *testing.T, script string, env ...string) command {
	t.Helper()
	unshare := need(t, "unshare")
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	if out, err := exec.Command(unshare, "--mount", "mount", "-t", "tmpfs", "none", t.TempDir()).CombinedOutput(); err != nil {
		if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
			t.Fatalf("mounting: %v %s", err, out)
		}
		t.Skipf("mounting: %v %s", err, out)
	}
	return command{name: unshare, args: []string{"--mount", "sh", "-ec", script}, env: env}
}

func TestRunOnAFullDisk(t *testing.T) {
	t.Parallel()
	c := inNamespace(t, `mount -t tmpfs -o size=16k none "$DIR"
$RUN -- true
cat /dev/zero > "$DIR/zero" 2>/dev/null || true
$RUN -- echo ran
$RUN --strict -- echo never || echo $?
rm "$DIR/zero"
cat "$DIR/job=a.prom"`, "DIR="+t.TempDir())
	c.env = append(c.env, "RUN="+promspool+" run --job=a", "PROMSPOOL_SPOOL_DIRECTORY="+c.env[0][len("DIR="):])
	out, errs, status := c.run(t)
	if status != 0 || !strings.HasPrefix(out, "ran\n125\n") {
		t.Errorf("it printed %q with status %d", out, status)
	}
	line := `promspool: job {job="a"}: its start is not recorded: storing group {job="a"}: no space left on device` + "\n"
	if errs != line+line {
		t.Errorf("it complained %q, want %q for each run", errs, line)
	}
	wantLines(t, out, runs("a", "success", 1))
}

// TestCron has the real cron run a job, with its own idea of an environment.
func TestCron(t *testing.T) {
	t.Parallel()
	cron := need(t, "cron")
	spool := t.TempDir()
	a := startAgent(t, spool)
	// What it would run as well is covered by mounts; after a boot is now.
	c := inNamespace(t, `for dir in /var/spool/cron/crontabs /etc/cron.d /run; do mount -t tmpfs -o mode=755 none $dir; done
mount --bind /dev/null /etc/crontab
printf '%s\n' "$CRONTAB" > /var/spool/cron/crontabs/root
chmod 600 /var/spool/cron/crontabs/root
exec "$CRON" -f`)
	cmd := exec.Command(c.name, c.args...)
	cmd.Env = append(os.Environ(), "CRON="+cron, "CRONTAB="+
		"@reboot "+promspool+" --spool.directory="+spool+" run --job=good --every=1d -- sh -c 'echo \"rows 5\" > $PROMSPOOL_TEXTFILE'\n"+
		"@reboot "+promspool+" --spool.directory="+spool+" run --job=bad -- sh -c 'exit 4'")
	log := &buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	done(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("cron said %s", log)
		}
	})
	a.serves(runs("good", "success", 1))
	a.serves(runs("bad", "failure", 1))
	wantLines(t, a.page(), `rows{job="good"} 5`, `promspool_job_exit_code{job="bad"} 4`)
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
				a := startAgent(t, "")
				url, page = a.url, a.page
			case "Pushgateway":
				s := startPushgateway(t)
				url = "http://" + s.addr
				page = (&agent{server: s, url: url}).page
			default:
				s := startPushgateway(t, "--web.route-prefix=/gateway")
				url = "http://" + s.addr + "/gateway/"
				page = (&agent{server: s, url: "http://" + s.addr + "/gateway"}).page
			}
			run := func(script string) (status int) {
				t.Helper()
				_, errs, status := runJob("/none", script, "--push-url="+url, "--every=1d", "--label=path=/a/b").run(t)
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

func TestRunFallsBackToTheSpool(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	url := "--push-url=http://127.0.0.1:1"
	if out, errs, status := runJob(spool, "echo ran; exit 3", url, "--patience=200ms").run(t); out != "ran\n" || errs != "" || status != 3 {
		t.Errorf("it printed %q and %q with status %d", out, errs, status)
	}
	wantLines(t, record(t, spool, "a"), runs("a", "failure", 1), `promspool_job_running{job="a"} 0`)
	out, errs, status := runJob("/none", "echo ran", url, "--patience=200ms").run(t)
	want := `promspool: job {job="a"}: its start is not recorded: asking http://127.0.0.1:1/metrics: dial tcp 127.0.0.1:1: connect: connection refused; opening the directory /none: no such file or directory: say with --spool.directory or PROMSPOOL_SPOOL_DIRECTORY where the spool is` + "\n"
	if out != "ran\n" || errs != want || status != 0 {
		t.Errorf("it printed %q and %q with status %d, want %q", out, errs, status, want)
	}
}

func TestPingsByCurl(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl")
	a := startAgent(t, "", "--ping.enable", "--boot-id=first")
	ping := func(path string) {
		t.Helper()
		c := command{name: curl, args: []string{"-fsS", "-m", "10", "--retry", "5", "-o", "/dev/null", a.url + "/ping/" + path}}
		c.must(t)
	}
	ping("backup/start")
	wantLines(t, a.page(), `promspool_job_running{job="backup"} 1`)
	ping("backup")
	ping("backup/start")
	// It goes on while the agent is started anew, but not while the host is.
	a = a.restart("--ping.enable", "--boot-id=first", "--job.interval=10ms")
	a.push("/metrics/job/other", "other 1\n")
	wantLines(t, a.page(), `promspool_job_running{job="backup"} 1`, runs("backup", "success", 1))
	a = a.restart("--ping.enable", "--boot-id=second", "--job.interval=10ms")
	a.serves(runs("backup", "lost", 1))
	a = a.restart()
	if code, _ := a.send("GET", "/ping/backup", ""); code != 404 {
		t.Errorf("a ping without --ping.enable = %d, want 404", code)
	}
}
