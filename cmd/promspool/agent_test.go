package main_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An agent is a promspool that serves a directory.
type agent struct {
	*server
	url   string
	spool string
}

// startAgent starts an agent on a directory, or an empty one if there is none,
// and on any free port.
func startAgent(t *testing.T, spool string, flags ...string) *agent {
	t.Helper()
	if spool == "" {
		spool = filepath.Join(t.TempDir(), "spool")
	}
	args := append([]string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + spool}, flags...)
	s := startServer(t, `(?:msg=Serving .* on=|"msg":"Serving",.*"on":")([0-9.:]+)`, promspool, args...)
	return &agent{server: s, url: "http://" + s.addr, spool: spool}
}

// restart stops the agent and returns another one on its spool.
func (a *agent) restart(flags ...string) *agent {
	a.t.Helper()
	a.stop()
	return startAgent(a.t, a.spool, flags...)
}

var client = &http.Client{Timeout: patience}

// send makes a request and returns the status code and the answer.
func (a *agent) send(method, path, body string) (code int, answer string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	done(a.t, err)
	resp, err := client.Do(req)
	done(a.t, err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(read)
}

// push replaces a group.
func (a *agent) push(path, body string) {
	a.t.Helper()
	if code, answer := a.send("PUT", path, body); code != http.StatusOK {
		a.t.Fatalf("PUT %s = %d %q, want 200", path, code, answer)
	}
}

// page returns the whole of what Prometheus would get.
func (a *agent) page() string {
	a.t.Helper()
	code, page := a.send("GET", "/metrics", "")
	if code != http.StatusOK {
		a.t.Fatalf("GET /metrics = %d %q, want 200", code, page)
	}
	return page
}

var ownFamilies = regexp.MustCompile(`(?m)^(?:# (?:HELP|TYPE) )?(?:go|process|promspool|pushgateway)_.*\n`)

// merge returns the page without the agent's own metrics.
func (a *agent) merge() string {
	a.t.Helper()
	return ownFamilies.ReplaceAllString(a.page(), "")
}

// drop writes a file into the spool, as a careless script does.
func (a *agent) drop(name, text string) {
	a.t.Helper()
	done(a.t, os.WriteFile(filepath.Join(a.spool, name), []byte(text), 0o644))
}

// serves waits until the page has the line.
func (a *agent) serves(line string) {
	a.t.Helper()
	waitFor(a.t, "the page has "+line, func() bool { return hasLine(a.page(), line) })
}

func hasLine(text, line string) bool { return slices.Contains(strings.Split(text, "\n"), line) }

// wantLines complains of lines that a text lacks.
func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !hasLine(text, line) {
			t.Errorf("no line %s in:\n%s", line, ownFamilies.ReplaceAllString(text, ""))
		}
	}
}

// wantNone complains of text that should not be there.
func wantNone(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(text, part) {
			t.Errorf("there is still %s in:\n%s", part, text)
		}
	}
}

// files returns the names in a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	done(t, err)
	names := []string{}
	for _, e := range entries {
		if e.Name() != ".promspool.lock" {
			names = append(names, e.Name())
		}
	}
	return names
}
