package listen

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// waitFor polls until the condition is true.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

// listeners are the kinds of sockets that an agent has.
var listeners = map[string]func(t *testing.T) net.Listener{
	"tcp": func(t *testing.T) net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	},
	"unix": func(t *testing.T) net.Listener {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
		if err != nil {
			t.Fatal(err)
		}
		return l
	},
}

// dial opens a connection whose client has a small buffer.
func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.(interface{ SetReadBuffer(n int) error }).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A connection may be replaced only while its client sends and reads nothing,
// even if the server has finished the response.
func TestConnectionsInUseStay(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is asked only on Linux")
	}
	for name, listen := range listeners {
		t.Run(name, func(t *testing.T) {
			const size = 100_000 // the kernel takes all of it at once
			work := make(chan struct{})
			srv := &http.Server{
				Handler: paceStreams(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/work" {
						<-work
						return
					}
					answerOf(w, r)
				})),
				ConnContext: withConnection,
			}
			below := listen(t)
			l := limitConnections(below, 1, srv).(*connections)
			served := make(chan error)
			go func() { served <- srv.Serve(l) }()
			t.Cleanup(func() {
				srv.Close()
				<-served
			})
			client := dial(t, below)
			// spare looks at the connection, once it has the state.
			spare := func(state http.ConnState, now time.Time) (found candidate, free bool) {
				t.Helper()
				waitFor(t, state.String(), func() bool {
					l.mu.Lock()
					defer l.mu.Unlock()
					for x := range l.open {
						rank, since, from := x.spareFrom(now)
						found, free = candidate{x, rank, since}, rank != inUse && !from.After(now)
						return x.state == state
					}
					return false
				})
				return found, free
			}
			if x, free := spare(http.StateNew, time.Unix(0, 0)); free {
				t.Errorf("a connection that was just accepted may be closed: rank %d", x.rank)
			}
			waitFor(t, "the silent connection may be closed", func() bool { // once the server waits in Read
				x, free := spare(http.StateNew, time.Now().Add(quiet))
				return free && x.rank == silent
			})
			fmt.Fprintf(client, "GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n", size)
			x, free := spare(http.StateIdle, time.Unix(0, 0))
			if free || x.rank != unread {
				t.Errorf("a connection whose answer was just sent may be closed: rank %d", x.rank)
			}
			later := x.since.Add(stuckReader)
			if x, free := spare(http.StateIdle, later); !free || x.rank != unread {
				t.Errorf("a connection stays whose client reads nothing: rank %d", x.rank)
			}
			in := bufio.NewReaderSize(client, 4<<10)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, resp.Body, size/2); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the client has read a part", func() bool {
				x, free := spare(http.StateIdle, later)
				return !free && x.rank == unread
			})
			if n, err := io.Copy(io.Discard, resp.Body); n != size-size/2 || err != nil {
				t.Fatalf("the rest of the answer has %d bytes, %v", n, err)
			}
			waitFor(t, "the client has read all", func() bool {
				x, free := spare(http.StateIdle, later)
				return free && x.rank == idle
			})
			fmt.Fprint(client, "GET /work HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if x, free := spare(http.StateActive, time.Now().Add(time.Hour)); free {
				t.Errorf("a connection at work may be closed: rank %d", x.rank)
			}
			close(work)
		})
	}
}

// An HTTP/2 connection without a request is as new as any other, although the
// server calls it idle.
func TestNewStreamsConnectionStays(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: new(http.Protocols), ConnContext: withConnection, Handler: paceStreams(http.HandlerFunc(answerOf))}
	srv.Protocols.SetUnencryptedHTTP2(true)
	c := limitConnections(l, 1, srv).(*connections)
	served := make(chan error)
	go func() { served <- srv.Serve(c) }()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	client := dial(t, l)
	if _, err := client.Write(hello(0)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the connection is idle and free only after a while", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for x := range c.open {
			rank, since, free := x.spareFrom(time.Now())
			return x.state == http.StateIdle && rank == silent && free.Equal(since.Add(quiet))
		}
		return false
	})
}
