package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
	"github.com/promspool/promspool/filestore"
)

func TestScriptDoctor(t *testing.T) { runScripts(t, "doctor") }

// TestDoctorOnALockedSpool has a lock that blocks every push. No other check finds it.
func TestDoctorOnALockedSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func() (string, int) {
		stdout, _, status := agenttest.Command{
			Name: agenttest.Promspool, Args: []string{"--spool.directory=" + dir, "doctor", "--url=http://127.0.0.1:1", "--prometheus.config=none", "--node-exporter.defaults=none"},
		}.Run(t)
		return stdout, status
	}
	store, err := filestore.Open(dir, nil) // creates the lock
	agenttest.NoError(t, err)
	defer store.Close()
	if stdout, _ := run(); strings.Contains(stdout, "lock:") {
		t.Errorf("without a lock:\n%s", stdout)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".promspool.lock"), os.O_RDWR, 0)
	agenttest.NoError(t, err)
	defer f.Close()
	agenttest.NoError(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	if stdout, status := run(); status != 1 || !strings.Contains(stdout, "wrong    lock: another process holds the lock of the spool") {
		t.Errorf("with the lock held: exit status %d\n%s", status, stdout)
	}
}

// TestDoctorOnAnotherProgram checks other programs on the agent's port.
func TestDoctorOnAnotherProgram(t *testing.T) {
	t.Parallel()
	answer := func(code int, server, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if server != "" {
				w.Header().Set("Server", server)
			}
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	const other = ": another program answers at URL: "
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		tls     bool
		want    string // of the finding; URL is that of the server
		do      string // of the remedy
	}{
		{"Pushgateway", answer(200, "", `{"status":"success","data":{"build_information":{"version":"1.5.1"},"flags":{"push.disable-consistency-check":"false"}}}`), false, other + "a Pushgateway, version 1.5.1\n", "--url=http://localhost:9191/prefix"},
		{"page", answer(200, "nginx", "<html><head><title>\n Welcome to nginx! </title>\n<body>"), false, other + `Server: nginx, "Welcome to nginx!"` + "\n", "stop the other program (ss -ltnp lists it)"},
		{"404", answer(404, "SimpleHTTP/0.6", "\x1b[31mno such file\nmore"), false, other + `status 404 Not Found, Server: SimpleHTTP/0.6, "\x1b[31mno such file"` + "\n", "--url=http://localhost:9191/prefix"},
		{"empty answer", answer(200, "", ""), false, other + "an empty answer\n", "--url="},
		{"long answer", answer(500, "", strings.Repeat("word ", 1000)), false, other + "status 500 Internal Server Error, \"word word", "--url="},
		{"login", answer(401, "", "Unauthorized"), false, ": the server rejects this request: URL answers 401 Unauthorized: Unauthorized\n", "--url=http://USER:PASSWORD@localhost:9091"},
		{"login page", answer(401, "", "<html>\r\n<head><title>401 Authorization Required</title></head>\r\n"), false, ": the server rejects this request: URL answers 401 Unauthorized: 401 Authorization Required\n", "--url=http://USER:PASSWORD@localhost:9091"},
		{"login page without a title", answer(401, "", "<!DOCTYPE html>\r\n<h1>Log in</h1>\r\n<p>Now\r\n"), false, ": the server rejects this request: URL answers 401 Unauthorized: Log in\n", "--url=http://USER:PASSWORD@localhost:9091"},
		{"TLS", answer(200, "", "{}"), true, ": the server at URL uses TLS\n", "pass the URL with https:// to --url"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := httptest.NewServer
			if tt.tls {
				start = httptest.NewTLSServer
			}
			srv := start(tt.handler)
			defer srv.Close()
			url := strings.Replace(srv.URL, "https:", "http:", 1)
			stdout, status := doctorOn(t, t.TempDir(), url)
			if want := "wrong    agent" + strings.ReplaceAll(tt.want, "URL", url); status != 1 || !strings.Contains(stdout, want) || !strings.Contains(stdout, tt.do) || strings.Contains(stdout, "no agent answers") {
				t.Errorf("exit status %d, want %q and %q\n%s", status, want, tt.do, stdout)
			}
		})
	}
}

// TestDoctorOnAnUntrustedCertificate has a server whose certificate is self-signed.
func TestDoctorOnAnUntrustedCertificate(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	stdout, status := doctorOn(t, t.TempDir(), srv.URL)
	if status != 1 || !strings.Contains(stdout, "wrong    agent: the certificate of "+srv.URL+" cannot be verified: x509: ") || !strings.Contains(stdout, "→ set SSL_CERT_FILE to a file with the certificate") {
		t.Errorf("exit status %d\n%s", status, stdout)
	}
}

// TestDoctorOnAnEndlessAnswer has a server whose answer does not end.
func TestDoctorOnAnEndlessAnswer(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("a"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer srv.Close()
	stdout, _, status := agenttest.Command{
		Name: agenttest.Promspool, Args: []string{"--spool.directory=" + t.TempDir(), "doctor", "--url=" + srv.URL, "--timeout=200ms", "--prometheus.config=none", "--node-exporter.defaults=none"},
	}.Run(t)
	if status != 1 || !strings.Contains(stdout, "no agent answers: reading the response of "+srv.URL+": no complete response within --timeout=200ms\n") {
		t.Errorf("exit status %d\n%s", status, stdout)
	}
}

// TestDoctorOnAPathBelowTheAgent has URLs with the path of a route.
func TestDoctorOnAPathBelowTheAgent(t *testing.T) {
	t.Parallel()
	root, prefixed := agenttest.StartAgent(t, ""), agenttest.StartAgent(t, "", "--web.route-prefix=/own")
	for _, tt := range []struct{ spool, url, right string }{
		{root.Spool, root.URL + "/metrics", root.URL},
		{root.Spool, root.URL + "/api/v1/", root.URL},
		{prefixed.Spool, prefixed.URL + "/own/metrics", prefixed.URL + "/own"},
	} {
		stdout, status := doctorOn(t, tt.spool, tt.url)
		want := fmt.Sprintf("wrong    agent: an agent answers at %s, not below %s\n         → pass --url=%s\n", tt.right, tt.url, tt.right)
		if status != 1 || !strings.Contains(stdout, want) {
			t.Errorf("exit status %d, want %q\n%s", status, want, stdout)
		}
	}
}

func TestDoctorOnAnInvalidURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"foo":                           `invalid URL "foo": want e.g. http://localhost:9091`,
		"127.0.0.1:9091":                `invalid URL "127.0.0.1:9091": want e.g. http://localhost:9091`,
		"http://localhost:99999":        `invalid URL "http://localhost:99999": use a port of at most 65535`,
		"http://user:secret@host:99999": `invalid URL "http://user:xxxxx@host:99999": use a port of at most 65535`,
		"user:secret@127.0.0.1:9091":    `invalid URL "…@127.0.0.1:9091": want e.g. http://localhost:9091`,
	} {
		refuses(t, agenttest.Command{Args: []string{"--spool.directory=" + t.TempDir(), "doctor", "--url=" + url}}, 2, "--url: "+want)
	}
}

// TestDoctorFindsTheProcessOfTheAgent has another program on the port that is asked.
func TestDoctorFindsTheProcessOfTheAgent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("agents are found on Linux only")
	}
	a := agenttest.StartAgent(t, "", "--web.route-prefix=/prefix")
	want := fmt.Sprintf("an agent serves this spool as process %[1]d: pass its URL to --url (as root, ss -ltnp | grep pid=%[1]d shows the port)", a.Cmd.Process.Pid)
	for url, finding := range map[string]string{
		a.URL:                "another program answers at " + a.URL + ": status 404 Not Found",
		"http://127.0.0.1:1": "no agent answers: ",
	} {
		if stdout, status := doctorOn(t, a.Spool, url); status != 1 || !strings.Contains(stdout, want) || !strings.Contains(stdout, finding) {
			t.Errorf("%s: exit status %d, want %q and %q\n%s", url, status, finding, want, stdout)
		}
	}
	if stdout, status := doctorOn(t, a.Spool, strings.Replace(a.URL, "//", "//user:secret@", 1)+"/prefix"); status != 0 || strings.Contains(stdout, "secret") {
		t.Errorf("exit status %d, or the password is printed\n%s", status, stdout)
	}
}
