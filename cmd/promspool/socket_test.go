package main_test

import (
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
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

func TestPushSocketThatCannotBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	agenttest.NoError(t, os.Mkdir(open, 0o755))
	agenttest.NoError(t, os.Chmod(open, 0o777))
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	agenttest.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	agenttest.NoError(t, os.Symlink("file", link))
	for _, tt := range []struct {
		path, flag string
		status     int
		want       string
	}{
		{file, "", 1, file + " exists and is not a socket"},
		{link, "", 1, link + " exists and is not a socket"},
		{dir, "", 1, dir + " exists and is not a socket"},
		{filepath.Join(dir, "none", "s"), "", 1, "no such file or directory"},
		{filepath.Join(open, "s"), "", 1, "any user may write to " + open},
		{"@abstract", "", 2, "abstract socket"},
		{"/" + strings.Repeat("s", 200), "", 2, "too long"},
		{filepath.Join(dir, "s"), "--push.socket-mode=rw", 2, "--push.socket-mode"},
		{filepath.Join(dir, "s"), "--push.socket-mode=7777", 2, "--push.socket-mode"},
		{filepath.Join(dir, "s"), "--push.socket-group=no such group", 1, "--push.socket-group"},
	} {
		args := []string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + filepath.Join(dir, "spool"), "--push.socket=" + tt.path}
		if tt.flag != "" {
			args = append(args, tt.flag)
		}
		refuses(t, agenttest.Command{Args: args}, tt.status, tt.want)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file in the way holds %q, %v", b, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".s*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left", left, err)
	}
}

// TestPushSocketAsksForItsGroup has users connect who may and may not.
func TestPushSocketAsksForItsGroup(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t, "gives the socket to a group and becomes other users")
	curl := agenttest.Need(t, "curl")
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		agenttest.NoError(t, os.Chmod(d, 0o755))
	}
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
