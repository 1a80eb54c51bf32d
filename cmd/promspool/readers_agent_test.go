package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// mostGrowth is how much memory clients that never read may cost the agent.
const mostGrowth = 150 << 20

// TestReadersThatNeverReadCostNothing has many clients request every large resource
// over both protocols and read nothing. The agent's memory stays within its limit,
// and it still answers a scrape and a push.
func TestReadersThatNeverReadCostNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("asks /proc for the size of the agent")
	}
	dir := t.TempDir()
	ca := newAuthority(t, "ours")
	cert, key := ca.issue(t, x509.ExtKeyUsageServerAuth)
	for name, data := range map[string][]byte{"cert.pem": cert, "key.pem": key, "web.yml": []byte("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n")} {
		agenttest.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
	paths := []string{"/metrics", "/metrics?name[]=filler", "/api/v1/metrics", "/api/v1/files", "/?view=file&name=job%3Dfiller.prom"}
	for _, tt := range []struct {
		name                 string
		tls                  bool
		connections, streams int
	}{
		{"HTTP/1.1", false, 500, 0},
		{"HTTP/1.1, more than may be open", false, 600, 0},
		{"HTTP/2", true, 10, 200},
		{"HTTP/2, many connections", true, 300, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var flags []string
			scheme := "http"
			if tt.tls {
				flags, scheme = []string{"--web.config.file=" + filepath.Join(dir, "web.yml")}, "https"
			}
			a := agenttest.StartAgent(t, "", flags...)
			a.URL = scheme + "://" + a.Addr
			config := &tls.Config{RootCAs: roots, ServerName: "localhost"}
			honest := &http.Client{Timeout: agenttest.Timeout, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
			request := func(method, path, body string) int {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), method, a.URL+path, strings.NewReader(body))
				agenttest.NoError(t, err)
				resp, err := honest.Do(req)
				if err != nil {
					t.Fatalf("%s %s: %v", method, path, err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("%s %s = %s, %d bytes, %v", method, path, resp.Status, len(b), err)
				}
				return len(b)
			}
			var filler strings.Builder
			for i := range 40_000 { // 2 MB, more than the kernel buffers
				fmt.Fprintf(&filler, "filler{number=\"%d\",filler=\"%d\"} %d\n", i, i, i)
			}
			request("PUT", "/metrics/job/filler", filler.String())
			for _, path := range paths {
				request("GET", path, "")
			}
			before := residentSize(t, a)
			for i := range tt.connections {
				var conn net.Conn
				raw, err := net.Dial("tcp", a.Addr)
				agenttest.NoError(t, err)
				t.Cleanup(func() { raw.Close() })
				agenttest.NoError(t, raw.(*net.TCPConn).SetReadBuffer(2048))
				if conn = raw; tt.tls {
					c := config.Clone()
					c.NextProtos = []string{"h2"}
					conn = tls.Client(raw, c)
				}
				if tt.streams == 0 {
					_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", paths[i%len(paths)])
				} else {
					_, err = conn.Write(streamsThatNeverRead(tt.streams, paths))
				}
				if err != nil {
					t.Logf("connection %d: %v", i, err) // the agent may have closed it by now
				}
			}
			peak := before
			for range 10 {
				request("PUT", "/metrics/job/honest", "honest 1\n")
				if n := request("GET", "/metrics", ""); n < filler.Len() {
					t.Errorf("a scrape has %d bytes", n)
				}
				peak = max(peak, residentSize(t, a))
			}
			t.Logf("the agent has grown from %d to %d MB", before>>20, peak>>20)
			most := int64(mostGrowth)
			if agenttest.Race {
				most *= 5
			}
			if peak-before > most {
				t.Errorf("the agent has grown by %d MB, more than %d", (peak-before)>>20, most>>20)
			}
		})
	}
}

// streamsThatNeverRead returns an HTTP/2 connection with n requests that opens no
// window for the responses.
func streamsThatNeverRead(n int, paths []string) []byte {
	frame := func(kind, flags byte, stream uint32, payload []byte) []byte {
		b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
		return append(binary.BigEndian.AppendUint32(b, stream), payload...)
	}
	b := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	b = append(b, frame(4, 0, 0, []byte{0, 4, 0, 0, 0, 0})...) // a window of zero bytes
	b = append(b, frame(4, 1, 0, nil)...)
	for i := range n {
		path := paths[i%len(paths)]
		header := append([]byte{0x82, 0x87, 0x04, byte(len(path))}, path...) // GET, https
		header = append(append(header, 0x01, 9), "localhost"...)
		b = append(b, frame(1, 5, uint32(2*i+1), header)...)
	}
	return b
}

// residentSize returns the resident memory of the agent.
func residentSize(t *testing.T, a *agenttest.Agent) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", a.Cmd.Process.Pid))
	agenttest.NoError(t, err)
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	agenttest.NoError(t, err)
	return pages * int64(os.Getpagesize())
}
