package peertest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// An ansibleRoot is a booted root with Ansible, the role, and two releases.
type ansibleRoot struct {
	*bootedRoot
}

type vars = map[string]any

// plays runs a playbook of examples/ansible in the root, which must succeed, and returns
// the output and the number of changed tasks.
func (r *ansibleRoot) plays(playbook string, v vars, args ...string) (out string, changed int) {
	r.t.Helper()
	out, status := r.play(playbook, v, args...)
	found := regexp.MustCompile(`: ok=\d+ +changed=(\d+) `).FindStringSubmatch(out)
	if status != 0 || found == nil {
		r.t.Fatalf("the playbook fails with %v, exit status %d:\n%s", v, status, out)
	}
	changed, err := strconv.Atoi(found[1])
	agenttest.NoError(r.t, err)
	return out, changed
}

func (r *ansibleRoot) play(playbook string, v vars, args ...string) (out string, status int) {
	r.t.Helper()
	text, err := json.Marshal(v)
	agenttest.NoError(r.t, err)
	r.write("/srv/vars.json", string(text), 0o600)
	out, said, status := r.inside(append([]string{
		"HOME=/root", "LC_ALL=C.UTF-8", "ANSIBLE_PIPELINING=1", "ANSIBLE_ROLES_PATH=/srv/ansible/roles",
		"ansible-playbook", "--inventory=localhost,", "--connection=local", "--extra-vars=@/srv/vars.json", playbook,
	}, args...)...).Run(r.t)
	return out + said, status
}

const (
	rolePlaybook    = "/srv/role.yml"             // runs the role alone
	examplePlaybook = "/srv/ansible/playbook.yml" // is in the documents
)

// unchanged checks that a second run changes nothing.
func (r *ansibleRoot) unchanged(playbook string, v vars, args ...string) {
	r.t.Helper()
	before := r.show("promspool.service", "MainPID")
	if out, changed := r.plays(playbook, v, args...); changed != 0 {
		r.t.Errorf("the second run changes %d things:\n%s", changed, out)
	}
	if after := r.show("promspool.service", "MainPID"); after != before {
		r.t.Errorf("the second run has restarted the service: process %s, before %s", after, before)
	}
}

// refused checks that the role fails with all of these messages and changes nothing.
func (r *ansibleRoot) refused(v vars, messages ...string) {
	r.t.Helper()
	before := r.listing()
	out, status := r.play(rolePlaybook, v)
	if status != 2 {
		r.t.Errorf("with %v the playbook exits with %d, want 2:\n%s", v, status, out)
	}
	for _, message := range messages {
		if !strings.Contains(out, message) {
			r.t.Errorf("with %v the output has no %q:\n%s", v, message, out)
		}
	}
	if after := r.listing(); after != before {
		r.t.Errorf("the refusal of %v has changed files from\n%s\nto\n%s", v, before, after)
	}
}

// listing returns the files of the host, with their metadata, and the running units. It
// omits the caches of apt and the state of systemd.
func (r *ansibleRoot) listing() string {
	r.t.Helper()
	return r.inside("find", "/etc", "/usr", "/var/cache", "/var/lib", "-regextype", "egrep", "-regex", "/var/lib/systemd|/var/[a-z]+/apt", "-prune", "-o",
		"-printf", `%p %M %u:%g %s %T@ %l\n`).Must(r.t) + r.inside("systemctl", "list-units", "--plain", "--no-legend", "promspool*").Must(r.t)
}

// leftovers returns the files in a listing that were not there before.
func leftovers(listing, before string) (left []string) {
	names := map[string]bool{}
	for line := range strings.Lines(before) {
		names[strings.Fields(line)[0]] = true
	}
	for line := range strings.Lines(listing) {
		if name := strings.Fields(line)[0]; !names[name] {
			left = append(left, name)
		}
	}
	return left
}

// flags returns the arguments of the running agent.
func (r *ansibleRoot) flags() []string {
	r.t.Helper()
	text := r.inside("cat", "/proc/"+r.show("promspool.service", "MainPID")+"/cmdline").Must(r.t)
	return strings.Split(strings.TrimSuffix(text, "\x00"), "\x00")
}

// scrape returns the page at an address in the network of the container.
func (r *ansibleRoot) scrape(args ...string) string {
	r.t.Helper()
	return r.outside(append([]string{"curl", "-sS", "--fail"}, args...)...).Must(r.t)
}

// dropsAsDeploy writes a file to the spool as user deploy and waits until it is served.
func (r *ansibleRoot) dropsAsDeploy(spool, name string) {
	r.t.Helper()
	r.inside("runuser", "--user", "deploy", "--", "sh", "-c", `echo "$0 1" >"$1"`, name, spool+"/"+name+".prom").Must(r.t)
	agenttest.WaitFor(r.t, name+" is served", func() bool { return agenttest.HasLine(r.page(), name+" 1") })
}

// runsJob starts a job and waits until its exit code is served.
func (r *ansibleRoot) runsJob(name string) {
	r.t.Helper()
	r.inside("systemctl", "start", "promspool-run@"+name+".service").Must(r.t)
	line := fmt.Sprintf(`promspool_job_exit_code{job=%q} 0`, name)
	agenttest.WaitFor(r.t, line+" is served", func() bool { return agenttest.HasLine(r.page(), line) })
}

// release returns the version of a release in /srv.
func (r *ansibleRoot) release(build string) string {
	name := filepath.Base(packages(r.t, build, "deb"))
	return strings.TrimPrefix(name[:strings.LastIndex(name, "_")], "promspool_")
}

// with returns variables with others added or replaced.
func with(v vars, more vars) vars {
	all := vars{}
	for _, m := range []vars{v, more} {
		for name, value := range m {
			all[name] = value
		}
	}
	return all
}

// TestAnsiblePlaybookInDocs compares the playbook of the documents, which TestAnsible runs.
func TestAnsiblePlaybookInDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(agenttest.Repository + "/docs/install.md")
	agenttest.NoError(t, err)
	_, playbook, _ := strings.Cut(example(t, "ansible/playbook.yml"), "\n") // without the comment
	if block := "```yaml\n" + playbook + "```\n"; !strings.Contains(string(text), block) {
		t.Errorf("docs/install.md lacks the playbook of the examples:\n%s", block)
	}
}

// TestAnsible runs the role of examples/ansible on a host of its own.
func TestAnsible(t *testing.T) {
	if os.Getenv("PROMSPOOL_TEST_ANSIBLE") == "" {
		t.Skip("make test-ansible builds two releases and runs this")
	}
	agenttest.Need(t, "curl")
	booted := boot(t, "ansible-core", "python3-apt", "dbus")
	agenttest.NoError(t, os.CopyFS(booted.dir+"/srv/ansible", os.DirFS(examples+"/ansible")))
	for _, build := range []string{"old", "new"} {
		dist := filepath.Dir(packages(t, build, "deb"))
		agenttest.NoError(t, os.CopyFS(booted.dir+"/srv/"+build, os.DirFS(dist)))
	}
	booted.write(rolePlaybook, "- hosts: all\n  gather_facts: false\n  roles: [promspool]\n", 0o644)
	booted.inside("useradd", "--create-home", "deploy").Must(t)
	booted.inside("systemd-run", "--unit=releases", "python3", "-m", "http.server", "--bind=127.0.0.1", "--directory=/srv", "8000").Must(t)
	agenttest.WaitFor(t, "the releases are served", func() bool {
		_, _, status := booted.outside("curl", "-sS", "--fail", "http://127.0.0.1:8000/old/sha256sums.txt").Run(t)
		return status == 0
	})

	host := func(t *testing.T) *ansibleRoot {
		return &ansibleRoot{&bootedRoot{cleanRoot: &cleanRoot{t, booted.dir}, leader: booted.leader}}
	}
	// The variables for the old release.
	pack := vars{"promspool_version": host(t).release("old"), "promspool_release_url": "/srv/old"}
	tarball := with(pack, vars{"promspool_install_method": "tarball", "promspool_release_url": "http://127.0.0.1:8000/old"})
	clean := host(t).listing()
	for _, step := range []struct {
		name string
		run  func(r *ansibleRoot)
	}{
		{"check of a clean host", func(r *ansibleRoot) {
			elsewhere := vars{"promspool_spool_directory": "/srv/a/spool", "promspool_sockets": []string{"web"}, "promspool_spool_users": []string{"deploy"}}
			for _, v := range []vars{pack, with(tarball, elsewhere)} {
				if out, changed := r.plays(rolePlaybook, v, "--check", "--diff"); changed == 0 || !strings.Contains(out, "+ARGS=") {
					r.t.Errorf("a check with %v shows %d changes, want the flags:\n%s", v, changed, out)
				}
			}
			if after := r.listing(); after != clean {
				r.t.Errorf("a check has changed files from\n%s\nto\n%s", clean, after)
			}
		}},
		{"wrong variables", func(r *ansibleRoot) {
			r.refused(with(pack, vars{"promspool_state": "gone"}), "value of promspool_state must be one of: present, absent, got: gone")
			r.refused(with(pack, vars{"promspool_jobs": []vars{{"name": "x", "comand": "true"}}}), "comand")
			r.refused(vars{"promspool_spool_directory": "/srv/$HOME/spool"}, "promspool_version is not set", "Ansible would expand the variable")
			r.refused(with(pack, vars{"promspool_spool_users": []string{"absent-user"}}), "the user absent-user does not exist")
			r.refused(with(pack, vars{"promspool_jobs": []vars{{"name": "x", "command": "true", "schedule": "at noon"}}}), "at noon", "Failed to parse calendar")
			r.refused(vars{
				"promspool_version": "v0.1.0", "promspool_web_listen_address": ":99999", "promspool_spool_users": "deploy",
				"promspool_jobs": []vars{{"name": "x", "command": []string{"echo", "a b"}}, {"name": "y", "command": "true", "args": "--every=1d"}},
			}, `invalid promspool_version \"v0.1.0\"`, "the highest port is 65535", `invalid promspool_spool_users \"deploy\": want a list`,
				"job x: command must be a text", "job y: args must be a list")
			r.refused(with(pack, vars{
				"promspool_lisen_address":      ":9091",
				"promspool_web_listen_address": []string{"9091", "127.0.0.1:9091"},
				"promspool_spool_directory":    "/home/deploy/spool",
				"promspool_flags":              vars{"spool.directory": "/srv", "web.telemetry-path": "/a\nb", "--push.allow-remote": true, "spool.ttl": vars{"a": "b"}},
				"promspool_jobs": []vars{
					{"name": "a/b", "command": "true"},
					{"name": "two", "command": "true"},
					{"name": "two", "command": "true"},
					{"name": "none"},
					{"name": "text", "content": "true\n"},
					{"name": "variables", "command": "true", "args": []string{"every"}, "environment": vars{"A-B": "x", "C": "secret\nline"}},
				},
			}),
				"unknown variable promspool_lisen_address", `invalid promspool_web_listen_address \"9091\"`,
				`invalid promspool_spool_directory \"/home/deploy/spool\": the unit hides this directory`,
				"promspool_flags has spool.directory: use promspool_spool_directory", "invalid value of web.telemetry-path in promspool_flags: a control character",
				`invalid name \"--push.allow-remote\" in promspool_flags`, "invalid value of spool.ttl in promspool_flags",
				`invalid name \"a/b\" in promspool_jobs`, "promspool_jobs has the name two twice", "job none: want one of command, content and src",
				"job text: content must start with #!", "job variables: args must be flags", `job variables: invalid name \"A-B\" in environment`,
				"job variables: the value of C has a control character")
		}},
		{"changed tarball", func(r *ansibleRoot) {
			name := "/srv/bad/promspool-" + r.release("old") + ".linux-" + platform(r) + ".tar.gz"
			agenttest.NoError(r.t, os.CopyFS(r.dir+"/srv/bad", os.DirFS(r.dir+"/srv/old")))
			text := []byte(r.read(name))
			text[len(text)/2] ^= 1
			r.write(name, string(text), 0o644)
			r.refused(with(tarball, vars{"promspool_release_url": "/srv/bad"}), name+" has the SHA-256 ", "Nothing was changed")
			r.refused(with(tarball, vars{"promspool_release_url": "http://127.0.0.1:8000/bad", "promspool_local_cache_path": "/root/empty"}), "The checksum for ", " did not match")
			r.refused(with(tarball, vars{"promspool_release_url": "/srv/bad", "promspool_checksum": strings.Repeat("0", 64)}), "want "+strings.Repeat("0", 64))
			r.write("/srv/bad/sha256sums.txt", "", 0o644)
			r.refused(with(tarball, vars{"promspool_release_url": "/srv/bad"}), "/srv/bad/sha256sums.txt has no line for "+filepath.Base(name))
		}},
		{"another service on the port", func(r *ansibleRoot) {
			r.inside("systemd-run", "--unit=prometheus-pushgateway", "python3", "-m", "http.server", "9091").Must(r.t)
			agenttest.WaitFor(r.t, "the other service listens", func() bool {
				_, _, status := r.outside("curl", "-sS", "http://127.0.0.1:9091/").Run(r.t)
				return status == 0
			})
			for _, address := range []string{":9091", "localhost:9091"} {
				r.refused(with(pack, vars{"promspool_web_listen_address": address}),
					"port 9091 is in use by process "+r.show("prometheus-pushgateway.service", "MainPID")+", python3, of prometheus-pushgateway.service: "+
						"stop prometheus-pushgateway.service and disable it, or set promspool_web_listen_address to another port. Nothing was changed.")
			}
			r.inside("systemctl", "stop", "prometheus-pushgateway.service").Must(r.t)
			r.inside("systemd-run", "--unit=other", "--socket-property=ListenStream=127.0.0.1:9091", "cat").Must(r.t)
			r.refused(pack, "port 9091 is in use by process 1, systemd, of other.socket")
			r.plays(rolePlaybook, with(pack, vars{"promspool_web_listen_address": "127.0.0.2:9091"}), "--check") // no conflict
			r.inside("systemctl", "stop", "other.socket").Must(r.t)
		}},
		{"tarball", func(r *ansibleRoot) {
			r.plays(rolePlaybook, with(tarball, vars{"promspool_spool_users": []string{"deploy"}}))
			r.wantSpool()
			r.push("backup_size_bytes 42\n")
			wantVersion(r.t, r.page(), r.release("old"))
			r.dropsAsDeploy("/var/lib/promspool/spool", "dropped")
			r.unchanged(rolePlaybook, tarball)
			update := with(tarball, vars{"promspool_version": r.release("new"), "promspool_release_url": "http://127.0.0.1:8000/new"})
			r.plays(rolePlaybook, update)
			agenttest.WantLines(r.t, r.page(), `backup_size_bytes{job="backup"} 42`)
			wantVersion(r.t, r.page(), r.release("new"))
		}},
		{"removal of the tarball", func(r *ansibleRoot) {
			before := r.listing()
			if out, changed := r.plays(rolePlaybook, vars{"promspool_state": "absent"}, "--check"); changed == 0 {
				r.t.Errorf("a check finds nothing to remove:\n%s", out)
			}
			if after := r.listing(); after != before {
				r.t.Errorf("a check has changed files from\n%s\nto\n%s", before, after)
			}
			r.removed(clean)
		}},
		{"playbook of the documents", func(r *ansibleRoot) {
			r.plays(examplePlaybook, pack)
			r.wantSpool()
			r.push("backup_size_bytes 42\n")
			wantVersion(r.t, r.page(), r.release("old"))
			agenttest.WantLines(r.t, r.page(), `backup_size_bytes{job="backup"} 42`)
			want := []string{
				"/usr/bin/promspool", "serve", "--spool.directory=/var/lib/promspool/spool", "--web.listen-address=127.0.0.1:9091",
				"--spool.retention=30d", `--spool.ttl={job=~"ci_.+"}=7d`, `--spool.ttl={job="nightly report"}=2d`,
			}
			if got := r.flags(); !slices.Equal(got, want) {
				r.t.Errorf("the agent runs as %q, want %q", got, want)
			}
			if state := r.inside("systemctl", "is-enabled", "promspool.service", "promspool-run@backup.timer").Must(r.t); state != "enabled\nenabled\n" {
				r.t.Errorf("service and timer are %q, want enabled", state)
			}
			if got := r.show("promspool-run@backup.timer", "TimersCalendar"); !strings.Contains(got, "OnCalendar=*-*-* 02:30:00 ;") || strings.Contains(got, "00:00:00") {
				r.t.Errorf("the timer elapses at %s, want 02:30 alone", got)
			}
			r.dropsAsDeploy("/var/lib/promspool/spool", "dropped")
			r.runsJob("backup")
			r.inside("test", "-s", "/var/backups/etc.tgz").Must(r.t)
			r.unchanged(examplePlaybook, pack, "--check")
			r.unchanged(examplePlaybook, pack)
		}},
		{"upgrade", func(r *ansibleRoot) {
			files := vars{"promspool_version": r.release("new"), "promspool_release_url": "/srv/new"}
			r.plays(examplePlaybook, files)
			wantVersion(r.t, r.page(), r.release("new"))
			r.plays(examplePlaybook, pack)
			wantVersion(r.t, r.page(), r.release("old"))
			agenttest.WantLines(r.t, r.page(), `backup_size_bytes{job="backup"} 42`)
		}},
		{"flags and variables", func(r *ansibleRoot) {
			const odd, secret = `a "b" 'c' $HOME ${PATH} %h $$ ` + "`d`" + ` #;é`, `s3cret "q" 'r' \n $HOME %h ` + "`x` "
			before := r.show("promspool.service", "MainPID")
			r.write("/srv/"+odd+"/odd.prom", "odd_file 1\n", 0o644)
			v := with(pack, vars{
				"promspool_flags": vars{
					"spool.textfile-directory": []string{"/srv/" + odd, "/srv/none"},
					"spool.ttl":                `{job=~"a\\.b  c"}=7d`,
					"push.allow-remote":        true,
					"push.owner-check":         false,
					"push.max-series":          5000,
				},
				"promspool_jobs": []vars{
					{"name": "backup", "state": "absent"},
					{
						"name": "odd.job-1", "content": "#!/bin/sh\nprintf '%s' \"$PASSWORD\" >/var/tmp/password\n", "environment": vars{"PASSWORD": secret},
						"args": []string{"--every=1d", "--label=text=" + odd}, "user": "deploy", "schedule": "*:0/10",
					},
				},
				"promspool_spool_users": []string{"deploy"},
			})
			out, _ := r.plays(rolePlaybook, v, "--diff", "-vvv")
			if strings.Contains(out, "s3cret") {
				r.t.Errorf("the output has a variable of a job:\n%s", out)
			}
			if after := r.show("promspool.service", "MainPID"); after == before {
				r.t.Error("other flags have not restarted the service")
			}
			want := []string{
				"/usr/bin/promspool", "serve", "--spool.directory=/var/lib/promspool/spool", "--web.listen-address=:9091",
				"--push.allow-remote", "--push.max-series=5000", "--no-push.owner-check",
				"--spool.textfile-directory=/srv/" + odd, "--spool.textfile-directory=/srv/none", `--spool.ttl={job=~"a\\.b  c"}=7d`,
			}
			if got := r.flags(); !slices.Equal(got, want) {
				r.t.Errorf("the agent runs as %q, want %q", got, want)
			}
			agenttest.WaitFor(r.t, "odd_file is served", func() bool { return agenttest.HasLine(r.page(), "odd_file 1") })
			r.inside("systemctl", "start", "promspool-run@odd.job-1.service").Must(r.t)
			if got := r.inside("cat", "/var/tmp/password").Must(r.t); got != secret {
				r.t.Errorf("the job has the variable %q, want %q", got, secret)
			}
			if got := r.inside("stat", "-c", "%U", "/var/tmp/password").Must(r.t); got != "deploy\n" {
				r.t.Errorf("the job ran as %q, want deploy", got)
			}
			line := fmt.Sprintf(`promspool_job_exit_code{job="odd.job-1",text="%s"} 0`, strings.ReplaceAll(odd, `"`, `\"`))
			agenttest.WaitFor(r.t, line+" is served", func() bool { return agenttest.HasLine(r.page(), line) })
			for _, name := range []string{"/etc/promspool/jobs/backup", "/etc/systemd/system/timers.target.wants/promspool-run@backup.timer", "/etc/systemd/system/promspool-run@backup.timer.d"} {
				if _, err := os.Lstat(r.dir + name); err == nil {
					r.t.Errorf("%s of a deleted job is left", name)
				}
			}
			r.unchanged(rolePlaybook, v)
			// The message has the log of the agent, and the next run restarts it.
			out, status := r.play(rolePlaybook, with(pack, vars{"promspool_flags": vars{"push.alow-remote": true}}))
			if status != 2 || !strings.Contains(out, "unknown flag --push.alow-remote") {
				r.t.Errorf("with an unknown flag the playbook exits with %d and does not name it:\n%s", status, out)
			}
			r.plays(rolePlaybook, with(pack, vars{"promspool_flags": vars{"push.allow-remote": true}}))
			if got := r.flags(); !slices.Contains(got, "--push.allow-remote") {
				r.t.Errorf("the agent runs as %q, want the corrected flag", got)
			}
		}},
		{"spool elsewhere", func(r *ansibleRoot) {
			const spool = `/srv/the "metrics" of jobs/100%h sp\ool`
			v := with(pack, vars{
				"promspool_spool_directory": spool, "promspool_spool_users": []string{"deploy"},
				"promspool_jobs": []vars{{"name": "report", "command": "exit 0"}, {"name": "of-deploy", "command": "exit 0", "user": "deploy"}},
			})
			r.plays(rolePlaybook, v)
			if got := r.inside("stat", "-c", "%a %U:%G", spool).Must(r.t); got != "2775 promspool:promspool\n" {
				r.t.Errorf("the spool has %q, want the mode 2775 and promspool", got)
			}
			r.push("elsewhere 1\n")
			agenttest.WantLines(r.t, r.page(), `elsewhere{job="backup"} 1`)
			r.inside("test", "-e", spool+"/job=backup.prom").Must(r.t)
			r.dropsAsDeploy(spool, "dropped_elsewhere")
			r.runsJob("report")
			r.runsJob("of-deploy")
			r.unchanged(rolePlaybook, v)
			r.plays(rolePlaybook, with(pack, vars{"promspool_jobs": []vars{{"name": "of-deploy", "state": "absent"}}}))
			agenttest.WantLines(r.t, r.page(), `backup_size_bytes{job="backup"} 42`)
		}},
		{"sockets", func(r *ansibleRoot) {
			// Also if the host has promspool's sockets, the port is its own.
			for _, c := range []struct {
				v       vars
				scrapes [][]string
			}{
				{vars{"promspool_sockets": []string{"push", "metrics"}}, [][]string{{"http://127.0.0.1:9091/metrics"}}},
				{vars{"promspool_sockets": []string{"web", "push", "metrics"}}, [][]string{{"http://127.0.0.1:9091/metrics"}}},
				{vars{"promspool_sockets": []string{"web"}, "promspool_web_listen_address": []string{"127.0.0.1:9191", "[::1]:9192"}}, [][]string{{"http://127.0.0.1:9191/metrics"}, {"http://[::1]:9192/metrics"}}},
				{vars{"promspool_sockets": []string{"push", "metrics"}, "promspool_web_listen_address": ""}, nil},
				{vars{}, [][]string{{"http://127.0.0.1:9091/metrics"}}},
			} {
				v := with(pack, c.v)
				r.plays(rolePlaybook, v)
				sockets, _ := c.v["promspool_sockets"].([]string)
				for _, name := range []string{"push", "metrics"} {
					path := "/run/promspool/" + name + ".sock"
					if _, err := os.Stat("/proc/" + r.leader + "/root" + path); (err == nil) != slices.Contains(sockets, name) {
						r.t.Errorf("with the sockets %q %s is there: %v", sockets, path, err == nil)
					} else if err == nil {
						c.scrapes = append(c.scrapes, []string{"--unix-socket", "/proc/" + r.leader + "/root" + path, "http://localhost/metrics"})
					}
				}
				for _, args := range c.scrapes {
					agenttest.WantLines(r.t, r.scrape(args...), `backup_size_bytes{job="backup"} 42`)
				}
				if slices.Contains(sockets, "web") {
					r.unchanged(rolePlaybook, v)
				}
			}
		}},
		{"tarball on a package", func(r *ansibleRoot) {
			r.refused(tarball, "the package promspool is installed")
		}},
		{"removal of the package", func(r *ansibleRoot) { r.removed(clean) }},
		{"package after a tarball", func(r *ansibleRoot) {
			job := vars{"promspool_jobs": []vars{{"name": "report", "command": "exit 0"}}}
			r.plays(rolePlaybook, with(tarball, job))
			before := r.show("promspool.service", "MainPID")
			r.plays(rolePlaybook, with(pack, job))
			if after := r.show("promspool.service", "MainPID"); after == before {
				r.t.Error("the package has not restarted the service")
			}
			for _, unit := range []string{"promspool.service", "promspool-run@report.timer"} {
				if got := r.show(unit, "FragmentPath"); !strings.Contains(got, "/lib/systemd/system/promspool") {
					r.t.Errorf("%s is read from %s, want the package's", unit, got)
				}
				if got := r.inside("systemctl", "is-enabled", unit).Must(r.t); got != "enabled\n" {
					r.t.Errorf("%s is %q, want enabled", unit, got)
				}
			}
			agenttest.WantLines(r.t, r.page(), `backup_size_bytes{job="backup"} 42`)
			r.unchanged(rolePlaybook, with(pack, job))
			r.removed(clean)
			absent := vars{"promspool_state": "absent"}
			if out, changed := r.plays(rolePlaybook, absent); changed != 0 {
				r.t.Errorf("the second removal changes %d things:\n%s", changed, out)
			}
		}},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			step.run(host(t))
		}) {
			break
		}
	}
}

// platform is the architecture in the names of the tarballs.
func platform(r *ansibleRoot) string {
	_, platform, _ := strings.Cut(filepath.Base(packages(r.t, "old", "tar.gz")), ".linux-")
	return strings.TrimSuffix(platform, ".tar.gz")
}

// removed removes promspool and checks that only the spool and the user are left.
func (r *ansibleRoot) removed(clean string) {
	r.t.Helper()
	absent := vars{"promspool_state": "absent", "promspool_jobs": []vars{{"name": "backup"}, {"name": "odd.job-1"}, {"name": "report"}}}
	r.plays(rolePlaybook, absent)
	left := slices.DeleteFunc(leftovers(r.listing(), clean), func(name string) bool {
		return regexp.MustCompile(`^(/var/lib/promspool|/etc/(passwd|group|shadow|gshadow)-$|/etc/sysusers.d$)`).MatchString(name)
	})
	if len(left) > 0 {
		r.t.Errorf("a removal leaves %q", left)
	}
	if text := r.read("/var/lib/promspool/spool/job=backup.prom"); !strings.Contains(text, `backup_size_bytes{job="backup"} 42`) {
		r.t.Errorf("the removal has changed the spool: %s", text)
	}
	r.inside("getent", "passwd", "promspool").Must(r.t)
	if _, said, status := r.outside("curl", "-sS", "http://127.0.0.1:9091/metrics").Run(r.t); status != 7 {
		r.t.Errorf("after a removal curl exits with %d, want 7 for a refused connection: %s", status, said)
	}
}
