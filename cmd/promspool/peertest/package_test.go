package peertest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// packages returns a package that .ci/test-packages has built: old or new.
func packages(t *testing.T, build, format string) string {
	t.Helper()
	dist := os.Getenv("PROMSPOOL_TEST_PACKAGES")
	if dist == "" {
		t.Skip("make test-packages builds the packages and runs this")
	}
	found, err := filepath.Glob(filepath.Join(dist, build, "*."+format))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s packages in %s: %q, %v, want one", format, build, found, err)
	}
	return found[0]
}

// TestPackageVersionsSort: an upgrade goes from each of these to the next.
func TestPackageVersionsSort(t *testing.T) {
	dpkg := agenttest.Need(t, "dpkg")
	last := ""
	for _, commit := range [][]string{
		{"0123456789ab", "20260101000000"},
		{"0023456789ab", "20260101000001"},
		{"0023456789ab-dirty", "20260101000001"},
		{"v0.1.0-rc.1", "20260102000000"},
		{"v0.1.0-rc.1-3-g0123456789ab", "20260102000000"},
		{"v0.1.0-rc.2", "20260102000000"},
		{"v0.1.0", "20260102000000"},
		{"v0.1.0-2-g0123456789ab", "20260102000000"},
		{"v0.1.0-10-g0023456789ab-dirty", "20260102000000"},
		{"v0.1.1", "20260102000000"},
	} {
		version := strings.TrimSpace(agenttest.Command{Name: agenttest.Repository + "/.nfpm/version", Args: commit}.Must(t))
		if _, said, status := (agenttest.Command{Name: dpkg, Args: []string{"--compare-versions", last, "lt", version}}).Run(t); status != 0 || said != "" {
			t.Errorf("version %q of %s does not come after %q %s", version, commit[0], last, said)
		}
		last = version
	}
}

// packageFiles lists the contents of both packages except documentation.
var packageFiles = []string{
	"/etc/default/promspool",
	"/etc/promspool/jobs",
	"/usr/bin/promspool",
	"/usr/lib/systemd/system/promspool-metrics.socket",
	"/usr/lib/systemd/system/promspool-push.socket",
	"/usr/lib/systemd/system/promspool-run@.service",
	"/usr/lib/systemd/system/promspool-run@.timer",
	"/usr/lib/systemd/system/promspool.service",
	"/usr/lib/systemd/system/promspool.socket",
	"/usr/lib/sysusers.d/promspool.conf",
	"/usr/lib/tmpfiles.d/promspool.conf",
	"/usr/share/bash-completion/completions/promspool",
	"/usr/share/man/man1/promspool.1.gz",
}

// A cleanRoot is a root directory with Debian's smallest system and systemd, where
// packages are installed. It leaves no mounts behind.
type cleanRoot struct {
	t   *testing.T
	dir string
}

// makeRoot makes a root with further packages, from a comma-separated list.
func makeRoot(t *testing.T, include string) *cleanRoot {
	t.Helper()
	program := agenttest.Need(t, "mmdebstrap")
	agenttest.NeedRoot(t, "makes a system")
	dir, err := os.MkdirTemp("", "promspool-root-") // short, as it contains a socket
	agenttest.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	// Not command, which is impatient: this fetches packages.
	out, err := exec.Command(program, "--variant=minbase", "--include="+include, "bookworm", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	return &cleanRoot{t: t, dir: dir}
}

func newCleanRoot(t *testing.T) *cleanRoot {
	t.Helper()
	r := makeRoot(t, "systemd")
	dir := r.dir
	// A script records its arguments in place of a service manager. The real one
	// handles unit files.
	agenttest.NoError(t, os.Rename(dir+"/usr/bin/systemctl", dir+"/usr/bin/systemctl.real"))
	r.write("/usr/bin/systemctl", `#!/bin/sh
echo "$@" >>/systemctl.log
case "$*" in
*preset* | *is-enabled* | *disable*) exec /usr/bin/systemctl.real --root=/ "$@" ;;
*is-active*) test -e /run/notify ;;
esac
`, 0o755)
	agenttest.NoError(t, os.MkdirAll(dir+"/run/systemd/system", 0o755))
	return r
}

func (r *cleanRoot) write(name, text string, mode os.FileMode) {
	r.t.Helper()
	agenttest.NoError(r.t, os.MkdirAll(filepath.Dir(r.dir+name), 0o755))
	agenttest.NoError(r.t, os.WriteFile(r.dir+name, []byte(text), mode))
}

func (r *cleanRoot) read(name string) string {
	r.t.Helper()
	text, err := os.ReadFile(r.dir + name)
	agenttest.NoError(r.t, err)
	return string(text)
}

// inside returns a command in the root, with /proc and a minimal environment.
func (r *cleanRoot) inside(args ...string) agenttest.Command {
	script := `mount -t proc proc "$0/proc" && exec chroot "$0" env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"`
	return agenttest.Command{Name: "unshare", Args: append([]string{"--mount", "sh", "-c", script, r.dir}, args...)}
}

// asked returns the requests to the service manager since the last call.
func (r *cleanRoot) asked() string {
	text, _ := os.ReadFile(r.dir + "/systemctl.log") // the file may not exist yet
	_ = os.Remove(r.dir + "/systemctl.log")
	return string(text)
}

// wantSpool checks the user, and the directory in which the group can drop files.
func (r *cleanRoot) wantSpool() {
	r.t.Helper()
	got := r.inside("stat", "-c", "%n %a %U:%G", "/var/lib/promspool", "/var/lib/promspool/spool").Must(r.t)
	if want := "/var/lib/promspool 755 promspool:promspool\n/var/lib/promspool/spool 2775 promspool:promspool\n"; got != want {
		r.t.Errorf("the spool has\n%swant\n%s", got, want)
	}
}

// start runs the command of the unit, with its user and flags, like the service
// manager, and waits for READY=1.
func (r *cleanRoot) start() *agenttest.Agent {
	r.t.Helper()
	unit := r.read("/usr/lib/systemd/system/promspool.service")
	setting := func(name string) string {
		found := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit, -1)
		if len(found) != 1 {
			r.t.Fatalf("the unit has %d lines %s=, want one", len(found), name)
		}
		return found[0][1]
	}
	if setting("Type") != "notify" || setting("AmbientCapabilities") != "CAP_LEASE" || setting("EnvironmentFile") != "-/etc/default/promspool" {
		r.t.Fatalf("the unit is another one than this test knows:\n%s", unit)
	}
	_ = os.Remove(r.dir + "/run/notify") // from the previous start
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.dir + "/run/notify", Net: "unixgram"})
	agenttest.NoError(r.t, err)
	defer notify.Close()
	agenttest.NoError(r.t, os.Chmod(r.dir+"/run/notify", 0o777))
	c := r.inside("NOTIFY_SOCKET=/run/notify", "setpriv", "--reuid="+setting("User"), "--regid="+setting("Group"), "--init-groups",
		"--inh-caps=-all,+lease", "--ambient-caps=-all,+lease", "--bounding-set=-all,+lease", "--no-new-privs",
		"sh", "-c", ". /etc/default/promspool; exec "+setting("ExecStart"))
	s := agenttest.StartServer(r.t, `msg=Serving .* on=([0-9.:]+)`, c.Name, c.Args...)
	said := make([]byte, 4096)
	n, err := notify.Read(said)
	if err != nil || !strings.HasPrefix(string(said[:n]), "READY=1\nSTATUS=Serving ") {
		r.t.Errorf("the service manager hears %q, %v, want READY=1", said[:n], err)
	}
	return &agenttest.Agent{Server: s, URL: "http://" + s.Addr, Spool: r.dir + "/var/lib/promspool/spool"}
}

const packageFlags = "ARGS=\"--web.listen-address=127.0.0.1:0\" # mine\n"

// TestPackageLives installs, upgrades and removes the packages, one after the other.
func TestPackageLives(t *testing.T) {
	packages(t, "new", "deb") // skip early if they are missing
	agenttest.Need(t, "rpm")
	r := newCleanRoot(t)
	t.Run("deb", func(t *testing.T) { lifeOfDeb(t, &cleanRoot{t, r.dir}) })
	r.inside("rm", "-r", "/var/lib/promspool").Must(t)
	t.Run("rpm", func(t *testing.T) { lifeOfRPM(t, &cleanRoot{t, r.dir}) })
}

// lifeOfDeb tests: install, push, scrape, upgrade, remove, purge.
func lifeOfDeb(t *testing.T, r *cleanRoot) {
	old, update := packages(t, "old", "deb"), packages(t, "new", "deb")
	install := func(deb string) string {
		t.Helper()
		text, err := os.ReadFile(deb)
		agenttest.NoError(t, err)
		r.write("/tmp/promspool.deb", string(text), 0o644)
		out, said, status := r.inside("dpkg", "--install", "/tmp/promspool.deb").Run(t)
		if status != 0 || strings.Contains(said, "promspool: ") {
			t.Fatalf("dpkg --install: exit status %d\n%s%s", status, out, said)
		}
		return out
	}
	install(old)
	r.wantSpool()
	if got := r.asked(); !strings.Contains(got, "start promspool.service\n") {
		t.Errorf("systemctl is asked %q, want to start the service", got)
	}
	held := strings.Split(strings.TrimSpace(r.inside("dpkg", "-L", "promspool").Must(t)), "\n")
	for _, name := range append(packageFiles, "/usr/share/zsh/vendor-completions/_promspool", "/usr/share/doc/promspool/copyright") {
		if !slices.Contains(held, name) {
			t.Errorf("the package lacks %s", name)
		}
	}
	if to, err := os.Readlink(r.dir + "/etc/systemd/system/multi-user.target.wants/promspool.service"); err != nil {
		t.Errorf("the service is not enabled: %q, %v", to, err)
	}
	r.inside("systemd-analyze", "verify", "--man=no", "--recursive-errors=one",
		"promspool.service", "promspool.socket", "promspool-push.socket", "promspool-metrics.socket", "promspool-run@backup.service", "promspool-run@backup.timer").Must(t)

	r.write("/etc/default/promspool", packageFlags, 0o644)
	a := r.start()
	a.Push("/metrics/job/backup", "backup_size_bytes 42\n")
	a.Drop("dropped.prom", "dropped_bytes 1\n")
	a.Serves("dropped_bytes 1")
	agenttest.WantLines(t, a.Page(), `backup_size_bytes{job="backup"} 42`)
	if code, page := a.Send(http.MethodGet, "/", ""); code != http.StatusOK || !strings.Contains(page, "backup") {
		t.Errorf("the page is %d and does not show the group:\n%s", code, page)
	}
	r.inside("promspool", "health", "--url="+a.URL).Must(t)
	startPrometheus(t, "prometheus.yml", a.Addr).has("backup_size_bytes", "42", labels{"job": "backup", "instance": a.Addr})
	before := a.Merge()
	r.asked()

	install(update)
	if got := r.asked(); !strings.Contains(got, "restart promspool.service\n") || strings.Contains(got, "stop") {
		t.Errorf("in an upgrade systemctl is asked %q, want to restart the service", got)
	}
	if got := r.read("/etc/default/promspool"); got != packageFlags {
		t.Errorf("after an upgrade the flags are %q, want those of the administrator", got)
	}
	r.wantSpool()
	a.Stop() // like the restart
	a = r.start()
	if got := a.Merge(); got != before {
		t.Errorf("after an upgrade the agent serves\n%swant\n%s", got, before)
	}
	wantVersion(t, a.Page(), r.inside("dpkg-query", "-W", "-f", "${Version}", "promspool").Must(t))
	a.Stop()

	r.inside("dpkg", "--remove", "promspool").Must(t)
	if got := r.asked(); !strings.Contains(got, "stop promspool.socket promspool-push.socket promspool-metrics.socket promspool.service\n") {
		t.Errorf("in a removal systemctl is asked %q, want to stop the service and its sockets", got)
	}
	if got := r.read("/etc/default/promspool"); got != packageFlags {
		t.Errorf("after a removal the flags are %q, want those of the administrator", got)
	}
	if out := r.inside("dpkg", "--purge", "promspool").Must(t); !strings.Contains(out, "/var/lib/promspool and the user promspool are kept") {
		t.Errorf("a purge does not list the files that it keeps:\n%s", out)
	}
	r.wantGone()
}

func wantVersion(t *testing.T, page, version string) {
	t.Helper()
	if !strings.Contains(page, fmt.Sprintf("version=%q", version)) {
		t.Errorf("the agent is not of version %q", version)
	}
}

// wantGone checks that the package leaves only the user's files.
func (r *cleanRoot) wantGone() {
	r.t.Helper()
	r.wantNone(packageFiles...)
	if left, _ := filepath.Glob(r.dir + "/etc/systemd/system/*/promspool*"); len(left) > 0 {
		r.t.Errorf("%q are left", left)
	}
	var got []string
	for _, name := range agenttest.Files(r.t, r.dir+"/var/lib/promspool/spool") {
		if strings.HasSuffix(name, ".prom") {
			got = append(got, name)
		}
	}
	if want := []string{"dropped.prom", "job=backup.prom"}; !slices.Equal(got, want) {
		r.t.Errorf("the spool holds %q, want %q: metrics exist nowhere else", got, want)
	}
}

func (r *cleanRoot) wantNone(paths ...string) {
	r.t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(r.dir + path); err == nil {
			r.t.Errorf("%s is left", path)
		}
	}
}

// lifeOfRPM tests the same with rpm, in a root with the programs of its scripts.
func lifeOfRPM(t *testing.T, r *cleanRoot) {
	old, update, rpm := packages(t, "old", "rpm"), packages(t, "new", "rpm"), agenttest.Need(t, "rpm")
	do := func(args ...string) string {
		t.Helper()
		// rpm runs the scripts in the root, which has no rpm database.
		return agenttest.Command{Name: "unshare", Args: append([]string{"--mount", "sh", "-c", `mount -t proc proc "$1/proc" && shift && exec "$@"`, "sh", r.dir, rpm, "--root=" + r.dir}, args...)}.Must(t)
	}
	do("--nodeps", "--install", old)
	r.wantSpool()
	if got := r.asked(); !strings.Contains(got, "preset promspool.service") {
		t.Errorf("systemctl is asked %q, want to enable the service where the presets say so", got)
	}
	held := strings.Split(strings.TrimSpace(do("--query", "--list", "promspool")), "\n")
	for _, name := range append(packageFiles, "/usr/share/zsh/site-functions/_promspool", "/usr/share/licenses/promspool/LICENSE") {
		if !slices.Contains(held, name) {
			t.Errorf("the package lacks %s", name)
		}
	}
	if slices.Contains(held, "/usr/bin") {
		t.Error("the package owns /usr/bin")
	}
	r.write("/etc/default/promspool", packageFlags, 0o644)
	a := r.start()
	a.Push("/metrics/job/backup", "backup_size_bytes 42\n")
	a.Drop("dropped.prom", "dropped_bytes 1\n")
	a.Serves("dropped_bytes 1")
	before := a.Merge()
	a.Stop()

	do("--nodeps", "--upgrade", update)
	if got := r.asked(); !strings.Contains(got, "try-restart promspool.service\n") || strings.Contains(got, "disable") {
		t.Errorf("in an upgrade systemctl is asked %q, want to restart the service", got)
	}
	if got := r.read("/etc/default/promspool"); got != packageFlags {
		t.Errorf("after an upgrade the flags are %q, want those of the administrator", got)
	}
	a = r.start()
	if got := a.Merge(); got != before {
		t.Errorf("after an upgrade the agent serves\n%swant\n%s", got, before)
	}
	wantVersion(t, a.Page(), strings.TrimSpace(do("--query", "--queryformat", "%{VERSION}", "promspool")))
	a.Stop()

	// As made by systemctl enable promspool-run@backup.timer.
	wants := r.dir + "/etc/systemd/system/timers.target.wants"
	agenttest.NoError(t, os.MkdirAll(wants, 0o755))
	agenttest.NoError(t, os.Symlink("/usr/lib/systemd/system/promspool-run@.timer", wants+"/promspool-run@backup.timer"))
	do("--nodeps", "--erase", "promspool")
	if got := r.asked(); !strings.Contains(got, "stop promspool.socket promspool-push.socket promspool-metrics.socket promspool.service\n") || strings.Contains(got, "restart") {
		t.Errorf("in a removal systemctl is asked %q, want to stop and disable", got)
	}
	agenttest.NoError(t, os.Rename(r.dir+"/etc/default/promspool.rpmsave", r.dir+"/etc/default/kept")) // the administrator's copy
	r.wantGone()
}
