package browsertest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// A browser is a headless Chromium, driven over the DevTools protocol on a pipe: JSON
// messages that end with a NUL byte.
type browser struct {
	t   *testing.T
	cmd *exec.Cmd
	log *agenttest.Buffer

	mu    sync.Mutex // guards the fields below, and writes
	in    io.Writer
	last  int                  // number of the last command
	calls map[int]chan message // pending commands, by number
	tabs  map[string]*tab      // key: session
	dead  bool
}

// A message is a command, a response or an event. Each has some of these fields.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// startBrowser starts a Chromium that ends with the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	program := agenttest.Need(t, "chromium")
	fromUs, toIt, err := os.Pipe()
	agenttest.NoError(t, err)
	fromIt, toUs, err := os.Pipe()
	agenttest.NoError(t, err)
	b := &browser{t: t, log: &agenttest.Buffer{}, in: toIt, calls: map[int]chan message{}, tabs: map[string]*tab{}}
	home := t.TempDir()
	args := []string{
		"--headless=new", "--remote-debugging-pipe", "--user-data-dir=" + home, "--no-first-run", "--disable-gpu", "--hide-scrollbars",
		"--disable-dev-shm-usage", "--log-level=3", "--disable-breakpad", "--disable-component-update", "--disable-background-networking", "--disable-sync",
		// Every name resolves to this host, and no other host is reachable.
		"--no-proxy-server", "--host-resolver-rules=MAP * 127.0.0.1",
	}
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // required for root
	}
	b.cmd = exec.Command(program, append(args, "about:blank")...)
	b.cmd.Env = append(os.Environ(), "HOME="+home)
	b.cmd.ExtraFiles = []*os.File{fromUs, toUs} // descriptors 3 and 4, as the protocol requires
	b.cmd.Stderr = b.log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group for it and its children
	agenttest.NoError(t, b.cmd.Start())
	agenttest.NoError(t, fromUs.Close())
	agenttest.NoError(t, toUs.Close())
	var reading sync.WaitGroup
	reading.Go(func() { b.read(fromIt) })
	t.Cleanup(func() {
		_ = toIt.Close() // closing the pipe ends it
		ended := time.AfterFunc(agenttest.Timeout, func() { _ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) })
		reading.Wait()
		_ = b.cmd.Wait() // its exit status does not matter
		ended.Stop()
		_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) // children that are still running
		_ = fromIt.Close()
		if t.Failed() {
			t.Logf("chromium logged:\n%s", b.log)
		}
	})
	return b
}

// read dispatches the messages of the browser until it ends.
func (b *browser) read(from io.Reader) {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			break
		}
		var m struct {
			message
			Params json.RawMessage `json:"params"`
		}
		if err := json.Unmarshal(line[:len(line)-1], &m); err != nil {
			b.t.Errorf("chromium says %q: %v", line, err)
			break
		}
		b.mu.Lock()
		if answer := b.calls[m.ID]; answer != nil {
			delete(b.calls, m.ID)
			answer <- m.message
		} else if tab := b.tabs[m.Session]; tab != nil {
			tab.happened(m.Method, m.Params)
		}
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = true
	for _, answer := range b.calls {
		close(answer)
	}
}

// call sends a command and returns the response.
func (b *browser) call(session, method string, params any) (json.RawMessage, error) {
	if params == nil {
		params = struct{}{}
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.last++
	line, err := json.Marshal(message{ID: b.last, Session: session, Method: method, Params: params})
	if err == nil && b.dead {
		err = io.ErrClosedPipe
	}
	if err == nil {
		b.calls[b.last] = answer
		_, err = b.in.Write(append(line, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			return nil, io.ErrUnexpectedEOF
		case m.Error != nil:
			return nil, fmt.Errorf("%s", m.Error.Message)
		}
		return m.Result, nil
	case <-time.After(agenttest.Timeout):
		return nil, fmt.Errorf("no answer within %v", agenttest.Timeout)
	}
}
