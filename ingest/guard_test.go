package ingest_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
)

func TestOnlyThisHostMayWrite(t *testing.T) {
	tcp := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	tests := []struct {
		name   string
		remote string
		local  net.Addr
		allow  bool
		want   int
	}{
		{name: "loopback", remote: "127.0.0.1:1", local: tcp("127.0.0.1:9091"), want: 200},
		{name: "all of 127", remote: "127.8.8.8:1", local: tcp("127.0.0.1:9091"), want: 200},
		{name: "IPv6 loopback", remote: "[::1]:1", local: tcp("[::1]:9091"), want: 200},
		{name: "mapped loopback", remote: "[::ffff:127.0.0.1]:1", local: tcp("[::]:9091"), want: 200},
		{name: "own address", remote: "192.0.2.1:1", local: tcp("192.0.2.1:9091"), want: 200},
		{name: "own address mapped", remote: "[::ffff:192.0.2.1]:1", local: tcp("192.0.2.1:9091"), want: 200},
		{name: "own address with zone", remote: "[fe80::1%eth0]:1", local: tcp("[fe80::1%eth0]:9091"), want: 200},
		{name: "unix socket", remote: "@", local: &net.UnixAddr{Name: "/run/s", Net: "unix"}, want: 200},
		{name: "unix socket without name", remote: "", local: &net.UnixAddr{Net: "unix"}, want: 200},
		{name: "other host", remote: "192.0.2.2:1", local: tcp("192.0.2.1:9091"), want: 403},
		{name: "other IPv6 host", remote: "[2001:db8::2]:1", local: tcp("[2001:db8::1]:9091"), want: 403},
		{name: "same link-local address elsewhere", remote: "[fe80::1%eth1]:1", local: tcp("[fe80::1%eth0]:9091"), want: 403},
		{name: "a name like a socket over tcp", remote: "@", local: tcp("192.0.2.1:9091"), want: 403},
		{name: "unknown address", remote: "", want: 403},
		{name: "allowed", remote: "192.0.2.2:1", local: tcp("192.0.2.1:9091"), allow: true, want: 200},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			store, err := filestore.Open(t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			h, err := ingest.New(ingest.Config{Store: store, AllowRemote: test.allow, Admin: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, req := range []struct{ method, path string }{{"PUT", "/metrics/job/j"}, {"DELETE", "/metrics/job/j"}, {"PUT", "/api/v1/admin/wipe"}} {
				r := httptest.NewRequest(req.method, req.path, strings.NewReader("m 1\n"))
				r.RemoteAddr = test.remote
				r.Header.Set("X-Forwarded-For", "127.0.0.1")
				if test.local != nil {
					r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, test.local))
				}
				w := httptest.NewRecorder()
				if !h.Serve(w, r, r.URL.EscapedPath()) {
					t.Fatalf("%s is not a route", req.path)
				}
				want := test.want
				if want == 200 && (req.method == "DELETE" || req.path[1] == 'a') {
					want = 202
				}
				if w.Code != want {
					t.Errorf("%s %s = %d %q, want %d", req.method, req.path, w.Code, w.Body, want)
				}
				if w.Code == 403 && !strings.Contains(w.Body.String(), "--push.allow-remote") {
					t.Errorf("the refusal says %q", w.Body)
				}
			}
		})
	}
}

func TestUnixSocketIsThisHost(t *testing.T) {
	store, err := filestore.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h, err := ingest.New(ingest.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler(h)}
	go srv.Serve(l)
	defer srv.Close()
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	resp, err := client.Post("http://some.name/metrics/job/j", "", strings.NewReader("m 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("POST over a unix socket = %d, want 200", resp.StatusCode)
	}
}

func TestBrowsers(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	a := start(t, nil, func(c *ingest.Config) { c.AllowedHosts = []string{"Metrics.example.com:9091"} })
	own := strings.TrimPrefix(a.url, "http://")
	const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	tests := []struct {
		name   string
		header []string
		want   int
	}{
		{"program under any name", []string{"Host", "whatever.example"}, 200},
		{"form of another page", []string{"Origin", "https://attacker.example", "Sec-Fetch-Site", "cross-site"}, 403},
		{"another page, old browser", []string{"Origin", "https://attacker.example"}, 403},
		{"sandboxed page", []string{"Origin", "null"}, 403},
		{"other port of this host", []string{"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site"}, 403},
		{"own page", []string{"Origin", a.url, "Sec-Fetch-Site", "same-origin", "User-Agent", firefox}, 200},
		{"own page, old browser", []string{"Origin", a.url, "User-Agent", firefox}, 200},
		{"rebound name, old browser", []string{"Host", "attacker.example", "Origin", "http://attacker.example"}, 421},
		{"rebound name", []string{"Host", "attacker.example:9091", "Sec-Fetch-Site", "same-origin"}, 421},
		{"rebound name without origin", []string{"Host", "attacker.example", "User-Agent", firefox}, 421},
		{"rebound name like localhost", []string{"Host", "localhost.attacker.example", "User-Agent", firefox}, 421},
		{"rebound name like an address", []string{"Host", "127.0.0.1.attacker.example", "User-Agent", firefox}, 421},
		{"rebound name in hexadecimal", []string{"Host", "0x7f.1", "User-Agent", firefox}, 421},
		{"rebound name below the own one", []string{"Host", hostname + ".attacker.example", "User-Agent", firefox}, 421},
		{"address", []string{"Host", own, "User-Agent", firefox}, 200},
		{"IPv6 address", []string{"Host", "[::1]:9091", "User-Agent", firefox}, 200},
		{"IPv6 address without port", []string{"Host", "[::1]", "User-Agent", firefox}, 200},
		{"localhost", []string{"Host", "LocalHost:9091", "User-Agent", firefox}, 200},
		{"localhost with a dot", []string{"Host", "localhost.", "User-Agent", firefox}, 200},
		{"below localhost", []string{"Host", "spool.localhost:9091", "User-Agent", firefox}, 200},
		{"own name", []string{"Host", strings.ToUpper(hostname) + ":9091", "User-Agent", firefox}, 200},
		{"allowed name", []string{"Host", "metrics.example.com:80", "User-Agent", firefox}, 200},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := a.want(test.want, "POST", "/metrics/job/j", "m 1\n", test.header...)
			if got.code == 421 && !strings.Contains(got.body, "--web.allowed-host") {
				t.Errorf("the refusal says %q", got.body)
			}
			for name := range got.header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("the answer has %s", name)
				}
			}
		})
	}
}

func TestHostRuleGuardsReads(t *testing.T) {
	h := ingest.NewHostRule("ok.example").Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for host, want := range map[string]int{"ok.example": 200, "attacker.example": 421} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Host = host
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("GET with Host %s = %d, want %d", host, w.Code, want)
		}
	}
}
