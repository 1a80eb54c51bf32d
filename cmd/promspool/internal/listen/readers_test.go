package listen

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Types and flags of HTTP/2 frames.
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameWindow = 0, 1, 3, 4, 6, 8

	flagEndStream, flagAck, flagEndHeaders = 1, 1, 4
)

type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func (f frame) encode() []byte {
	b := []byte{byte(len(f.payload) >> 16), byte(len(f.payload) >> 8), byte(len(f.payload)), f.kind, f.flags}
	b = binary.BigEndian.AppendUint32(b, f.stream)
	return append(b, f.payload...)
}

func readFrame(r io.Reader) (f frame, err error) {
	var head [9]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	f = frame{head[3], head[4], binary.BigEndian.Uint32(head[5:]), make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))}
	_, err = io.ReadFull(r, f.payload)
	return f, err
}

// hello opens an HTTP/2 connection whose streams begin with that window.
func hello(window uint32) []byte {
	settings := binary.BigEndian.AppendUint32([]byte{0, 4}, window)
	return append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), append(frame{frameSettings, 0, 0, settings}.encode(), frame{frameSettings, flagAck, 0, nil}.encode()...)...)
}

// ask sends a GET of the path over a stream.
func ask(stream uint32, path string) []byte {
	block := []byte{0x82, 0x86, 0x04, byte(len(path))} // GET, http, the path without Huffman's code
	block = append(append(block, path...), 0x01, 9)
	return frame{frameHeaders, flagEndStream | flagEndHeaders, stream, append(block, "localhost"...)}.encode()
}

// window allows n more bytes.
func window(stream uint32, n int) []byte {
	return frame{frameWindow, 0, stream, binary.BigEndian.AppendUint32(nil, uint32(n))}.encode()
}

// An h2 is the client's end of an HTTP/2 connection. It reads frames continuously.
type h2 struct {
	net.Conn

	mu     sync.Mutex
	got    map[uint32]int // bytes of data
	ended  map[uint32]time.Duration
	reset  map[uint32]time.Duration
	closed time.Duration // after which it was; 0 if it is not
}

// newH2 opens a connection that reads at most rate bytes a second; zero is no limit.
func newH2(t *testing.T, p *pipes, streamWindow uint32, rate int) *h2 {
	t.Helper()
	c := &h2{Conn: p.connect(t), got: map[uint32]int{}, ended: map[uint32]time.Duration{}, reset: map[uint32]time.Duration{}}
	start := time.Now()
	go func() {
		var from io.Reader = c.Conn
		if rate > 0 {
			from = &slowReader{from, rate}
		}
		for {
			f, err := readFrame(from)
			c.mu.Lock()
			after := time.Since(start)
			switch {
			case err != nil:
				c.closed = max(after, 1)
			case f.kind == frameReset:
				c.reset[f.stream] = after
			case f.kind == frameData:
				c.got[f.stream] += len(f.payload)
			}
			if err == nil && (f.kind == frameData || f.kind == frameHeaders) && f.flags&flagEndStream != 0 {
				c.ended[f.stream] = after
			}
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	c.send(t, hello(streamWindow))
	return c
}

func (c *h2) send(t *testing.T, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// state returns the state of a stream, and the time after which it ended.
func (c *h2) state(stream uint32) (state string, got int, after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if after, ok := c.ended[stream]; ok {
		return "ended", c.got[stream], after
	}
	if after, ok := c.reset[stream]; ok {
		return "reset", c.got[stream], after
	}
	if c.closed != 0 {
		return "closed", c.got[stream], c.closed
	}
	return "open", c.got[stream], 0
}

// slowReader reads a tenth of its rate each tenth of a second.
type slowReader struct {
	io.Reader
	rate int
}

func (s *slowReader) Read(b []byte) (int, error) {
	time.Sleep(time.Second / 10)
	return s.Reader.Read(b[:min(len(b), s.rate/10)])
}

// answerOf writes a response with the number of bytes in ?n=, in one piece or two.
func answerOf(w http.ResponseWriter, r *http.Request) {
	var n int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d", &n); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	b := bytes.Repeat([]byte("x"), n)
	if _, err := w.Write(b[:n/2]); err == nil {
		_, _ = w.Write(b[n/2:])
	}
}

// A client that reads nothing of a response is disconnected after readerTimeout, however
// the response is sent.
func TestReadersThatNeverRead(t *testing.T) {
	for _, size := range []int{1, 4000, 100_000, 10_000_000} {
		t.Run(fmt.Sprintf("HTTP/1.1 %d bytes", size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := servePipes(t, 0, http.HandlerFunc(answerOf)).connect(t)
				fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n", size)
				time.Sleep(readerTimeout + time.Second)
				synctest.Wait()
				if n, err := c.Read(make([]byte, 1)); err == nil {
					t.Errorf("after %v the connection is open, and there are %d bytes to read", readerTimeout, n)
				}
			})
		})
		t.Run(fmt.Sprintf("HTTP/2 %d bytes", size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newH2(t, servePipes(t, 0, http.HandlerFunc(answerOf)), 0, 0)
				c.send(t, ask(1, fmt.Sprintf("/%d", size)))
				time.Sleep(readerTimeout - time.Second)
				synctest.Wait()
				if state, _, after := c.state(1); state != "open" {
					t.Errorf("the stream is %s after %v", state, after)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if state, _, after := c.state(1); state != "reset" || after != readerTimeout {
					t.Errorf("the stream is %s after %v, want reset after %v", state, after, readerTimeout)
				}
				// The connection itself stays usable.
				c.send(t, ask(3, "/nothing"))
				c.send(t, window(3, 1000))
				synctest.Wait()
				if state, _, _ := c.state(3); state != "ended" {
					t.Errorf("another stream is %s", state)
				}
			})
		})
	}
	t.Run("HTTP/2 without reading the connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := servePipes(t, 0, http.HandlerFunc(answerOf)).connect(t)
			done := make(chan error)
			go func() { // the pipe has no buffer, and the server reads on
				_, err := c.Write(append(hello(1<<20), ask(1, "/1000000")...))
				done <- err
			}()
			<-done
			time.Sleep(2*readerTimeout + time.Second)
			synctest.Wait()
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("the connection is open")
			}
		})
	})
}

// A slow client that reads something in each readerTimeout gets its whole response, within
// the server's time limit for one.
func TestSlowReadersGetTheirAnswer(t *testing.T) {
	const size = 50_000
	t.Run("HTTP/1.1", func(t *testing.T) {
		for _, rate := range []int{1000, 5000} {
			synctest.Test(t, func(t *testing.T) {
				c := servePipes(t, 0, http.HandlerFunc(answerOf)).connect(t)
				fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n", size)
				resp, err := http.ReadResponse(bufio.NewReader(&slowReader{c, rate}), nil)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
					t.Errorf("at %d bytes a second there are %d bytes, %v, want %d", rate, n, err, size)
				}
			})
		}
	})
	t.Run("HTTP/2 connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newH2(t, servePipes(t, 0, http.HandlerFunc(answerOf)), 1<<20, 1000)
			c.send(t, ask(1, fmt.Sprint("/", size)))
			time.Sleep(time.Minute)
			synctest.Wait()
			if state, got, after := c.state(1); state != "ended" || got != size {
				t.Errorf("the stream is %s after %v with %d bytes, want ended with %d", state, after, got, size)
			}
		})
	})
	t.Run("HTTP/2 window", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newH2(t, servePipes(t, 0, http.HandlerFunc(answerOf)), 0, 0)
			c.send(t, ask(1, fmt.Sprint("/", size)))
			for range 30 {
				time.Sleep(time.Second)
				c.send(t, window(1, 2000))
			}
			synctest.Wait()
			if state, got, after := c.state(1); state != "ended" || got != size {
				t.Errorf("the stream is %s after %v with %d bytes, want ended with %d", state, after, got, size)
			}
		})
	})
	t.Run("with a time limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newH2(t, servePipes(t, 0, http.HandlerFunc(answerOf)), 0, 0)
			c.send(t, ask(1, "/10000000"))
			for range 75 {
				time.Sleep(time.Second)
				c.send(t, append(window(0, 5000), window(1, 5000)...))
			}
			synctest.Wait()
			if state, _, after := c.state(1); state != "reset" || after != 70*time.Second {
				t.Errorf("the stream is %s after %v, want reset after 70 s", state, after)
			}
		})
	})
}

// The wrapper for HTTP/2 keeps the length of a small response, and sends flushed data.
func TestStreamsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flushed := make(chan struct{})
		p := servePipes(t, 0, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/flush" {
				_, _ = io.WriteString(w, "first")
				w.(http.Flusher).Flush()
				<-flushed
				return
			}
			answerOf(w, r)
		}))
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return p.connect(t), nil }}
		defer transport.CloseIdleConnections()
		c := &http.Client{Transport: transport}
		for _, n := range []int{0, 1, 4096, 5000, 1 << 20} {
			resp, err := c.Get(fmt.Sprint("http://localhost/", n))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if len(b) != n || err != nil || resp.ProtoMajor != 2 {
				t.Errorf("an answer of %d bytes has %d, %v, by %s", n, len(b), err, resp.Proto)
			}
			if n < 4096 && resp.ContentLength != int64(n) {
				t.Errorf("the length of an answer of %d bytes is %d", n, resp.ContentLength)
			}
		}
		resp, err := c.Get("http://localhost/flush")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Error(err)
		}
		close(flushed)
		resp.Body.Close()
	})
}

// Connections whose clients do not read are closed for a new one, but not those of slow
// clients.
func TestStuckConnectionsMakeRoom(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2", "HTTP/2, small"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := servePipes(t, 3, http.HandlerFunc(answerOf))
				slow := p.connect(t)
				fmt.Fprint(slow, "GET /100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(&slowReader{slow, 10_000}), nil)
				if err != nil {
					t.Fatal(err)
				}
				whole := make(chan string)
				go func() {
					n, err := io.Copy(io.Discard, resp.Body)
					whole <- fmt.Sprint(n, err)
				}()
				for range 2 {
					switch protocol {
					case "HTTP/1.1":
						fmt.Fprint(p.connect(t), "GET /100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
					case "HTTP/2":
						newH2(t, p, 0, 0).send(t, append(ask(1, "/100000"), ask(3, "/100000")...))
					default:
						newH2(t, p, 0, 0).send(t, append(ask(1, "/10"), ask(3, "/10")...))
					}
				}
				synctest.Wait()
				start := time.Now()
				fourth := p.connect(t)
				fmt.Fprint(fourth, "GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
				if _, err := http.ReadResponse(bufio.NewReader(fourth), nil); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < stuckReader || took > stuckReader+2*recheck {
					t.Errorf("the fourth connection was served after %v, want some %v", took, stuckReader)
				}
				if got := <-whole; got != "100000<nil>" && got != "100000 <nil>" {
					t.Errorf("the slow client has %s", got)
				}
			})
		})
	}
}

// The connection of a running handler stays, whatever its client does.
func TestWorkIsNoStuckReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work := make(chan struct{})
		p := servePipes(t, 1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/work" {
				<-work
			}
		}))
		c := newH2(t, p, 1<<20, 0)
		c.send(t, ask(1, "/work"))
		synctest.Wait()
		answered := make(chan int, 1)
		second := p.connect(t)
		go func() { answered <- get(t, second) }()
		time.Sleep(5 * stuckReader)
		synctest.Wait()
		if state, _, _ := c.state(1); state != "open" || len(answered) > 0 {
			t.Errorf("the stream that is worked on is %s, and %d others were answered", state, len(answered))
		}
		close(work)
		<-answered
		synctest.Wait()
		if state, _, _ := c.state(1); state != "ended" {
			t.Errorf("the stream is %s", state)
		}
	})
}

// The number of streams of a connection is limited.
func TestStreamsAreBounded(t *testing.T) {
	for connections, want := range map[int]int{0: 4, 1: 100, 20: 100, 64: 32, 512: 4, 100_000: 4} {
		if got := streamsAtOnce(connections); got != want {
			t.Errorf("streamsAtOnce(%d) = %d, want %d", connections, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		work := make(chan struct{})
		p := servePipes(t, 512, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-work }))
		c := newH2(t, p, 0, 0)
		for i := range uint32(200) {
			c.send(t, ask(2*i+1, "/"))
		}
		synctest.Wait()
		open := 0
		for i := range uint32(200) {
			if state, _, _ := c.state(2*i + 1); state == "open" {
				open++
			}
		}
		if open != streamsAtOnce(512) {
			t.Errorf("%d streams are open, want %d", open, streamsAtOnce(512))
		}
		close(work)
	})
}

// Deadlines of the server apply to running writes.
func TestConnectionDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, server := net.Pipe()
		x := &connection{Conn: server, of: &connections{open: map[*connection]struct{}{}}}
		start := time.Now()
		if err := x.SetDeadline(start.Add(3500 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := x.Write([]byte("x"))
		if took := time.Since(start); took != 3500*time.Millisecond || !isTimeout(err) {
			t.Errorf("Write fails after %v with %v", took, err)
		}
		if err := x.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		go func() {
			time.Sleep(4 * time.Second)
			_ = x.SetWriteDeadline(time.Unix(1, 0))
		}()
		_, err = x.Write([]byte("x"))
		if took := time.Since(start); took != 4*time.Second || !isTimeout(err) {
			t.Errorf("Write fails after %v with %v, want when the deadline is moved", took, err)
		}
		_ = x.SetWriteDeadline(time.Time{})
		start = time.Now()
		_, err = x.Write([]byte("x"))
		if took := time.Since(start); took != readerTimeout || !strings.Contains(fmt.Sprint(err), "read nothing") {
			t.Errorf("Write without a deadline fails after %v with %v", took, err)
		}
	})
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// On Linux unsent returns the number of bytes that the client has not taken.
func TestUnsentFollowsTheReader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, known := unsent(server); !known {
		if runtime.GOOS == "linux" {
			t.Fatal("the kernel is not asked")
		}
		t.Skip("not asked on this system")
	}
	// As much as the kernel buffers for a client that does not read.
	if err := server.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := server.Write(make([]byte, 64<<20))
	if !isTimeout(err) {
		t.Fatalf("Write = %d, %v, want a timeout", n, err)
	}
	if left, _ := unsent(server); left == 0 {
		t.Error("nothing is unsent, and the client has read nothing")
	}
	if _, err := io.ReadFull(client, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	left := -1
	for end := time.Now().Add(time.Minute); left != 0 && time.Now().Before(end); {
		left, _ = unsent(server)
		runtime.Gosched()
	}
	if left != 0 {
		t.Errorf("%d bytes are unsent, and the client has read all", left)
	}
}
