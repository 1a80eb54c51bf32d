package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// answers serves a text as the groups of a Pushgateway.
func answers(t *testing.T, text string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/api/v1/metrics" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestMigrateRefusesGroupsByThemselves has groups that the Debian version does not
// support and groups that a Pushgateway with its check rejects.
func TestMigrateRefusesGroupsByThemselves(t *testing.T) {
	t.Parallel()
	group := func(job, families string) string {
		return `{"labels":{"job":"` + job + `"},"last_push_successful":true,` + families +
			`,"push_time_seconds":{"type":"GAUGE","metrics":[{"labels":{"job":"` + job + `"},"value":"1.5e+09"}]}}`
	}
	gateway := answers(t, `{"status":"success","data":[`+strings.Join([]string{
		group("float", `"h":{"type":"HISTOGRAM","metrics":[{"labels":{"job":"float"},"buckets":{"0.5":"1.5","1000":"1e+30"},"count":"2.5","sum":"1"}]}`),
		group("native", `"a":{"type":"GAUGE","metrics":[{"labels":{},"value":"1"}]},"h":{"type":"HISTOGRAM","metrics":[{"labels":{},"buckets":[[0,"1","2","3"]],"count":"3","sum":"1"}]}`),
		group("gaugehist", `"h":{"type":"GAUGE_HISTOGRAM","metrics":[{"labels":{},"value":"0"}]}`),
		group("types1", `"t":{"type":"GAUGE","metrics":[{"labels":{},"value":"1"}]}`),
		group("types2", `"t":{"type":"COUNTER","metrics":[{"labels":{},"value":"1"}]},"rest":{"type":"GAUGE","metrics":[{"labels":{},"value":"1"}]}`),
		group("rubbish", `"t":{"type":"GAUGE","metrics":[{"labels":{},"value":"one"}]}`),
		group("utf8", `"a.b":{"type":"GAUGE","metrics":[{"labels":{},"value":"1"}]}`),
		`{"labels":{"job":"types1","x":""},"last_push_successful":true}`,
		`{"labels":{"x":"1"},"last_push_successful":true}`,
	}, ",")+`]}`)
	refused := []string{
		`refused {job="native"}: family h: native and gauge histograms are not in the JSON API, and the scrape by protobuf failed: `,
		`refused {job="gaugehist"}: family h: native and gauge histograms are not in the JSON API, and the scrape by protobuf failed: `,
		`refused {job="types2"}: family "t" has another type in "job=types1.prom"`,
		`refused {job="rubbish"}: family t: invalid number "one"`,
		`refused {job="utf8"}: invalid metric name`,
		`refused {job="types1"}: another group differs only in an empty label`,
		`refused map["x":"1"]: job name is required`,
	}
	spool := t.TempDir()
	for _, flags := range [][]string{{"--dry-run"}, nil} {
		stdout, stderr, status := agenttest.MigrateFrom(gateway, append(flags, "--spool.directory="+spool)...).Run(t)
		if status != 1 || !strings.HasPrefix(stderr, "promspool: exemplars, start times and units are not taken: ") || !strings.Contains(stdout, "2 ") || !strings.HasSuffix(stdout, ", 0 left, 7 refused\n") {
			t.Errorf("%q ends with status %d and says\n%s%s", flags, status, stdout, stderr)
		}
		for _, line := range refused {
			if !strings.Contains(stdout, line) {
				t.Errorf("%q does not say %s but\n%s", flags, line, stdout)
			}
		}
	}
	if got := agenttest.Files(t, spool); !slices.Equal(got, []string{"job=float.prom", "job=types1.prom"}) {
		t.Errorf("the spool has %q", got)
	}
	page := agenttest.StartAgent(t, spool).Page()
	agenttest.WantLines(t, page, `h_bucket{job="float",le="0.5"} 1.5`, `h_bucket{job="float",le="1000"} 1e+30`, `h_bucket{job="float",le="+Inf"} 2.5`,
		`h_count{job="float"} 2.5`, `push_time_seconds{job="float"} 1.5e+09`, `push_failure_time_seconds{job="float"} 0`)

	out, _, status := agenttest.MigrateFrom(gateway, "--spool.directory="+spool, "--push.enable-utf8-names").Run(t)
	if status != 1 || !strings.Contains(out, `taken {job="utf8"}`) || !strings.HasSuffix(out, "1 taken, 2 left, 6 refused\n") {
		t.Errorf("with other names status %d and\n%s", status, out)
	}
}

func TestMigrateSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	missing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(missing.Close)
	for _, c := range []struct {
		url    string
		status int
		says   string
	}{
		{"pushgateway:9091", 2, `--from: invalid URL "pushgateway:9091": want e.g. http://localhost:9091`},
		{"ftp://pushgateway", 2, "--from: "},
		{"http://127.0.0.1:1", 1, "connection refused"},
		{missing.URL, 1, "404 Not Found"},
		{answers(t, "<html>"), 1, "the response is not a list of groups"},
		{answers(t, `{"status":"success"}`), 1, "the response is not a list of groups"},
		{answers(t, `{"status":"success","data":[{"labels":{"job":"a"}},`), 1, "the response is not a list of groups"},
	} {
		if stdout, stderr, status := agenttest.MigrateFrom(c.url, "--spool.directory="+spool).Run(t); status != c.status || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: status %d, %q %q, want %d and %q", c.url, status, stdout, stderr, c.status, c.says)
		}
	}
	full := answers(t, `{"status":"success","data":[{"labels":{"job":"a"}}]}`)
	if _, stderr, status := agenttest.MigrateFrom(full, "--spool.directory="+spool+"/none").Run(t); status != 1 || !strings.Contains(stderr, "/none") {
		t.Errorf("without a spool: %d %q", status, stderr)
	}
	if _, stderr, status := agenttest.MigrateFrom(full, "--url="+missing.URL).Run(t); status != 1 || !strings.Contains(stderr, "listing the groups of the agent") {
		t.Errorf("without an agent: %d %q", status, stderr)
	}
	if got := agenttest.Files(t, spool); len(got) != 0 {
		t.Errorf("the spool has %q", got)
	}
}
