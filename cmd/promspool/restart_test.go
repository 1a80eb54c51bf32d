package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// manager is a shell script that runs agents one after the other on sockets that
// systemd-socket-activate has opened. Like the service manager it keeps the sockets
// open between two agents. It ends after an agent if the file PID.stop exists.
const manager = `while [ ! -e "$0.stop" ]; do sh -c 'echo $$ >"$0.new"; mv "$0.new" "$0"; LISTEN_PID=$$ exec "$@"' "$@" || exit; done`

// TestRestartRefusesNoConnection pushes and scrapes continuously, on new connections,
// while the agent restarts many times.
func TestRestartRefusesNoConnection(t *testing.T) {
	t.Parallel()
	activate := agenttest.Need(t, "systemd-socket-activate")
	dir, err := os.MkdirTemp("", "promspool-test-") // t.TempDir can be too long for a socket
	agenttest.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	pidFile, spool, local := dir+"/pid", dir+"/spool", dir+"/push.sock"
	port := freePort(t)
	s := agenttest.StartServer(t, `Listening on (127\S+) as 3`, activate, "--listen="+port, "--listen="+local, "--fdname=web:push",
		"/bin/sh", "-c", manager, pidFile, pidFile, agenttest.Promspool, "--spool.directory="+spool)
	pid := func() int {
		text, _ := os.ReadFile(pidFile)
		n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return n
	}
	t.Cleanup(func() { // killing the shell alone would leave its agent running
		agenttest.NoError(t, os.WriteFile(pidFile+".stop", nil, 0o644))
		agenttest.WaitFor(t, "all have ended", func() bool {
			if n := pid(); n > 0 {
				_ = syscall.Kill(n, syscall.SIGTERM)
			}
			return s.HasExited()
		})
	})

	web := &http.Client{Timeout: agenttest.Timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	unix := &http.Client{Timeout: agenttest.Timeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", local)
		},
	}}
	stop := make(chan struct{})
	var hammers sync.WaitGroup
	var answers atomic.Int64
	hammer := func(c *http.Client, method, path string) {
		hammers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				req, err := http.NewRequest(method, "http://"+port+path, strings.NewReader(fmt.Sprintln("number", i)))
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Errorf("request %d: %v", i, err)
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("request %d: %s, %v, want 200", i, resp.Status, err)
				}
				resp.Body.Close()
				answers.Add(1)
			}
		})
	}
	hammer(web, http.MethodPut, "/metrics/job/web")
	hammer(web, http.MethodPut, "/metrics/job/more")
	hammer(web, http.MethodGet, "/metrics")
	hammer(unix, http.MethodPut, "/metrics/job/local")

	const restarts = 6
	var last int
	for range restarts {
		agenttest.WaitFor(t, "another agent runs", func() bool { n := pid(); return n > 0 && n != last })
		last = pid()
		before := answers.Load()
		agenttest.WaitFor(t, "the agent answers", func() bool { return answers.Load() > before+20 || t.Failed() })
		agenttest.NoError(t, syscall.Kill(last, syscall.SIGTERM))
	}
	agenttest.WaitFor(t, "another agent runs", func() bool { return pid() != last })
	before := answers.Load()
	agenttest.WaitFor(t, "the last agent answers", func() bool { return answers.Load() > before+20 || t.Failed() })
	close(stop)
	hammers.Wait()
	t.Logf("%d connections over %d restarts", answers.Load(), restarts)
	if got := agenttest.Files(t, spool); len(got) != 3 {
		t.Errorf("the spool has %q, want the three groups", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "push.sock")); err != nil {
		t.Errorf("the agent has removed a socket that is not its own: %v", err)
	}
}

// freePort returns a free address for a program that cannot choose one.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	agenttest.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
