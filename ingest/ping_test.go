package ingest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest"
)

// request sends one with these headers, NAME: VALUE, and returns the answer.
func (a *agent) request(method, path string, headers ...string) (code int, body string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(read)
}

func withPings(cfg *ingest.Config) { cfg.Pings = true }

// values returns the values of the job's metrics, by name without prefix, or
// outcome.
func (a *agent) values(name string) map[string]float64 {
	values := map[string]float64{}
	for f := range a.store.View().Files() {
		if f.Group().Label("job") != name {
			continue
		}
		for _, family := range a.store.View().Families(f) {
			for _, m := range family.Metrics {
				key := strings.TrimPrefix(family.Name, record.RecordPrefix)
				for _, l := range m.Labels {
					if l.Name == "outcome" {
						key = l.Value
					}
				}
				values[key] = m.Value
			}
		}
	}
	return values
}

func TestPingsBecomeTheMetricsOfAJob(t *testing.T) {
	a := start(t, nil, withPings)
	for i, step := range []struct {
		method, path string
		want         map[string]float64
	}{
		{"GET", "backup/start", map[string]float64{"running": 1, "success": 0}},
		{"GET", "backup/log", map[string]float64{"running": 1, "success": 0}},
		{"POST", "backup", map[string]float64{"running": 0, "success": 1, "exit_code": 0}},
		{"HEAD", "backup/success", map[string]float64{"running": 0, "success": 2, "exit_code": 0}},
		{"GET", "backup/fail", map[string]float64{"success": 2, "failure": 1, "exit_code": 1}},
		{"GET", "backup/0", map[string]float64{"success": 3, "failure": 1, "exit_code": 0}},
		{"GET", "backup/255", map[string]float64{"success": 3, "failure": 2, "exit_code": 255}},
		{"GET", "some-key/backup/start", map[string]float64{"running": 1, "failure": 2}},
		{"GET", "some-key/backup", map[string]float64{"running": 0, "success": 4}},
		{"GET", "backup/start?rid=5f1c2b1e-0000-4000-8000-000000000001", map[string]float64{"running": 1}},
		{"GET", "backup/start?rid=5f1c2b1e-0000-4000-8000-000000000002&create=1", map[string]float64{"running": 2}},
		{"GET", "backup/start?rid=5f1c2b1e-0000-4000-8000-000000000002", map[string]float64{"running": 2}},
		{"GET", "backup/fail?rid=5f1c2b1e-0000-4000-8000-000000000001", map[string]float64{"running": 1, "failure": 3}},
		{"GET", "backup?rid=5f1c2b1e-0000-4000-8000-000000000002", map[string]float64{"running": 0, "success": 5, "lost": 0}},
	} {
		code, body := a.request(step.method, "/ping/"+step.path)
		if want := map[bool]string{true: "", false: "OK"}[step.method == "HEAD"]; code != http.StatusOK || body != want {
			t.Fatalf("%d: %s %s = %d %q, want 200 %q", i, step.method, step.path, code, body, want)
		}
		got := a.values("backup")
		for name, want := range step.want {
			if got[name] != want {
				t.Errorf("%d: after %s %s %s = %v, want %v", i, step.method, step.path, name, got[name], want)
			}
		}
	}
	if got := a.values("backup"); got["success_timestamp_seconds"] == 0 || got["success_timestamp_seconds"] != got["end_timestamp_seconds"] {
		t.Errorf("the last success is not the last end: %v", got)
	}
	a.request("GET", "/ping/5f1c2b1e-0000-4000-8000-000000000009")
	if got := a.values("5f1c2b1e-0000-4000-8000-000000000009"); got["success"] != 1 {
		t.Errorf("a UUID as the slug gives %v", got)
	}
}

func TestPingsThatAreRefused(t *testing.T) {
	a := start(t, nil, func(cfg *ingest.Config) { cfg.Pings, cfg.MaxSlugs = true, 2 })
	a.request("GET", "/ping/one")
	a.request("GET", "/ping/two")
	before := a.scrape()
	for _, c := range []struct {
		method, path string
		headers      []string
		want         int
		says         string
	}{
		{"GET", "/ping/three", nil, 507, "--ping.max-slugs"},
		{"GET", "/ping/", nil, 400, "invalid slug"},
		{"GET", "/ping/start", nil, 507, "max-slugs"}, // it is a slug
		{"GET", "/ping//start", nil, 400, "invalid slug"},
		{"GET", "/ping/one/two/three/start", nil, 404, "/ping/SLUG"},
		{"GET", "/ping/one/256", nil, 400, "invalid exit code"},
		{"GET", "/ping/one/-1", nil, 400, "invalid exit code"},
		{"GET", "/ping/key/one/256", nil, 404, "/ping/SLUG"},
		{"GET", "/ping/a%2Fb", nil, 400, "invalid slug"},
		{"GET", "/ping/" + strings.Repeat("a", 129), nil, 400, "invalid slug"},
		{"GET", "/ping/one/", nil, 400, "invalid slug"},
		{"GET", "/ping//one", nil, 400, "invalid slug"},
		{"GET", "/ping/one//start", nil, 400, "invalid slug"},
		{"GET", "/ping/one/%2Fstart", nil, 400, "invalid slug"},
		{"GET", "/ping/%2Fone", nil, 400, "invalid slug"},
		{"GET", "/ping/one%2Fstart", nil, 400, "invalid slug"},
		{"GET", "/ping/one%2F", nil, 400, "invalid slug"},
		{"GET", "/ping/key/one/", nil, 404, "/ping/SLUG"},
		{"GET", "/ping/one?rid=", nil, 400, "invalid run ID"},
		{"GET", "/ping/one?rid=a%20b", nil, 400, "invalid run ID"},
		{"GET", "/ping/one?rid=" + strings.Repeat("a", 65), nil, 400, "invalid run ID"},
		{"PUT", "/ping/one", nil, 405, "GET, HEAD or POST"},
		{"DELETE", "/ping/one", nil, 405, ""},
		{"GET", "/ping/one", []string{"Sec-Fetch-Site: cross-site"}, 403, "browser"},
		{"GET", "/ping/one", []string{"Sec-Fetch-Site: none"}, 403, "browser"},
		{"GET", "/ping/one", []string{"User-Agent: Mozilla/5.0"}, 403, "browser"},
		{"POST", "/ping/one", []string{"Origin: http://localhost"}, 403, "browser"},
	} {
		if code, body := a.request(c.method, c.path, c.headers...); code != c.want || !strings.Contains(body, c.says) {
			t.Errorf("%s %s %q = %d %q, want %d %q", c.method, c.path, c.headers, code, body, c.want, c.says)
		}
	}
	if after := a.scrape(); after != before {
		t.Errorf("it changed from\n%s\nto\n%s", before, after)
	}
	if code, _ := a.request("GET", "/ping/two/start"); code != 200 {
		t.Errorf("a ping of a job on record = %d at the limit, want 200", code)
	}
}

func TestPingsAreOffUnlessEnabled(t *testing.T) {
	a := start(t, nil, nil)
	if code, body := a.request("GET", "/ping/one"); code != 404 || !strings.Contains(body, "--ping.enable") {
		t.Errorf("GET /ping/one = %d %q, want 404 with the name of the flag", code, body)
	}
	if n := a.store.View().Totals().Groups; n != 0 {
		t.Errorf("%d groups, want none", n)
	}
}

// TestPingFromElsewhere: a ping of another host is rejected by default. If allowed,
// its run does not end with a boot of this host.
func TestPingFromElsewhere(t *testing.T) {
	for _, allow := range []bool{false, true} {
		store, err := filestore.Open(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		h, err := ingest.New(ingest.Config{Store: store, Pings: true, Boot: "this", AllowRemote: allow})
		if err != nil {
			t.Fatal(err)
		}
		ping := func(from, slug string) int {
			r := httptest.NewRequest("GET", "/ping/"+slug+"/start", nil)
			r.RemoteAddr = net.JoinHostPort(from, "1")
			w := httptest.NewRecorder()
			h.Ping(w, r, slug+"/start")
			return w.Code
		}
		if got, want := ping("192.0.2.2", "there"), map[bool]int{true: 200, false: 403}[allow]; got != want {
			t.Errorf("a ping from elsewhere = %d, want %d", got, want)
		}
		if got := ping("127.0.0.1", "here"); got != 200 {
			t.Errorf("a ping from here = %d, want 200", got)
		}
		for f := range store.View().Files() {
			here := f.Group().Label("job") == "here"
			if got := fmt.Sprint(f.Attributes("run")); strings.Contains(got, "boot=this") != here {
				t.Errorf("job %s has the run %s", f.Group(), got)
			}
		}
	}
}
