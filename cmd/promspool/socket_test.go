package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// overSocket sends a request through a unix socket.
func overSocket(t *testing.T, path, method, target, body string, header ...string) (code int, answer string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+target, strings.NewReader(body))
	agenttest.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Transport: transport, Timeout: agenttest.Timeout}).Do(req)
	agenttest.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	agenttest.NoError(t, err)
	return resp.StatusCode, string(b)
}

func TestPushSocketTakesPushesAndReads(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "push.sock")
	a := agenttest.StartAgent(t, "", "--push.socket="+socket, "--web.enable-lifecycle", "--web.enable-pprof", "--web.enable-admin-api")
	for _, tt := range []struct {
		method, path, body string
		header             []string
		want               int
	}{
		{"PUT", "/metrics/job/a", "b 1\n", nil, 200},
		{"POST", "/metrics/job/a", "c 2\n", nil, 200},
		{"PUT", "/metrics/job/x", "b 1\n", nil, 200},
		{"DELETE", "/metrics/job/x", "", nil, 202},
		{"GET", "/metrics", "", nil, 200},
		{"GET", "/-/healthy", "", nil, 200},
		{"PUT", "/metrics/job/a", "evil 1\n", []string{"Origin", "http://attacker.example"}, 403},
		{"PUT", "/-/quit", "", nil, 403},
		{"GET", "/debug/pprof/heap", "", nil, 404},
	} {
		if code, answer := overSocket(t, socket, tt.method, tt.path, tt.body, tt.header...); code != tt.want {
			t.Errorf("%s %s = %d %q, want %d", tt.method, tt.path, code, answer, tt.want)
		}
	}
	agenttest.WantLines(t, a.Merge(), `b{job="a"} 1`, `c{job="a"} 2`)
	if strings.Contains(a.Merge(), "evil") {
		t.Error("a page has pushed")
	}
	fi, err := os.Lstat(socket)
	agenttest.NoError(t, err)
	if fi.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the socket has the mode %v, want 0660", fi.Mode())
	}
	a.Stop()
	left, err := os.ReadDir(filepath.Dir(socket))
	if err != nil || len(left) > 0 {
		t.Errorf("after the stop there is %v, %v, want nothing", left, err)
	}
}

func TestPushSocketOfADeadAgentIsReplaced(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "push.sock")
	a := agenttest.StartAgent(t, "", "--push.socket="+socket)
	refuses(t, agenttest.Command{Args: []string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + a.Spool, "--push.socket=" + socket}}, 1,
		"another process listens on "+socket)
	if code, answer := overSocket(t, socket, "GET", "/-/ready", ""); code != 200 {
		t.Errorf("the agent that was there first answers %d %q", code, answer)
	}
	a.Kill()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("the killed agent has left no socket: %v", err)
	}
	b := agenttest.StartAgent(t, a.Spool, "--push.socket="+socket, "--push.socket-mode=600")
	if code, answer := overSocket(t, socket, "PUT", "/metrics/job/a", "b 1\n"); code != 200 {
		t.Errorf("a push to the next agent = %d %q, want 200", code, answer)
	}
	agenttest.WantLines(t, b.Merge(), `b{job="a"} 1`)
}

// TestPushSocketOfAnotherStays stops an agent whose socket was replaced.
func TestPushSocketOfAnotherStays(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "push.sock")
	a := agenttest.StartAgent(t, "", "--push.socket="+socket)
	agenttest.NoError(t, os.Remove(socket))
	b := agenttest.StartAgent(t, "", "--push.socket="+socket)
	a.Stop()
	if code, answer := overSocket(t, socket, "PUT", "/metrics/job/a", "b 1\n"); code != 200 {
		t.Errorf("a push = %d %q, want 200", code, answer)
	}
	agenttest.WantLines(t, b.Merge(), `b{job="a"} 1`)
}

func TestSocketThatCannotBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	agenttest.NoError(t, os.Mkdir(open, 0o755))
	agenttest.NoError(t, os.Chmod(open, 0o777))
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	agenttest.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	agenttest.NoError(t, os.Symlink("file", link))
	for _, tt := range []struct {
		path, more string
		status     int
		want       string
	}{
		{file, "", 1, file + " exists and is not a socket"},
		{link, "", 1, link + " exists and is not a socket"},
		{dir, "", 1, dir + " exists and is not a socket"},
		{filepath.Join(dir, "none", "s"), "", 1, "does not exist: create it, or use another path"},
		{filepath.Join(open, "s"), "", 1, "any user may write to " + open},
		{"@abstract", "", 2, "abstract socket"},
		{"/" + strings.Repeat("s", 200), "", 2, "too long"},
		{filepath.Join(dir, "s"), "-mode=rw", 2, "-mode"},
		{filepath.Join(dir, "s"), "-mode=7777", 2, "-mode"},
		{filepath.Join(dir, "s"), "-group=no such group", 1, "-group"},
	} {
		for _, flag := range []string{"--push.socket", "--web.metrics-socket"} {
			args := []string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + filepath.Join(dir, "spool"), flag + "=" + tt.path}
			if tt.more != "" {
				args = append(args, flag+tt.more)
			}
			refuses(t, agenttest.Command{Args: args}, tt.status, tt.want)
			refuses(t, agenttest.Command{Args: args}, tt.status, flag)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file in the way holds %q, %v", b, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".s*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left", left, err)
	}
}

func TestMetricsSocketOnlyReads(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "metrics.sock")
	a := agenttest.StartAgent(t, "", "--web.metrics-socket="+socket, "--web.enable-lifecycle", "--web.enable-pprof", "--web.enable-admin-api", "--ping.enable", "--push.allow-remote")
	a.Push("/metrics/job/a", "b 1\n")
	const says = "this socket is read-only"
	for _, tt := range []struct {
		method, path string
		code         int
		answer       string
	}{
		{"GET", "/metrics", 200, `b{job="a"} 1`},
		{"HEAD", "/metrics", 200, ""},
		{"GET", "/-/healthy", 200, "OK"},
		{"GET", "/-/ready", 200, "OK"},
		{"GET", "/api/v1/status", 200, `"success"`},
		{"GET", "/api/v1/metrics", 200, `"b"`},
		{"GET", "/api/v1/files", 200, "job=a.prom"},
		{"GET", "/", 200, "<html"},
		{"GET", "/status", 200, "<html"},
		{"OPTIONS", "/api/v1/files", 200, ""},
		{"PUT", "/metrics/job/a", 405, says},
		{"POST", "/metrics/job/new", 405, says},
		{"DELETE", "/metrics/job/a", 405, says},
		{"POST", "/metrics", 405, says},
		{"PATCH", "/", 405, says},
		{"PUT", "/-/quit", 405, says},
		{"PUT", "/api/v1/admin/wipe", 405, says},
		{"DELETE", "/api/v1/admin/groups?match[]=job", 405, says},
		{"GET", "/ping/backup", 403, says},
		{"HEAD", "/ping/backup/start", 403, ""},
		{"POST", "/ping/backup", 405, says},
		{"GET", "/debug/pprof/heap", 404, "404"},
		{"GET", "/metrics/job/a", 404, "404"},
	} {
		if code, answer := overSocket(t, socket, tt.method, tt.path, ""); code != tt.code || !strings.Contains(answer, tt.answer) {
			t.Errorf("%s %s = %d %q, want %d and %q", tt.method, tt.path, code, answer, tt.code, tt.answer)
		}
	}
	if code, answer := overSocket(t, socket, "PUT", "/metrics/job/a", strings.Repeat("# much\n", 1<<18)); code != 405 || !strings.Contains(answer, says) {
		t.Errorf("a large push = %d %q, want 405", code, answer)
	}
	const button = `class="delete"`
	if _, page := a.Send("GET", "/", ""); !strings.Contains(page, button) {
		t.Fatalf("the page at the port has no %s", button)
	}
	if _, page := overSocket(t, socket, "GET", "/", ""); strings.Contains(page, button) {
		t.Error("the page at the socket offers to delete")
	}
	if files := agenttest.Files(t, a.Spool); len(files) != 1 {
		t.Errorf("the spool has %q, want the one group", files)
	}
	fi, err := os.Lstat(socket)
	agenttest.NoError(t, err)
	if fi.Mode() != fs.ModeSocket|0o666 {
		t.Errorf("the socket has the mode %v, want 0666", fi.Mode())
	}
	a.Kill()
	b := agenttest.StartAgent(t, a.Spool, "--web.metrics-socket="+socket)
	if code, _ := overSocket(t, socket, "GET", "/-/ready", ""); code != 200 {
		t.Errorf("the socket of the next agent answers %d", code)
	}
	b.Stop()
	if left := agenttest.Files(t, filepath.Dir(socket)); len(left) > 0 {
		t.Errorf("after the stop there is %q, want nothing", left)
	}
}

// TestNoPort has an agent without an address, and looks for ports that it listens on.
func TestNoPort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	push, read := filepath.Join(dir, "push.sock"), filepath.Join(dir, "metrics.sock")
	spool := filepath.Join(dir, "spool")
	s := agenttest.StartServer(t, `msg=Serving .*on="sockets (only)"`, agenttest.Promspool, "--web.listen-address=", "--spool.directory="+spool, "--push.socket="+push, "--web.metrics-socket="+read)
	if code, answer := overSocket(t, push, "PUT", "/metrics/job/a", "b 1\n"); code != 200 {
		t.Errorf("a push = %d %q, want 200", code, answer)
	}
	if _, page := overSocket(t, read, "GET", "/metrics", ""); !agenttest.HasLine(page, `b{job="a"} 1`) {
		t.Errorf("the socket serves\n%s", page)
	}
	if runtime.GOOS == "linux" {
		if ports := listening(t, s.Cmd.Process.Pid); len(ports) > 0 {
			t.Errorf("the agent listens on %q", ports)
		}
		if a := agenttest.StartAgent(t, ""); len(listening(t, a.Cmd.Process.Pid)) != 1 {
			t.Error("the port of an agent that has one is not found")
		}
	}
	agenttest.Command{Name: agenttest.Promspool, Args: []string{"health", "--url=unix://" + read}}.Must(t)
	s.Stop()
	refuses(t, agenttest.Command{Args: []string{"--web.listen-address=", "--spool.directory=" + spool}}, 2, "--web.listen-address is empty and there is no socket")
}

// listening returns the TCP sockets on which the process listens, as the kernel writes them.
func listening(t *testing.T, pid int) (found []string) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d", pid)
	open := map[string]bool{}
	fds, err := filepath.Glob(proc + "/fd/*")
	agenttest.NoError(t, err)
	for _, fd := range fds {
		to, _ := os.Readlink(fd) // or it is closed by now
		open[to] = true
	}
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(proc + "/net/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		agenttest.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && open["socket:["+f[9]+"]"] {
				found = append(found, f[1])
			}
		}
	}
	return found
}

// TestMetricsSocketOfTheServiceManager has an agent with the sockets of units alone.
func TestMetricsSocketOfTheServiceManager(t *testing.T) {
	t.Parallel()
	activate := agenttest.Need(t, "systemd-socket-activate")
	dir := t.TempDir()
	push, read := filepath.Join(dir, "push.sock"), filepath.Join(dir, "metrics.sock")
	s := agenttest.StartServer(t, `Listening on (\S+) as 4`, activate, "--listen="+push, "--listen="+read, "--fdname=push:metrics",
		agenttest.Promspool, "--web.listen-address=", "--spool.directory="+dir+"/spool")
	if code, answer := overSocket(t, push, "PUT", "/metrics/job/a", "b 1\n"); code != 200 {
		t.Errorf("a push = %d %q, want 200", code, answer)
	}
	if code, _ := overSocket(t, read, "PUT", "/metrics/job/a", "b 2\n"); code != 405 {
		t.Errorf("a push to the read-only socket = %d, want 405", code)
	}
	if _, page := overSocket(t, read, "GET", "/metrics", ""); !agenttest.HasLine(page, `b{job="a"} 1`) {
		t.Errorf("the socket serves\n%s", page)
	}
	s.Stop()
}

// TestDoctorKnowsTheMetricsSocket has a Prometheus that scrapes the socket, and one that
// does not.
func TestDoctorKnowsTheMetricsSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "metrics.sock")
	a := agenttest.StartAgent(t, "", "--web.metrics-socket="+socket)
	config := filepath.Join(dir, "prometheus.yml")
	for _, tt := range []struct{ url, scraped, want string }{
		{"unix://" + socket, socket, `scrapes the agent with honor_labels`},
		{a.URL, socket, `scrapes the agent with honor_labels`},
		{"unix://" + socket, dir + "/other.sock", `has the socket ` + socket + ` in a label __unix_socket__`},
		{a.URL, dir + "/other.sock", `has this host and port`},
	} {
		agenttest.NoError(t, os.WriteFile(config, []byte(`scrape_configs:
  - job_name: promspool
    honor_labels: true
    static_configs:
      - targets: [db1:80]
        labels: {__unix_socket__: `+tt.scraped+`}
`), 0o644))
		stdout, _, _ := agenttest.Command{Name: agenttest.Promspool, Args: []string{"doctor", "--spool.directory=" + a.Spool, "--url=" + tt.url, "--proc=" + dir, "--prometheus.config=" + config, "--node-exporter.defaults=none"}}.Run(t)
		if !strings.Contains(stdout, tt.want) || !strings.Contains(stdout, "answers at "+tt.url) {
			t.Errorf("with %v doctor says\n%s", tt, stdout)
		}
	}
}

// TestPushSocketAsksForItsGroup has users connect who may and may not.
func TestPushSocketAsksForItsGroup(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t, "gives the socket to a group and becomes other users")
	curl := agenttest.Need(t, "curl")
	dir := openDir(t)
	socket := filepath.Join(dir, "push.sock")
	a := agenttest.StartAgent(t, "", "--push.socket="+socket, "--push.socket-group=4242")
	push := func(gid uint32) int {
		_, _, status := agenttest.Command{
			Name: curl, Args: []string{"--silent", "--show-error", "--fail", "--unix-socket", socket, "--data-binary", "@-", "http://localhost/metrics/job/a"}, Stdin: "b 1\n",
			User: &syscall.Credential{Uid: 65534, Gid: gid},
		}.Run(t)
		return status
	}
	if status := push(65534); status != 7 { // curl could not connect
		t.Errorf("curl of a stranger exits with %d, want 7", status)
	}
	if status := push(4242); status != 0 {
		t.Errorf("curl of a member of the group exits with %d, want 0", status)
	}
	agenttest.WantLines(t, a.Merge(), `b{job="a"} 1`)
}
