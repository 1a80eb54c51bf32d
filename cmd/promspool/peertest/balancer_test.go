package peertest

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// A member is a promspool behind a balancer, which knows its address.
type member struct {
	*agenttest.Agent
	listens string
}

func startMember(t *testing.T, listens, spool string) *member {
	t.Helper()
	if spool == "" {
		spool = filepath.Join(t.TempDir(), "spool")
	}
	s := agenttest.StartServer(t, `msg=Serving .* on=(\S+)`, agenttest.Promspool, "--web.listen-address="+listens, "--spool.directory="+spool, "--push.allow-remote", "--web.enable-admin-api")
	return &member{&agenttest.Agent{Server: s, URL: "http://" + listens, Spool: spool}, listens}
}

// balanced replaces the addresses in a configuration by those of the test.
func balanced(t *testing.T, config, listen, addr string, members []*member) string {
	t.Helper()
	for i, m := range members {
		config = strings.ReplaceAll(config, fmt.Sprintf("member%d:9091", i+1), m.listens)
	}
	return replace(t, config, listen, addr)
}

// serverAt starts a program that listens on a known address and logs nothing.
func serverAt(t *testing.T, addr, program string, args ...string) {
	t.Helper()
	s := agenttest.StartServer(t, `()`, program, args...)
	waitListening(t, s, addr)
}

// waitListening waits until the program accepts connections on the address.
func waitListening(t *testing.T, s *agenttest.Server, addr string) {
	t.Helper()
	agenttest.WaitFor(t, filepath.Base(s.Cmd.Path)+" accepts connections", func() bool {
		if s.HasExited() {
			t.Fatalf("%q: %v\n%s", s.Cmd.Args, s.Cmd.ProcessState, s.Log)
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			err = c.Close()
		}
		return err == nil
	})
}

func startHaproxy(t *testing.T, addr string, members []*member) {
	t.Helper()
	program := agenttest.Need(t, "/usr/sbin/haproxy")
	config := balanced(t, example(t, "balancer/haproxy.cfg"), "bind :9091", "bind "+addr, members)
	config = replace(t, config, "check inter 2s", "check inter 100ms")
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	agenttest.NoError(t, os.WriteFile(file, []byte(config), 0o644))
	serverAt(t, addr, program, "-db", "-f", file)
}

func startNginx(t *testing.T, addr string, members []*member) {
	t.Helper()
	program := agenttest.Need(t, "/usr/sbin/nginx")
	config := balanced(t, example(t, "balancer/nginx.conf"), "listen 9091", "listen "+addr, members)
	dir := t.TempDir()
	agenttest.NoError(t, os.WriteFile(dir+"/promspool.conf", []byte(strings.ReplaceAll(config, "fail_timeout=10s", "fail_timeout=1s")), 0o644))
	var rest strings.Builder // the rest of Debian's nginx.conf
	fmt.Fprintf(&rest, "daemon off; master_process off; pid %s/pid; error_log stderr;\nevents {}\nhttp {\n  access_log off;\n", dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&rest, "  %s_temp_path %s/%s;\n", kind, dir, kind)
	}
	rest.WriteString("  include promspool.conf;\n}\n")
	agenttest.NoError(t, os.WriteFile(dir+"/nginx.conf", []byte(rest.String()), 0o644))
	serverAt(t, addr, program, "-e", "stderr", "-p", dir, "-c", dir+"/nginx.conf")
}

// through makes a request and does not follow redirects.
func through(t *testing.T, addr, method, path, body string) (code int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, strings.NewReader(body))
	agenttest.NoError(t, err)
	resp, err := http.DefaultTransport.RoundTrip(req)
	agenttest.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	agenttest.NoError(t, err)
	return resp.StatusCode, string(text)
}

func mustThrough(t *testing.T, addr, method, path, body string) {
	t.Helper()
	if code, answer := through(t, addr, method, path, body); code != http.StatusOK && code != http.StatusAccepted {
		t.Fatalf("%s %s = %d %s", method, path, code, answer)
	}
}

const balancedGroups = 30

// balancedGroup returns the path of a group and its file on a member.
func balancedGroup(i int) (path, file string) {
	return fmt.Sprintf("/metrics/job/backup/zone/z%d", i), fmt.Sprintf("job=backup,zone=z%d.prom", i)
}

// pushBalanced pushes every group and returns the members that then have that value.
func pushBalanced(t *testing.T, addr string, members []*member, value int) map[int]*member {
	t.Helper()
	at := map[int]*member{}
	for i := range balancedGroups {
		path, file := balancedGroup(i)
		line := fmt.Sprintf("\nbackup_size_bytes{job=\"backup\",zone=\"z%d\"} %d\n", i, value)
		mustThrough(t, addr, "PUT", path, fmt.Sprintf("backup_size_bytes %d\n", value))
		for _, m := range members {
			if text, err := os.ReadFile(filepath.Join(m.Spool, file)); err == nil && strings.Contains(string(text), line) {
				if at[i] != nil {
					t.Errorf("%s was pushed to two members", path)
				}
				at[i] = m
			}
		}
		if at[i] == nil {
			t.Fatalf("no member has the push to %s", path)
		}
	}
	return at
}

func TestBalancerExample(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, addr string, members []*member){"haproxy": startHaproxy, "nginx": startNginx} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agenttest.Need(t, "curl")
			var members []*member
			for range 3 {
				members = append(members, startMember(t, freeAddress(t), ""))
			}
			addr := freeAddress(t)
			start(t, addr, members)

			// Paths arrive as they were sent, and no response is a redirect.
			mustThrough(t, addr, "PUT", "/metrics/job/a%20b/x@base64/L3Zhci90bXA", "odd 1\n")
			mustThrough(t, addr, "PUT", "/metrics/job@base64/YSBi/y/1", "odd 2\n")
			mustThrough(t, addr, "POST", "/metrics/job/large", "# "+strings.Repeat("x", 3<<20)+"\nlarge 1\n")
			var pages string
			for _, m := range members {
				pages += m.Page()
			}
			agenttest.WantLines(t, pages, `odd{job="a b",x="/var/tmp"} 1`, `odd{job="a b",y="1"} 2`, `large{job="large"} 1`)
			for path, want := range map[string]int{"/metrics": 404, "/": 404, "/metrics/job": 404, "/metrics/job/a//b": 400, "/metrics/job/a/b": 400, "/metrics/job/a/../b/c": 400} {
				if code, answer := through(t, addr, "PUT", path, "m 1\n"); code != want {
					t.Errorf("PUT %s = %d %s, want %d", path, code, answer, want)
				}
			}

			first := pushBalanced(t, addr, members, 1)
			if owners := slices.Compact(slices.SortedFunc(maps.Values(first), func(a, b *member) int { return strings.Compare(a.listens, b.listens) })); len(owners) < 2 {
				t.Errorf("one member has all groups")
			}
			if again := pushBalanced(t, addr, members, 2); !maps.Equal(first, again) {
				t.Errorf("the groups are at\n%v\nand the second time at\n%v", first, again)
			}

			// A member fails: its groups move to others at once, and no other groups move.
			lost := first[0]
			lost.Kill()
			rest := slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m == lost })
			meanwhile := pushBalanced(t, addr, rest, 3)
			for i, m := range first {
				if m != lost && meanwhile[i] != m {
					t.Errorf("group %d has moved, though its member is there", i)
				}
			}

			// It returns: at first with its old content, then with its groups.
			back := startMember(t, lost.listens, lost.Spool)
			agenttest.WantLines(t, back.Page(), `backup_size_bytes{job="backup",zone="z0"} 2`)
			members[slices.Index(members, lost)] = back
			prometheus := startBalancedPrometheus(t, members)
			const newest = `backup_size_bytes:newest{zone="z0"}`
			agenttest.WaitFor(t, "both copies are scraped", func() bool { s, _ := prometheus.query(`backup_size_bytes{zone="z0"}`); return len(s) == 2 })
			agenttest.WaitFor(t, "the rule has the newest copy", func() bool { _, v := prometheus.query(newest); return v == "3" })
			path, _ := balancedGroup(0)
			agenttest.WaitFor(t, "its groups return to it", func() bool {
				mustThrough(t, addr, "PUT", path, "backup_size_bytes 4\n")
				return agenttest.HasLine(back.Page(), `backup_size_bytes{job="backup",zone="z0"} 4`)
			})
			agenttest.WantLines(t, meanwhile[0].Page(), `backup_size_bytes{job="backup",zone="z0"} 3`)
			agenttest.WaitFor(t, "the rule has the newest copy again", func() bool { _, v := prometheus.query(newest); return v == "4" })
			prometheus.has(newest, "4", labels{"job": "backup", "zone": "z0"})
			prometheus.has(`count(backup_size_bytes{zone="z0"})`, "2", labels{})

			// The command for outdated copies finds this one.
			stoodIn := meanwhile[0]
			old := replace(t, strings.TrimSpace(lineOf(t, "balancer/README.md", "older_than")), "member1:9091", stoodIn.listens)
			old = replace(t, old, "older_than=2d", "dry_run=1 -d older_than=0s")
			if out := (agenttest.Command{Name: "/bin/sh", Args: []string{"-c", old}}).Must(t); !strings.Contains(out, `"zone":"z0"`) {
				t.Errorf("%s prints\n%s", old, out)
			}

			// A deletion through the balancer leaves one copy; a deletion on all members none.
			var addresses []string
			for _, m := range members {
				addresses = append(addresses, m.listens)
			}
			mustThrough(t, addr, "DELETE", path, "")
			agenttest.WantLines(t, stoodIn.Page(), `backup_size_bytes{job="backup",zone="z0"} 3`)
			everywhere := agenttest.Command{Name: examples + "/balancer/delete-everywhere", Args: []string{strings.TrimPrefix(path, "/metrics/")}, Env: []string{"MEMBERS=" + strings.Join(addresses, " ")}}
			everywhere.Must(t)
			for _, m := range members {
				agenttest.WantNone(t, m.Page(), `zone="z0"`)
			}
			back.Stop()
			if _, stderr, status := everywhere.Run(t); status != 1 || !strings.Contains(stderr, back.listens+" did not answer") {
				t.Errorf("with a member away it ends with status %d and says %q", status, stderr)
			}
		})
	}
}

// startBalancedPrometheus starts the Prometheus of the example.
func startBalancedPrometheus(t *testing.T, members []*member) *realPrometheus {
	t.Helper()
	agenttest.Need(t, "prometheus")
	rules, err := filepath.Abs(examples + "/balancer/newest.yml")
	agenttest.NoError(t, err)
	config := balanced(t, example(t, "balancer/prometheus.yml"), "- newest.yml", "- "+rules, members)
	config = strings.ReplaceAll(config, "_interval: 15s", "_interval: 1s")
	dir := t.TempDir()
	agenttest.NoError(t, os.WriteFile(dir+"/prometheus.yml", []byte(config), 0o644))
	return &realPrometheus{agenttest.StartServer(t, listensOn, "prometheus",
		"--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/data", "--web.listen-address=127.0.0.1:0")}
}

func TestPromtoolAcceptsTheBalancerExample(t *testing.T) {
	t.Parallel()
	agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"check", "config", examples + "/balancer/prometheus.yml"}}.Must(t)
}
