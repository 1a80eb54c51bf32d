package agenttest

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An Agent is a promspool that serves a directory.
type Agent struct {
	*Server
	URL   string
	Spool string
}

// StartAgent starts an agent on a directory and on a free port. If the name is empty it
// makes a new directory.
func StartAgent(t *testing.T, spool string, flags ...string) *Agent {
	t.Helper()
	if spool == "" {
		spool = filepath.Join(t.TempDir(), "spool")
	}
	args := append([]string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + spool}, flags...)
	s := StartServer(t, `(?:msg=Serving .* on=|"msg":"Serving",.*"on":")([0-9.:]+)`, Promspool, args...)
	return &Agent{Server: s, URL: "http://" + s.Addr, Spool: spool}
}

// Restart stops the agent and returns another one on its spool.
func (a *Agent) Restart(flags ...string) *Agent {
	a.T.Helper()
	a.Stop()
	return StartAgent(a.T, a.Spool, flags...)
}

// Client is the HTTP client of the tests.
var Client = &http.Client{Timeout: Timeout}

// Send makes a request and returns the status code and the response body.
func (a *Agent) Send(method, path, body string) (code int, answer string) {
	a.T.Helper()
	req, err := http.NewRequestWithContext(a.T.Context(), method, a.URL+path, strings.NewReader(body))
	NoError(a.T, err)
	resp, err := Client.Do(req)
	NoError(a.T, err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		a.T.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(read)
}

// Push replaces a group.
func (a *Agent) Push(path, body string) {
	a.T.Helper()
	if code, answer := a.Send("PUT", path, body); code != http.StatusOK {
		a.T.Fatalf("PUT %s = %d %q, want 200", path, code, answer)
	}
}

// Page returns the response to a scrape.
func (a *Agent) Page() string {
	a.T.Helper()
	code, page := a.Send("GET", "/metrics", "")
	if code != http.StatusOK {
		a.T.Fatalf("GET /metrics = %d %q, want 200", code, page)
	}
	return page
}

// OwnFamilies matches the lines of the families of the agent itself.
var OwnFamilies = regexp.MustCompile(`(?m)^(?:# (?:HELP|TYPE) )?(?:go|process|promspool|pushgateway)_.*\n`)

// Merge returns the page without the agent's own metrics.
func (a *Agent) Merge() string {
	a.T.Helper()
	return OwnFamilies.ReplaceAllString(a.Page(), "")
}

// Drop writes a file to the spool in place, not atomically.
func (a *Agent) Drop(name, text string) {
	a.T.Helper()
	NoError(a.T, os.WriteFile(filepath.Join(a.Spool, name), []byte(text), 0o644))
}

// Serves waits until the page has the line.
func (a *Agent) Serves(line string) {
	a.T.Helper()
	WaitFor(a.T, "the page has "+line, func() bool { return HasLine(a.Page(), line) })
}

// HasLine reports whether the text has the line.
func HasLine(text, line string) bool { return slices.Contains(strings.Split(text, "\n"), line) }

// WantLines complains of lines that a text lacks.
func WantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !HasLine(text, line) {
			t.Errorf("no line %s in:\n%s", line, OwnFamilies.ReplaceAllString(text, ""))
		}
	}
}

// WantNone fails the test for each of the texts that is there.
func WantNone(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(text, part) {
			t.Errorf("there is still %s in:\n%s", part, text)
		}
	}
}

// Files returns the names in a directory.
func Files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	NoError(t, err)
	names := []string{}
	for _, e := range entries {
		if e.Name() != ".promspool.lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

// Curl runs a shell command of a tutorial, with the URL of the agent as $URL. It returns
// the output of curl: the response and, after a blank, the status code.
func (a *Agent) Curl(script string, env ...string) string {
	a.T.Helper()
	Need(a.T, "curl")
	home := a.T.TempDir() // without a .curlrc
	NoError(a.T, os.WriteFile(filepath.Join(home, ".curlrc"), []byte("silent\nwrite-out = \" %{http_code}\"\n"), 0o600))
	env = append(env, "URL="+a.URL, "HOME="+home, "CURL_HOME="+home)
	return Command{Name: "/bin/sh", Args: []string{"-c", script}, Env: env}.Must(a.T)
}

var (
	emptyLabels = regexp.MustCompile(`[a-zA-Z_]\w*="",?`)
	nodeOnly    = regexp.MustCompile(`^node_|^promhttp_|^go_|^process_`)
)

// Samples returns the samples of a page, sorted. It omits empty labels, which
// node_exporter adds, because they mean no label to Prometheus.
func Samples(page string) []string {
	var all []string
	for line := range strings.Lines(page) {
		if line[0] == '#' || nodeOnly.MatchString(line) {
			continue
		}
		line = emptyLabels.ReplaceAllString(line, "")
		line = strings.NewReplacer(",}", "}", "{}", "").Replace(line)
		all = append(all, line)
	}
	slices.Sort(all)
	return all
}

// Base64 encodes a label value for the path of a push.
func Base64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// PushJob pushes metrics of the runs of a job, given by name and value.
func (a *Agent) PushJob(job string, pairs ...any) {
	a.T.Helper()
	names := map[string]string{
		"start": "start_timestamp_seconds", "end": "end_timestamp_seconds", "success": "success_timestamp_seconds", "duration": "duration_seconds",
		"due": "next_due_timestamp_seconds", "exit": "exit_code", "running": "running",
	}
	text := "# TYPE promspool_job_runs_total counter\npromspool_job_runs_total{outcome=\"success\"} 41\npromspool_job_runs_total{outcome=\"failure\"} 2\npromspool_job_runs_total{outcome=\"lost\"} 0\n"
	for i := 0; i < len(pairs); i += 2 {
		name := "promspool_job_" + names[pairs[i].(string)]
		text += fmt.Sprintf("# TYPE %s gauge\n%s %v\n", name, name, pairs[i+1])
	}
	a.Push("/metrics/job/"+job, text)
}

// HasFile reports whether the agent has the group.
func (a *Agent) HasFile(file string) bool {
	a.T.Helper()
	_, err := os.Stat(filepath.Join(a.Spool, file))
	return err == nil
}
