package listen

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
)

// pipes is a listener without a network, which works with a fake clock.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// servePipes serves the handler as the agent does until the end of the test.
func servePipes(t *testing.T, limit int, handler http.Handler) *pipes {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	serveOn(t, p, limit, handler)
	return p
}

// serveOn serves the handler as the agent does until the end of the test.
func serveOn(t *testing.T, l net.Listener, limit int, handler http.Handler) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- Serve(ctx, []net.Listener{l}, Config{
			Handler: handler, ReadTimeout: 10 * time.Second, MaxConnections: limit, Logger: slog.New(slog.DiscardHandler),
			Serve: func(l net.Listener, srv *http.Server) error {
				srv.Protocols = new(http.Protocols)
				srv.Protocols.SetHTTP1(true)
				srv.Protocols.SetUnencryptedHTTP2(true) // that of TLS is the same
				return srv.Serve(l)
			},
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !strings.Contains(err.Error(), "in flight") {
			t.Error(err)
		}
	})
}

// connect returns the client's end of a connection that was taken from the queue.
func (p *pipes) connect(t *testing.T) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	p.conns <- server
	return client
}

// get sends a whole request and returns the status code of the response.
func get(t *testing.T, c net.Conn) int {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// wantClosed checks that the other end closes after that time.
func wantClosed(t *testing.T, c net.Conn, after time.Duration) {
	t.Helper()
	start := time.Now()
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the connection ends with %v, want its end", err)
	}
	if took := time.Since(start); took != after {
		t.Errorf("the connection was closed after %v, want %v", took, after)
	}
}

func ok(http.ResponseWriter, *http.Request) {}

func TestSlowClientsAreCutOff(t *testing.T) {
	drip := func(c net.Conn, text string) error {
		for i := range len(text) {
			time.Sleep(time.Second)
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	t.Run("says nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			wantClosed(t, servePipes(t, 0, http.HandlerFunc(ok)).connect(t), 10*time.Second)
		})
	})
	t.Run("header", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := servePipes(t, 0, http.HandlerFunc(ok)).connect(t)
			cut := make(chan error)
			go func() { cut <- drip(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") }()
			wantClosed(t, c, 10*time.Second)
			if <-cut == nil {
				t.Error("a header that took too long was read to its end")
			}
		})
	})
	t.Run("body", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store, err := filestore.Open(t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			push, err := ingest.New(ingest.Config{Store: store, AllowRemote: true})
			if err != nil {
				t.Fatal(err)
			}
			c := servePipes(t, 0, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { push.Serve(w, r, r.URL.Path) })).connect(t)
			start := time.Now()
			cut := make(chan error)
			go func() {
				_, _ = io.WriteString(c, "PUT /metrics/job/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
				cut <- drip(c, strings.Repeat("#", 1000))
			}()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); resp.StatusCode != http.StatusRequestTimeout || took < 10*time.Second || took > 12*time.Second {
				t.Errorf("a slow body is answered with %s after %v, want 408 after ten seconds", resp.Status, took)
			}
			go func() { _, _ = io.Copy(io.Discard, c) }()
			if <-cut == nil {
				t.Error("a body that took too long was read to its end")
			}
		})
	})
	t.Run("reader", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			failed := make(chan error, 1)
			c := servePipes(t, 0, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, err := w.Write(make([]byte, 1<<20))
				failed <- err
			})).connect(t)
			start := time.Now()
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 1)
			for range 1000 { // a byte each second
				if _, err := c.Read(b); err != nil {
					break
				}
				time.Sleep(time.Second)
			}
			if took, err := time.Since(start), <-failed; err == nil || took < 70*time.Second || took > 80*time.Second {
				t.Errorf("a slow reader was served for %v, and writing to it gave %v; want an error after 70 s", took, err)
			}
		})
	})
	t.Run("keeps the connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := servePipes(t, 0, http.HandlerFunc(ok)).connect(t)
			get(t, c)
			wantClosed(t, c, 2*time.Minute)
		})
	})
}

func TestConnectionsMakeRoom(t *testing.T) {
	t.Run("the longest idle first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := servePipes(t, 3, http.HandlerFunc(ok))
			var idle [3]net.Conn
			for i := range idle {
				idle[i] = p.connect(t)
				get(t, idle[i])
				time.Sleep(time.Second)
			}
			get(t, idle[0]) // now the second is
			time.Sleep(time.Second)
			get(t, p.connect(t))
			wantClosed(t, idle[1], 0)
			get(t, idle[0])
			get(t, idle[2])
		})
	})
	t.Run("then a silent one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := servePipes(t, 3, http.HandlerFunc(ok))
			first := p.connect(t)
			time.Sleep(quiet / 4)
			for range 2 {
				if _, err := io.WriteString(p.connect(t), "GET / HTTP/1.1\r\n"); err != nil { // and no more
					t.Fatal(err)
				}
			}
			start := time.Now()
			get(t, p.connect(t))
			if took := time.Since(start); took != quiet-quiet/4 {
				t.Errorf("the fourth was answered after %v, want %v", took, quiet-quiet/4)
			}
			wantClosed(t, first, 0)
		})
	})
	t.Run("a request in progress keeps its connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			work := make(chan struct{})
			p := servePipes(t, 2, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-work }))
			var at [2]net.Conn
			for i := range at {
				at[i] = p.connect(t)
				if _, err := io.WriteString(at[i], "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			third := p.connect(t)
			answered := make(chan int)
			go func() { answered <- get(t, third) }()
			time.Sleep(5 * time.Second)
			select {
			case <-answered:
				t.Fatal("the third was served although the limit is two")
			default:
			}
			go func() { _, _ = io.Copy(io.Discard, at[0]) }()
			work <- struct{}{}
			work <- struct{}{} // of the third, or of the second
			go func() { _, _ = io.Copy(io.Discard, at[1]) }()
			close(work)
			if code := <-answered; code != 200 {
				t.Errorf("the third was answered with %d", code)
			}
		})
	})
	t.Run("none is served after the listener is closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := servePipes(t, 1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) }))
			first := p.connect(t)
			if _, err := io.WriteString(first, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, first) }()
			p.connect(t) // waits, and the test ends
		})
	})
}

func TestLimitedListenerIsClosed(t *testing.T) {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	l := limitConnections(p, 1, &http.Server{})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}
