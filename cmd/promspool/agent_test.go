package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
)

// openAgent starts an agent in this process, without sockets. The test closes it.
func openAgent(t *testing.T, spool string, flags ...string) (*agent, error) {
	t.Helper()
	app := kingpin.New("promspool", "")
	s := addServe(app, &common{spool: spool, log: &promslog.Config{}}, map[string]func() error{})
	if _, err := app.Parse(append([]string{"serve"}, flags...)); err != nil {
		t.Fatal(err)
	}
	set, err := s.settings()
	if err != nil {
		t.Fatal(err)
	}
	return newAgent(s, set, time.Now(), slog.New(slog.DiscardHandler))
}

// serveAgent serves on a free port. It returns the URL and a channel that receives
// the result of serve.
func serveAgent(t *testing.T, ctx context.Context, a *agent) (base string, ended <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- a.serve(ctx, sockets{web: []net.Listener{l}}) }()
	return "http://" + l.Addr().String(), end
}

func request(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestAgentInTheProcess(t *testing.T) {
	spool := filepath.Join(t.TempDir(), "spool")
	for _, stop := range []struct {
		name string
		do   func(cancel context.CancelFunc, base string)
	}{
		{"by its context", func(cancel context.CancelFunc, _ string) { cancel() }},
		{"over HTTP", func(_ context.CancelFunc, base string) {
			if code, text := request(t, http.MethodPut, base+"/-/quit", ""); code != 200 {
				t.Errorf("quit: %d %s", code, text)
			}
		}},
	} {
		t.Run("stops "+stop.name, func(t *testing.T) {
			a, err := openAgent(t, spool, "--web.enable-lifecycle")
			if err != nil {
				t.Fatal(err)
			}
			defer a.close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			base, ended := serveAgent(t, ctx, a)
			if code, text := request(t, http.MethodPost, base+"/metrics/job/j", "pushed{how=\""+stop.name+"\"} 1\n"); code != 200 {
				t.Fatalf("push: %d %s", code, text)
			}
			if _, text := request(t, http.MethodGet, base+"/metrics", ""); !strings.Contains(text, `pushed{how="`+stop.name+`",`) {
				t.Errorf("the push is not served: %s", text)
			}
			stop.do(cancel, base)
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("the agent does not stop")
			}
			if conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://")); err == nil {
				conn.Close()
				t.Error("the port is still open")
			}
		})
	}
	// Every later agent has the last push.
	for range 2 {
		a, err := openAgent(t, spool)
		if err != nil {
			t.Fatal(err)
		}
		defer a.close()
		if text := string(a.store.View().AppendTo(nil)); !strings.Contains(text, `pushed{how="over HTTP",job="j"} 1`) {
			t.Errorf("a second agent has %s", text)
		}
	}
}

func TestAgentThatCannotStartLeavesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	for range 3 {
		if a, err := openAgent(t, file); err == nil {
			a.close()
			t.Fatal("a file is a spool")
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, before it was %d", after, before)
	}
}

// TestClosedAgentLeavesNothing opens and closes agents with further directories,
// each of which has its own watches.
func TestClosedAgentLeavesNothing(t *testing.T) {
	spool, more := t.TempDir(), t.TempDir()
	open := func() {
		a, err := openAgent(t, spool, "--spool.textfile-directory="+more)
		if err != nil {
			t.Fatal(err)
		}
		a.close()
	}
	open() // opens the files that stay open once per process
	before := openFiles(t)
	for range 3 {
		open()
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, before it was %d", after, before)
	}
}

// openFiles returns the number of files that this process has open.
func openFiles(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/dev/fd")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("there is no /dev/fd here")
	} else if err != nil {
		t.Fatal(err)
	}
	return len(open)
}
