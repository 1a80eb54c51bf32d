//go:build linux

package torture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An agent is a process that serves a spool.
type agent struct {
	url    string
	addr   string
	spool  string
	cmd    *exec.Cmd
	log    *log
	client *http.Client
	exited chan struct{}
}

// log collects the output of the agent. It is safe to read meanwhile.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var listens = regexp.MustCompile(`msg=Serving .* on=([0-9.:]+)`)

// start starts an agent on the spool; the end of the test kills it.
func start(t *testing.T, spool string, flags ...string) *agent {
	t.Helper()
	a, err := startProgram(t, promspool, nil, spool, flags...)
	done(t, err)
	return a
}

// startProgram starts an agent, possibly a faulty one. It may fail to start.
func startProgram(t *testing.T, program string, env []string, spool string, flags ...string) (*agent, error) {
	args := append([]string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + spool}, flags...)
	a := &agent{spool: spool, cmd: exec.Command(program, args...), log: &log{}, exited: make(chan struct{})}
	a.client = &http.Client{Timeout: timeout, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	a.cmd.Stderr = a.log
	a.cmd.Env = append(os.Environ(), env...)
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = a.cmd.Wait() // the state has the status
		close(a.exited)
	}()
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			text := a.log.String()
			t.Logf("the agent on %s logged:\n%s", spool, text[max(0, len(text)-4000):])
		}
	})
	err := eventually(timeout, func() error {
		found := listens.FindStringSubmatch(a.log.String())
		if found == nil {
			return errors.New("the agent does not say where it listens")
		}
		a.addr, a.url = found[1], "http://"+found[1]
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w:\n%s", err, a.log)
	}
	return a, nil
}

// kill ends the process with SIGKILL.
func (a *agent) kill() {
	_ = a.cmd.Process.Kill() // it may have exited
	<-a.exited
	a.client.CloseIdleConnections()
}

// stop stops the process like a service manager and returns its exit status.
func (a *agent) stop() (int, error) {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-a.exited:
	case <-time.After(timeout):
		return 0, fmt.Errorf("the agent still runs %v after SIGTERM", timeout)
	}
	return a.cmd.ProcessState.ExitCode(), nil
}

func (a *agent) alive() error {
	select {
	case <-a.exited:
		return fmt.Errorf("the agent has ended: %v", a.cmd.ProcessState)
	default:
		return nil
	}
}

// send makes a request and returns the status code and the response.
func (a *agent) send(method, path, body string) (code int, answer string, err error) {
	req, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return resp.StatusCode, string(read), nil
}

var errNoAnswer = errors.New("no answer, or not all of it")

// must makes a request that must be answered with that code.
func (a *agent) must(code int, method, path, body string) error {
	got, answer, err := a.send(method, path, body)
	if err != nil {
		return err
	}
	if got != code {
		return fmt.Errorf("%s %s = %d %.300s, want %d", method, path, got, answer, code)
	}
	return nil
}

// served returns the versions of the groups served.
func (a *agent) served() (map[group]int, error) {
	code, page, err := a.send("GET", "/metrics", "")
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("GET /metrics = %d %.300s", code, page)
	}
	return versions(page)
}

// memory returns the resident memory of the process and its peak, in bytes.
func (a *agent) memory() (now, peak int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "VmRSS":
			now = kb << 10
		case "VmHWM":
			peak = kb << 10
		}
	}
	return now, peak, nil
}

// dial opens a new connection to the agent.
func (a *agent) dial() (net.Conn, error) { return net.DialTimeout("tcp", a.addr, 5*time.Second) }
