package peertest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// A bootedRoot is a clean root whose systemd runs as the first process of a container
// with its own network.
type bootedRoot struct {
	*cleanRoot
	leader string // process ID of the container's systemd
}

// boot starts a root. If systemd-nspawn cannot, the test is skipped, except in CI.
func boot(t *testing.T, include ...string) *bootedRoot {
	t.Helper()
	nspawn := agenttest.Need(t, "systemd-nspawn")
	r := &bootedRoot{cleanRoot: makeRoot(t, strings.Join(append(include, "systemd", "systemd-sysv"), ","))}
	var said bytes.Buffer
	// This machine may have no service manager that could make a scope or register the
	// container.
	cmd := exec.Command(nspawn, "--directory="+r.dir, "--machine=promspool-"+strconv.Itoa(os.Getpid()), "--boot", "--private-network",
		"--register=no", "--keep-unit", "--console=pipe")
	cmd.Stdout, cmd.Stderr = &said, &said
	agenttest.NoError(t, cmd.Start())
	booted := false
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its output explains more
		close(exited)
	}()
	t.Cleanup(func() {
		if booted && t.Failed() {
			c := r.inside("journalctl", "--no-pager", "--lines=200") // the context of the test has ended
			out, _ := exec.Command(c.Name, c.Args...).CombinedOutput()
			t.Logf("the journal:\n%s", out)
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // halts
		select {
		case <-exited:
		case <-time.After(agenttest.Timeout):
			_ = cmd.Process.Kill()
			if pid, err := strconv.Atoi(r.leader); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL) // and with it all that runs in the container
			}
			<-exited
		}
		removeScopes()
	})
	ended := func() bool {
		select {
		case <-exited:
			return true
		default:
			return false
		}
	}
	deadline := time.Now().Add(agenttest.Timeout)
	for tick := time.Tick(50 * time.Millisecond); ; <-tick {
		pid := strconv.Itoa(cmd.Process.Pid)
		children, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children") // there is none yet
		if r.leader = strings.TrimSpace(string(children)); r.leader != "" && !strings.Contains(r.leader, " ") {
			// The state is degraded if a unit cannot run in a container.
			if state, _, _ := r.inside("systemctl", "is-system-running").Run(t); state == "running\n" || state == "degraded\n" {
				booted = true
				return r
			}
		}
		if ended() || time.Now().After(deadline) {
			if os.Getenv("CI") == "true" {
				t.Fatalf("systemd-nspawn cannot boot a root: %s", &said)
			}
			t.Skipf("systemd-nspawn cannot boot a root here: %s", &said)
		}
	}
}

// removeScopes removes the control groups that systemd-nspawn leaves with --keep-unit.
func removeScopes() {
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		for _, name := range []string{"payload", "supervisor"} {
			found, _ := filepath.Glob(pattern + name)
			for _, dir := range found {
				_ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run()
			}
		}
	}
}

// inside is a command in the container.
func (r *bootedRoot) inside(args ...string) agenttest.Command {
	return agenttest.Command{Name: "nsenter", Args: append([]string{
		"--target=" + r.leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}, args...)}
}

// outside is a command of this machine, in the network of the container.
func (r *bootedRoot) outside(args ...string) agenttest.Command {
	return agenttest.Command{Name: "nsenter", Args: append([]string{"--target=" + r.leader, "--net"}, args...)}
}

func (r *bootedRoot) push(text string) {
	r.t.Helper()
	c := r.outside("curl", "-sS", "--fail", "--data-binary", "@-", "http://127.0.0.1:9091/metrics/job/backup")
	c.Stdin = text
	c.Must(r.t)
}

func (r *bootedRoot) page() string {
	r.t.Helper()
	return r.outside("curl", "-sS", "--fail", "http://127.0.0.1:9091/metrics").Must(r.t)
}

// show returns a property of a unit.
func (r *bootedRoot) show(unit, property string) string {
	r.t.Helper()
	return strings.TrimSpace(r.inside("systemctl", "show", "--value", "--property="+property, unit).Must(r.t))
}

// count returns a property of the service that is a number.
func (r *bootedRoot) count(property string) int {
	r.t.Helper()
	n, err := strconv.Atoi(r.show("promspool.service", property))
	agenttest.NoError(r.t, err)
	return n
}

func (r *bootedRoot) waitActive() {
	r.t.Helper()
	agenttest.WaitFor(r.t, "the service is active", func() bool { return r.show("promspool.service", "ActiveState") == "active" })
}

// install installs a package; its scripts talk to the systemd in the container.
func (r *bootedRoot) install(build string) (version string) {
	r.t.Helper()
	text, err := os.ReadFile(packages(r.t, build, "deb"))
	agenttest.NoError(r.t, err)
	r.write("/root/promspool.deb", string(text), 0o644)
	r.inside("dpkg", "--install", "/root/promspool.deb").Must(r.t)
	r.waitActive()
	return r.inside("dpkg-query", "-W", "-f", "${Version}", "promspool").Must(r.t)
}

// TestPackageBoots installs, uses, upgrades and removes the .deb on a host with systemd.
func TestPackageBoots(t *testing.T) {
	packages(t, "new", "deb") // or skip before the work
	agenttest.Need(t, "curl")
	r := boot(t)
	with := func(t *testing.T) *bootedRoot {
		return &bootedRoot{cleanRoot: &cleanRoot{t, r.dir}, leader: r.leader}
	}
	const pushed = `backup_size_bytes{job="backup"} 42`
	for _, step := range []struct {
		name string
		run  func(r *bootedRoot)
	}{
		{"install", func(r *bootedRoot) {
			version := r.install("old")
			if state := r.inside("systemctl", "is-enabled", "promspool.service").Must(r.t); state != "enabled\n" {
				r.t.Errorf("the service is %q, want enabled", state)
			}
			r.wantSpool()
			r.push("backup_size_bytes 42\n")
			agenttest.WantLines(r.t, r.page(), pushed)
			wantVersion(r.t, r.page(), version)
			if status := r.show("promspool.service", "StatusText"); !strings.HasPrefix(status, "Serving ") {
				r.t.Errorf("the status is %q, want what the agent serves", status)
			}
			r.inside("promspool", "health", "--url=http://127.0.0.1:9091").Must(r.t)
		}},
		{"restart", func(r *bootedRoot) {
			before := r.show("promspool.service", "MainPID")
			r.inside("systemctl", "restart", "promspool.service").Must(r.t)
			if after := r.show("promspool.service", "MainPID"); after == before || r.count("NRestarts") != 0 {
				r.t.Errorf("after a restart the process is %s, before it was %s", after, before)
			}
			agenttest.WantLines(r.t, r.page(), pushed)
			if _, said, status := r.inside("systemctl", "reload", "promspool.service").Run(r.t); status == 0 || !strings.Contains(said, "not applicable") {
				r.t.Errorf("a reload exits with %d and says %q, want that it is not applicable", status, said)
			}
			agenttest.WantLines(r.t, r.page(), pushed)
		}},
		{"watchdog", func(r *bootedRoot) {
			// The watchdog of the unit, with a shorter time.
			if got := r.show("promspool.service", "WatchdogUSec"); got != "1min" {
				r.t.Errorf("WatchdogUSec=%s, want 1min", got)
			}
			r.override("WatchdogSec=5s")
			r.inside("systemctl", "kill", "--signal=SIGSTOP", "promspool.service").Must(r.t)
			agenttest.WaitFor(r.t, "the watchdog has ended the service", func() bool { return r.count("NRestarts") > 0 })
			r.waitActive()
			if log := r.inside("journalctl", "--unit=promspool.service").Must(r.t); !strings.Contains(log, "Watchdog timeout") {
				r.t.Errorf("the journal does not name the watchdog:\n%s", log)
			}
			agenttest.WantLines(r.t, r.page(), pushed)
			r.override("")
		}},
		{"busy port", func(r *bootedRoot) {
			r.inside("systemctl", "stop", "promspool.service").Must(r.t)
			c := r.outside(agenttest.Promspool, "--web.listen-address=127.0.0.1:9091", "--spool.directory="+r.t.TempDir())
			other := agenttest.StartServer(r.t, `msg=Serving .* on=([0-9.:]+)`, c.Name, c.Args...)
			r.inside("systemctl", "start", "--no-block", "promspool.service").Must(r.t)
			// By default systemd gives up after five starts within ten seconds.
			agenttest.WaitFor(r.t, "the service was started more often than the default limit", func() bool { return r.count("NRestarts") > 6 })
			if state := r.show("promspool.service", "ActiveState"); state != "activating" {
				r.t.Errorf("with a busy port the service is %s, want activating", state)
			}
			other.Stop()
			r.waitActive()
			agenttest.WantLines(r.t, r.page(), pushed)
		}},
		{"jobs", func(r *bootedRoot) {
			for job, want := range map[string]int{"good": 0, "bad": 3} {
				r.write("/etc/promspool/jobs/"+job, fmt.Sprintf("#!/bin/sh\nexit %d\n", want), 0o755)
				r.write("/etc/promspool/jobs/"+job+".env", "RUN_ARGS=\"--every=1d --grace=1h\"\n", 0o644)
				unit := "promspool-run@" + job + ".service"
				if _, said, status := r.inside("systemctl", "start", unit).Run(r.t); (status == 0) != (want == 0) {
					r.t.Errorf("systemctl start %s exits with %d: %s", unit, status, said)
				}
				if got := r.show(unit, "ExecMainStatus"); got != strconv.Itoa(want) {
					r.t.Errorf("%s ended with status %s, want %d", unit, got, want)
				}
				line := fmt.Sprintf(`promspool_job_exit_code{job=%q} %d`, job, want)
				agenttest.WaitFor(r.t, line+" is served", func() bool { return agenttest.HasLine(r.page(), line) })
			}
			r.inside("systemctl", "enable", "--now", "promspool-run@good.timer").Must(r.t)
			if got := r.show("promspool-run@good.timer", "NextElapseUSecRealtime"); got == "" {
				r.t.Error("the timer does not elapse")
			}
		}},
		{"expectations of timers", func(r *bootedRoot) {
			r.inside("mkdir", "-p", "/etc/systemd/system").Must(r.t)
			r.write("/etc/systemd/system/weekday.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n", 0o644)
			r.write("/etc/systemd/system/weekday.timer", "[Timer]\nOnCalendar=Mon..Fri 03:00 UTC\nAccuracySec=1s\nRandomizedDelaySec=10min\n", 0o644)
			r.write("/etc/systemd/system/poll.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n", 0o644)
			r.write("/etc/systemd/system/poll.timer", "[Timer]\nOnBootSec=1h\nOnUnitActiveSec=90min\nAccuracySec=1min\n", 0o644)
			r.write("/etc/systemd/system/once.timer", "[Timer]\nOnBootSec=1h\nUnit=poll.service\n", 0o644)
			r.inside("systemctl", "daemon-reload").Must(r.t)
			declare := func(timer string) agenttest.Command {
				return r.inside("promspool", "job", "declare", "--spool.directory=/var/lib/promspool/spool", "--from-timer="+timer)
			}
			for timer, want := range map[string]string{
				"weekday.timer":            `declared {job="weekday"}: every 3d, grace 10m1s`, // from Friday to Monday
				"poll.timer":               `declared {job="poll"}: every 1h30m, grace 1m`,
				"promspool-run@good.timer": `declared {job="good"}: every 1d, grace 16m`,
			} {
				if got := strings.TrimSpace(declare(timer).Must(r.t)); got != want {
					r.t.Errorf("%s: %s, want %s", timer, got, want)
				}
			}
			for timer, want := range map[string]string{"once.timer": "does not start its unit repeatedly", "absent.timer": "is not there"} {
				if _, said, status := declare(timer).Run(r.t); status != 1 || !strings.Contains(said, want) {
					r.t.Errorf("%s: exit status %d: %s, want %s", timer, status, said, want)
				}
			}
			// Neither of the jobs has run: they are due when their timers start them.
			due := regexp.MustCompile(`promspool_job_next_due_timestamp_seconds\{job="weekday"\} (\S+)`)
			agenttest.WaitFor(r.t, "the due time of a job that never ran is served", func() bool { return due.MatchString(r.page()) })
			at, err := strconv.ParseFloat(due.FindStringSubmatch(r.page())[1], 64)
			agenttest.NoError(r.t, err)
			if start := time.Unix(int64(at), 0).UTC().Add(-10*time.Minute - time.Second); start.Hour() != 3 || start.Minute() != 0 || !start.After(time.Now()) || start.After(time.Now().AddDate(0, 0, 4)) {
				r.t.Errorf("the job is due for a start at %s, want the next weekday at 03:00", start)
			}
			for _, job := range []string{"weekday", "poll"} {
				r.inside("promspool", "job", "forget", "--spool.directory=/var/lib/promspool/spool", job).Must(r.t)
			}
		}},
		{"sockets", func(r *bootedRoot) {
			r.inside("systemctl", "stop", "promspool.service").Must(r.t)
			r.inside("systemctl", "enable", "--now", "promspool.socket", "promspool-push.socket").Must(r.t)
			r.inside("systemctl", "start", "promspool.service").Must(r.t)
			const path = "/run/promspool/push.sock"
			if got := r.inside("stat", "-c", "%a %U:%G", path).Must(r.t); got != "660 promspool:promspool\n" {
				r.t.Errorf("%s has %q, want the mode 660 and promspool", path, got)
			}
			loops := []*pushLoop{
				r.pushLoop("port", "http://127.0.0.1:9091"),
				r.pushLoop("socket", "--unix-socket", "/proc/"+r.leader+"/root"+path, "http://localhost"),
			}
			during := func(do func()) {
				do()
				for _, loop := range loops {
					loop.more()
				}
			}
			for range 3 {
				during(func() { r.inside("systemctl", "restart", "promspool.service").Must(r.t) })
			}
			during(func() { r.upgrade("new") })
			during(func() { r.upgrade("old") }) // a downgrade
			during(func() { r.upgrade("new") })
			for _, loop := range loops {
				loop.stop()
			}
			agenttest.WantLines(r.t, r.page(), pushed)
		}},
		{"purge", func(r *bootedRoot) {
			r.write("/var/lib/promspool/spool/dropped.prom", "dropped_bytes 1\n", 0o644)
			for _, job := range []string{"good", "bad", "port", "socket"} {
				r.inside("promspool", "rm", "--spool.directory=/var/lib/promspool/spool", "job="+job).Must(r.t)
			}
			r.inside("rm", "-r", "/etc/promspool/jobs").Must(r.t) // the administrator's
			r.inside("dpkg", "--purge", "promspool").Must(r.t)
			if left := r.inside("systemctl", "list-units", "--all", "--plain", "--no-legend", "--state=active,activating", "promspool*").Must(r.t); left != "" {
				r.t.Errorf("after a purge there are the units\n%s", left)
			}
			if _, said, status := r.outside("curl", "-sS", "http://127.0.0.1:9091/metrics").Run(r.t); status != 7 {
				r.t.Errorf("after a purge curl exits with %d, want 7 for a refused connection: %s", status, said)
			}
			r.wantGone()
			r.inside("getent", "passwd", "promspool").Must(r.t)
		}},
		{"tarball", func(r *bootedRoot) {
			found, err := filepath.Glob(os.Getenv("PROMSPOOL_TEST_PACKAGES") + "/tarball/*.tar.gz")
			if err != nil || len(found) != 1 {
				r.t.Fatalf("tarballs: %q, %v, want one", found, err)
			}
			text, err := os.ReadFile(found[0])
			agenttest.NoError(r.t, err)
			r.inside("rm", "-r", "/var/lib/promspool").Must(r.t)
			name := filepath.Base(found[0])
			install, remove := tarballScripts(r.t)
			script := func(script string) agenttest.Command { return r.inside("sh", "-ec", "cd /root/release\n"+script) }
			r.write("/root/release/sha256sums.txt", fmt.Sprintf("%x  %s\n%x  another\n", sha256.Sum256(text), name, sha256.Sum256(nil)), 0o644)
			// Nothing is installed from a tarball with a changed byte.
			changed := slices.Clone(text)
			changed[len(changed)/2] ^= 1
			r.write("/root/release/"+name, string(changed), 0o644)
			if _, said, status := script(install).Run(r.t); status == 0 || !strings.Contains(said, "did NOT match") {
				r.t.Errorf("the installation of a changed tarball exits with %d: %s", status, said)
			}
			r.wantNone("/usr/bin/promspool", "/etc/systemd/system/promspool.service", "/root/release/"+strings.TrimSuffix(name, ".tar.gz"))

			r.write("/root/release/"+name, string(text), 0o644)
			script(install).Must(r.t)
			r.waitActive()
			r.wantSpool()
			r.push("backup_size_bytes 42\n")
			agenttest.WantLines(r.t, r.page(), pushed)
			wantVersion(r.t, r.page(), "0.0.0-test")
			if state := r.inside("systemctl", "is-enabled", "promspool.service").Must(r.t); state != "enabled\n" {
				r.t.Errorf("the service is %q, want enabled", state)
			}
			r.write("/etc/promspool/jobs/good", "#!/bin/sh\n", 0o755)
			r.inside("systemctl", "start", "promspool-run@good.service").Must(r.t)
			r.inside("systemctl", "enable", "--now", "promspool-run@good.timer").Must(r.t)
			r.inside("systemctl", "enable", "promspool-metrics.socket").Must(r.t) // starts with the next boot
			r.inside("rm", "-r", "/etc/promspool/jobs").Must(r.t)
			r.inside("promspool", "rm", "--spool.directory=/var/lib/promspool/spool", "job=good").Must(r.t)

			r.write("/var/lib/promspool/spool/dropped.prom", "dropped_bytes 1\n", 0o644)
			script(remove).Must(r.t)
			if left := r.inside("find", "/etc/systemd", "/etc/sysusers.d", "/etc/tmpfiles.d", "/usr/bin", "-name", "promspool*", "!", "-name", "promspool.service.d").Must(r.t); left != "" {
				r.t.Errorf("after the removal there are\n%s", left)
			}
			if left := r.inside("systemctl", "list-units", "--all", "--plain", "--no-legend", "--state=active,activating", "promspool*").Must(r.t); left != "" {
				r.t.Errorf("after the removal there are the units\n%s", left)
			}
			r.wantGone()
		}},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(with(t)) }) {
			break
		}
	}
}

// tarballScripts returns the scripts of docs/install.md that install and remove a tarball.
func tarballScripts(t *testing.T) (install, remove string) {
	t.Helper()
	text, err := os.ReadFile(agenttest.Repository + "/docs/install.md")
	agenttest.NoError(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Tarball\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks, errs := parseDocument(section)
	var scripts []string
	for _, b := range blocks {
		if b.kind == "sh" {
			scripts = append(scripts, b.text)
		}
	}
	if len(errs) > 0 || len(scripts) != 2 {
		t.Fatalf("the section on the tarball has the scripts %q, %v, want one to install and one to remove", scripts, errs)
	}
	return scripts[0], scripts[1]
}

// override sets a line of the service in a drop-in, or none, and restarts it.
func (r *bootedRoot) override(line string) {
	r.t.Helper()
	r.write("/etc/systemd/system/promspool.service.d/test.conf", "[Service]\n"+line+"\n", 0o644)
	r.inside("systemctl", "daemon-reload").Must(r.t)
	r.inside("systemctl", "restart", "promspool.service").Must(r.t)
}

func (r *bootedRoot) upgrade(build string) {
	r.t.Helper()
	before := r.show("promspool.service", "MainPID")
	version := r.install(build)
	if after := r.show("promspool.service", "MainPID"); after == before {
		r.t.Errorf("the installation of %s has not restarted the service", version)
	}
	wantVersion(r.t, r.page(), version)
}

// A pushLoop pushes with curl, one connection after the other, and records each result.
type pushLoop struct {
	t   *testing.T
	log string
	end func()
}

func (r *bootedRoot) pushLoop(job string, to ...string) *pushLoop {
	r.t.Helper()
	dir := r.t.TempDir()
	l := &pushLoop{t: r.t, log: dir + "/log"}
	agenttest.NoError(r.t, os.WriteFile(l.log, nil, 0o644))
	to[len(to)-1] += "/metrics/job/" + job
	script := `while [ ! -e "$0/stop" ]; do echo 'm 1' | curl -sS --fail --data-binary @- "$@" 2>&1 && echo ok || echo failed; done >>"$0/log"`
	c := r.outside(append([]string{"sh", "-c", script, dir}, to...)...)
	cmd := exec.Command(c.Name, c.Args...)
	agenttest.NoError(r.t, cmd.Start())
	var waited bool
	l.end = func() {
		if !waited {
			waited = true
			_ = os.WriteFile(dir+"/stop", nil, 0o644)
			_ = cmd.Wait()
		}
	}
	r.t.Cleanup(l.end)
	return l
}

func (l *pushLoop) results() string {
	l.t.Helper()
	text, err := os.ReadFile(l.log)
	agenttest.NoError(l.t, err)
	return string(text)
}

// more waits for further pushes, so that some happen during each restart.
func (l *pushLoop) more() {
	l.t.Helper()
	before := len(l.results())
	agenttest.WaitFor(l.t, "further pushes", func() bool { return len(l.results()) > before+len("ok\nok\n") })
}

// stop checks that every push was accepted.
func (l *pushLoop) stop() {
	l.t.Helper()
	l.end()
	n := strings.Count(l.results(), "ok\n")
	if rest := strings.ReplaceAll(l.results(), "ok\n", ""); rest != "" || n == 0 {
		l.t.Errorf("%d pushes were taken, others were not: %s", n, rest)
	}
	l.t.Logf("%d pushes", n)
}
