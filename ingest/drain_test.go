package ingest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/ingest"
)

// TestRejectionsArrive: many clients send everything before they read. They get the
// answer and not a reset of the connection.
func TestRejectionsArrive(t *testing.T) {
	const limit = 8 << 20
	a := start(t, nil, func(c *ingest.Config) { c.MaxBytes = limit })
	body := "a 1\n" + strings.Repeat("# filler\n", 20<<20/9)
	sized := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	chunked := fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	tests := []struct {
		name, request string
		code          int
		says          string
	}{
		{"too large", "PUT /metrics/job/j HTTP/1.1\r\n" + "Host: h\r\n" + sized, 413, "--push.max-bytes"},
		{"too large, in chunks", "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\n" + chunked, 413, "--push.max-bytes"},
		{"no label value", "POST /metrics/job/j/x HTTP/1.1\r\nHost: h\r\n" + sized, 400, `"x"`},
		{"option", "POST /metrics/job/j?ttl=x HTTP/1.1\r\nHost: h\r\n" + sized, 400, "ttl"},
		{"method", "PATCH /metrics/job/j HTTP/1.1\r\nHost: h\r\n" + sized, 405, "PUT"},
		{"origin", "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\nOrigin: http://evil.example\r\n" + sized, 403, "origin"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, test.request); err != nil {
				t.Fatalf("sending: %v", err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("reading the answer: %v", err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != test.code || !strings.Contains(string(got), test.says) {
				t.Errorf("the answer is %d %q, %v, want %d and %q", resp.StatusCode, got, err, test.code, test.says)
			}
		})
	}
	a.wantSamples()
}

// TestRejectionsEnd: a client that never stops sending is cut off.
func TestRejectionsEnd(t *testing.T) {
	a := start(t, nil, func(c *ingest.Config) { c.MaxBytes = 1000 })
	for name, head := range map[string]string{
		"sized":   "Content-Length: 1099511627776\r\n\r\n",
		"chunked": "Transfer-Encoding: chunked\r\n\r\n10000000000\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\n"+head); err != nil {
				t.Fatal(err)
			}
			filler := make([]byte, 1<<20)
			for sent := 0; ; sent++ {
				_, err := conn.Write(filler)
				if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
					t.Fatalf("after %d MiB the connection is still there", sent)
				}
				if err != nil {
					break
				}
			}
		})
	}
}
