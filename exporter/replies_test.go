package exporter

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
)

// pipes is a listener without buffers: nothing is sent that is not read.
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

// A readers test has an Exporter behind a server, for a bubble.
type readers struct {
	*testing.T
	e    *Exporter
	view atomic.Pointer[merge.View]
	p    *pipes
}

func newReaders(t *testing.T, files map[string][]byte) *readers {
	t.Helper()
	x := &readers{T: t, p: &pipes{make(chan net.Conn), make(chan struct{})}}
	x.view.Store(merge.Merge(nil, files))
	own := prometheus.NewRegistry()
	own.MustRegister(NewCollector(x.view.Load))
	x.e = New(Config{View: x.view.Load, Own: own})
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", x.e.Metrics)
	mux.HandleFunc("/api/v1/metrics", x.e.APIMetrics)
	mux.HandleFunc("/api/v1/files", x.e.APIFiles)
	mux.HandleFunc("/", x.e.Page)
	srv := &http.Server{Handler: mux}
	ended := make(chan error)
	go func() { ended <- srv.Serve(x.p) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-ended
	})
	return x
}

// ask sends a request and returns the connection.
func (x *readers) ask(path string, header ...string) net.Conn {
	x.Helper()
	client, server := net.Pipe()
	x.p.conns <- server
	request := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
	for i := 0; i < len(header); i += 2 {
		request += header[i] + ": " + header[i+1] + "\r\n"
	}
	if _, err := io.WriteString(client, request+"\r\n"); err != nil {
		x.Fatal(err)
	}
	return client
}

// read returns the answer, with its body.
func (x *readers) read(c net.Conn) (*http.Response, []byte, error) {
	x.Helper()
	defer c.Close()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return &http.Response{Status: "none"}, nil, err
	}
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

// held returns how much memory answers hold.
func (x *readers) held(of *memory) (n int64) {
	x.e.replies.mu.Lock()
	defer x.e.replies.mu.Unlock()
	for a := range x.e.replies.under {
		if a.from == of {
			n += a.held
		}
	}
	return n
}

// wantNothingHeld checks that all is given back.
func (x *readers) wantNothingHeld() {
	x.Helper()
	s := x.e.replies
	if !s.scrapes.tryAcquire(scrapeMemory) || !s.renders.tryAcquire(renderMemory) {
		x.Error("memory is held after the last answer")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.buffers.Load(); n != 0 || len(s.under) > 0 || len(s.views) > 0 || s.newest != nil || s.relieving {
		x.Errorf("after the last answer %d buffers are taken, %d answers are under way, %d views are held", n, len(s.under), len(s.views))
	}
}

// families returns a file of so many families and about so many bytes.
func bigFile(families, size int) []byte {
	var b bytes.Buffer
	value := strings.Repeat("x", size/families)
	for i := range families {
		fmt.Fprintf(&b, "# HELP f%d h\n# TYPE f%d gauge\nf%d{l=%q} %d\n", i, i, i, value, i)
	}
	return b.Bytes()
}

// However many clients ask and do not read, the answers hold bounded memory, and
// a client that reads gets the same answer beside them.
func TestStuckReadersHoldBoundedMemory(t *testing.T) {
	files := map[string][]byte{}
	for i := range 20 {
		files[fmt.Sprintf("f%d.prom", i)] = bytes.ReplaceAll(bigFile(10, 200_000), []byte("f"), fmt.Appendf(nil, "f%d_", i))
	}
	g, err := grouping.New(exposition.Label{Name: "job", Value: "a"})
	if err != nil {
		t.Fatal(err)
	}
	files[g.FileName()] = append(fmt.Appendf(nil, "# promspool:group %s\n", g), bytes.ReplaceAll(bigFile(50, 1_000_000), []byte("{"), []byte(`{job="a",`))...)
	for _, tt := range []struct {
		name, path string
		header     []string
	}{
		{"text", "/metrics", []string{"Accept", "text/plain;version=0.0.4;escaping=allow-utf-8"}},
		{"classic text", "/metrics", nil},
		{"gzip", "/metrics", []string{"Accept-Encoding", "gzip"}},
		{"zstd", "/metrics", []string{"Accept-Encoding", "zstd"}},
		{"protobuf", "/metrics", []string{"Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"}},
		{"some families", "/metrics?name[]=f1_1&name[]=f2_2", nil},
		{"groups", "/api/v1/metrics", nil},
		{"files", "/api/v1/files", nil},
		{"page", "/", nil},
		{"content of a file", "/?view=file&name=" + g.FileName(), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newReaders(t, files)
				resp, want, err := x.read(x.ask(tt.path, tt.header...))
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("the first answer is %s, %v", resp.Status, err)
				}
				var stuck []net.Conn
				for range 60 {
					stuck = append(stuck, x.ask(tt.path, tt.header...))
				}
				for range 3 { // all the time, some of them take the places of others
					synctest.Wait()
					if n, m := x.held(x.e.replies.scrapes), x.held(x.e.replies.renders); n > scrapeMemory || m > renderMemory {
						t.Errorf("answers hold %d and %d bytes", n, m)
					}
					if n := x.e.replies.buffers.Load(); n > buffersAtOnce {
						t.Errorf("answers hold %d buffers", n)
					}
					time.Sleep(stuckAfter)
				}
				for _, c := range []struct {
					path   string
					header []string
				}{{"/metrics", nil}, {tt.path, tt.header}} {
					start := time.Now()
					resp, got, err := x.read(x.ask(c.path, c.header...))
					if resp.StatusCode != 200 || err != nil || c.path == tt.path && len(got) < len(want)*9/10 {
						t.Errorf("beside stuck readers GET %s is %s, %d bytes, %v; want 200 and some %d", c.path, resp.Status, len(got), err, len(want))
					}
					if took := time.Since(start); took > stuckAfter+time.Second || c.path == "/metrics" && c.header == nil && took > 0 {
						t.Errorf("beside stuck readers GET %s waited for %v", c.path, took)
					}
				}
				for _, c := range stuck {
					c.Close()
				}
				time.Sleep(time.Second) // of the bubble, for what gives up answers
				synctest.Wait()
				x.wantNothingHeld()
			})
		})
	}
}

// Stuck readers give up old views when these get too large; a slow reader that
// goes on reading keeps its one.
func TestStuckReadersGiveUpOldViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := func(i int) map[string][]byte {
			return map[string][]byte{"a.prom": append(bigFile(100, 4_000_000), fmt.Appendf(nil, "n %d\n", i)...)}
		}
		x := newReaders(t, file(0))
		slow := make(chan string)
		c := x.ask("/metrics")
		go func() {
			resp, err := http.ReadResponse(bufio.NewReaderSize(&slowly{c}, 100_000), nil)
			if err != nil {
				slow <- err.Error()
				return
			}
			b, err := io.ReadAll(resp.Body)
			c.Close()
			slow <- fmt.Sprint(bytes.Contains(b, []byte("\nn 0\n")), err)
		}()
		var stuck []net.Conn
		for i := range 40 {
			x.view.Store(merge.Merge(nil, file(i+1)))
			stuck = append(stuck, x.ask("/metrics"), x.ask("/api/v1/files"))
			synctest.Wait()
		}
		time.Sleep(stuckAfter + time.Second)
		synctest.Wait()
		s := x.e.replies
		s.mu.Lock()
		old, views := s.oldViews(), len(s.views)
		s.mu.Unlock()
		if old > oldViewMemory || views < 10 {
			t.Errorf("%d views are held, the old ones with %d bytes; want at most %d, and not many less", views, old, oldViewMemory)
		}
		if resp, b, err := x.read(x.ask("/metrics")); err != nil || !bytes.Contains(b, []byte("\nn 40\n")) {
			t.Errorf("beside stuck readers a scrape is %s, %v", resp.Status, err)
		}
		if got := <-slow; got != "true<nil>" && got != "true <nil>" {
			t.Errorf("the slow reader has %s", got)
		}
		for _, c := range stuck {
			c.Close()
		}
		time.Sleep(time.Second) // of the bubble
		synctest.Wait()
		x.wantNothingHeld()
	})
}

// slowly reads four times a second.
type slowly struct{ net.Conn }

func (s *slowly) Read(b []byte) (int, error) {
	time.Sleep(time.Second / 4)
	return s.Conn.Read(b)
}

// A request that finds no memory is answered with 503, and a list that has begun
// is cut off visibly.
func TestNoMemoryForAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := map[string][]byte{}
		for _, job := range []string{"a", "b"} {
			g, err := grouping.New(exposition.Label{Name: "job", Value: job})
			if err != nil {
				t.Fatal(err)
			}
			files[g.FileName()] = append(fmt.Appendf(nil, "# promspool:group %s\n", g), strings.ReplaceAll(string(bigFile(100, 1_000_000)), "{", fmt.Sprintf("{job=%q,", job))...)
		}
		x := newReaders(t, files)
		renders := x.e.replies.renders
		if !renders.tryAcquire(renderMemory - jsonMemory) {
			t.Fatal("no memory at first")
		}
		if resp, b, err := x.read(x.ask("/api/v1/metrics")); err != io.ErrUnexpectedEOF {
			t.Errorf("a list without memory is %s, %d bytes, %v; want it cut off", resp.Status, len(b), err)
		}
		if !renders.tryAcquire(jsonMemory) {
			t.Fatal("the list still has its memory")
		}
		for _, path := range []string{"/", "/api/v1/files", "/api/v1/metrics", "/metrics?name[]=f1"} {
			resp, b, err := x.read(x.ask(path))
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || err != nil {
				t.Errorf("GET %s without memory is %s, %.100q, %v; want 503", path, resp.Status, b, err)
			}
		}
		if resp, _, err := x.read(x.ask("/metrics")); resp.StatusCode != 200 || err != nil {
			t.Errorf("a scrape of text is %s, %v", resp.Status, err)
		}
		renders.release(renderMemory)
		if resp, _, err := x.read(x.ask("/api/v1/metrics")); resp.StatusCode != 200 || err != nil {
			t.Errorf("with memory a list is %s, %v", resp.Status, err)
		}
		time.Sleep(time.Second) // of the bubble
		synctest.Wait()
		x.wantNothingHeld()
	})
}
