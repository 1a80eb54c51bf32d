package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestOwnerCheckOfOneUser(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "push.sock")
	a := agenttest.StartAgent(t, "", "--push.socket="+socket, "--push.owner-check", "--web.enable-admin-api", "--ping.enable")
	if code, answer := overSocket(t, socket, "PUT", "/metrics/job/mine", "m 1\n"); code != 200 {
		t.Fatalf("PUT = %d %q, want 200", code, answer)
	}
	file := filepath.Join(a.Spool, "job=mine.prom")
	before, err := os.ReadFile(file)
	agenttest.NoError(t, err)
	if !strings.Contains(string(before), "\n# promspool:owner "+strconv.Itoa(os.Geteuid())+"\n") {
		t.Errorf("the file is\n%s", before)
	}
	// Over the network the pushing user is unknown.
	for _, tt := range []struct{ method, path, body string }{
		{"PUT", "/metrics/job/mine", "m 2\n"},
		{"POST", "/metrics/job/mine", "n 2\n"},
		{"DELETE", "/metrics/job/mine", ""},
		{"PUT", "/metrics/job/mine", "m 2 1000\n"},
		{"GET", "/ping/mine", ""},
		{"PUT", "/api/v1/admin/wipe", ""},
		{"DELETE", `/api/v1/admin/groups?match[]={job="mine"}`, ""},
	} {
		code, answer := a.Send(tt.method, tt.path, tt.body)
		if code != http.StatusForbidden || !strings.Contains(answer, "--push.admin-group") {
			t.Errorf("%s %s over the network = %d %q, want 403", tt.method, tt.path, code, answer)
		}
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the file is now\n%s", after)
	}
	a.Push("/metrics/job/anybodys", "m 1\n")
	a.Push("/metrics/job/anybodys", "m 2\n")
	if code, answer := overSocket(t, socket, "POST", "/metrics/job/mine", "n 1\n"); code != 200 {
		t.Errorf("POST = %d %q, want 200", code, answer)
	}
	if code, answer := overSocket(t, socket, "DELETE", "/metrics/job/mine", ""); code != 202 {
		t.Errorf("DELETE = %d %q, want 202", code, answer)
	}
}

func TestOwnerCheckOfManyUsers(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t, "pushes as other users")
	curl := agenttest.Need(t, "curl")
	dir := openDir(t)
	socket := filepath.Join(dir, "push.sock")
	flags := []string{"--push.socket=" + socket, "--push.socket-mode=0666", "--push.owner-check", "--push.admin-group=4242", "--web.enable-admin-api"}
	a := agenttest.StartAgent(t, "", flags...)
	ann, bob := &syscall.Credential{Uid: 4001, Gid: 4001}, &syscall.Credential{Uid: 4002, Gid: 4002}
	admin, helper, root := &syscall.Credential{Uid: 4003, Gid: 4242}, &syscall.Credential{Uid: 4004, Gid: 4004, Groups: []uint32{4300, 4242}}, &syscall.Credential{}
	for _, step := range []struct {
		who          *syscall.Credential
		method, path string
		body         string
		want         string
	}{
		{ann, "PUT", "/metrics/job/a", "m 1\n", "200"},
		{bob, "PUT", "/metrics/job/a", "m 2\n", "403"},
		{bob, "POST", "/metrics/job/a", "n 2\n", "403"},
		{bob, "PUT", "/metrics/job/a", "m 2 1000\n", "403"},
		{bob, "DELETE", "/metrics/job/a", "", "403"},
		{bob, "DELETE", "/metrics/job/none", "", "202"},
		{ann, "PUT", "/api/v1/admin/wipe", "", "403"},
		{ann, "DELETE", "/api/v1/admin/groups?older_than=1s", "", "403"},
		{admin, "POST", "/metrics/job/a", "by_admin 1\n", "200"},
		{helper, "POST", "/metrics/job/a", "by_helper 1\n", "200"},
		{root, "POST", "/metrics/job/a", "by_root 1\n", "200"},
		{bob, "PUT", "/metrics/job/a", "m 2\n", "403"},
		{ann, "POST", "/metrics/job/a", "n 1\n", "200"},
	} {
		got := agenttest.Command{
			Name: curl, User: step.who, Stdin: step.body,
			Args: []string{"--silent", "--globoff", "--unix-socket", socket, "--output", "/dev/null", "--write-out", "%{http_code}", "--request", step.method, "--data-binary", "@-", "http://localhost" + step.path},
		}.Must(t)
		if got != step.want {
			t.Errorf("%s %s of %q by %d = %s, want %s", step.method, step.path, step.body, step.who.Uid, got, step.want)
		}
	}
	agenttest.WantLines(t, a.Merge(), `m{job="a"} 1`, `n{job="a"} 1`, `by_admin{job="a"} 1`, `by_helper{job="a"} 1`, `by_root{job="a"} 1`)
	agenttest.WantLines(t, a.Page(), `push_failure_time_seconds{job="a"} 0`)
	a.Restart(flags...)
	push := func(who *syscall.Credential, method, path string) string {
		return agenttest.Command{Name: curl, User: who, Stdin: "m 3\n", Args: []string{
			"--silent", "--unix-socket", socket, "--output", "/dev/null", "--write-out", "%{http_code}", "--request", method, "--data-binary", "@-", "http://localhost" + path,
		}}.Must(t)
	}
	if got := push(bob, "PUT", "/metrics/job/a"); got != "403" {
		t.Errorf("after a restart the owner is forgotten: %s", got)
	}
	if got := push(admin, "PUT", "/api/v1/admin/wipe"); got != "202" {
		t.Errorf("wipe by an administrator = %s, want 202", got)
	}
}

func TestOwnerCheckThatCannotBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for want, flags := range map[string][]string{
		"needs --push.socket":               {"--push.owner-check"},
		"--push.admin-group is for":         {"--push.admin-group=0"},
		"--push.admin-group: no group \"no": {"--push.owner-check", "--push.admin-group=no such group", "--push.socket=" + dir + "/s"},
	} {
		status := 2
		if strings.Contains(want, "no group") {
			status = 1
		}
		refuses(t, agenttest.Command{Args: append([]string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + filepath.Join(dir, "spool")}, flags...)}, status, want)
	}
	if left := agenttest.Files(t, dir); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}
