package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// startFullPushgateway starts a Pushgateway that holds all that one can hold.
func startFullPushgateway(t *testing.T) *server {
	t.Helper()
	gateway := startPushgateway(t, "--push.disable-consistency-check")
	for _, push := range [][2]string{
		{"/metrics/job/exact", `# HELP v Has \\ and \n and "q" é.
# TYPE v gauge
v{a="1"} 0.1
v{a="2"} 1e23
v{a="3"} 5e-324
v{a="4"} NaN
v{a="5"} -Inf
v{a="6"} 9007199254740993
v{a="7"} 123456789.123456789
v{a="\"\\\n"} 1
# TYPE h histogram
h_bucket{le="0.5"} 1
h_bucket{le="1e3"} 9007199254740993
h_bucket{le="+Inf"} 9007199254740994
h_sum 0.3
h_count 9007199254740994
# TYPE s summary
s{quantile="0.5"} NaN
s{quantile="0.99"} 1
s_sum 1
s_count 3
# TYPE c_total counter
c_total{q="x"} 7
untyped 3
`},
		{"/metrics/job/named/instance/db1", "n 1\n"},
		{"/metrics/job/in_body", "n{instance=\"db2\"} 1\n"},
		{"/metrics/job/slash/path@base64/L3Zhci90bXA", "n 2\n"},
		{"/metrics/job/hides/zone/a", "labels 3\nlast_push_successful 1\n"},
		{"/metrics/job/nothing", ""},
	} {
		if code := postText(t, gateway.addr, push[0], push[1]); code != http.StatusAccepted {
			t.Fatalf("POST %s = %d", push[0], code)
		}
	}
	postText(t, gateway.addr, "/metrics/job/named/instance/db1", "timestamp 1 1\n")
	waitFor(t, "Pushgateway has all of it", func() bool {
		return regexp.MustCompile(`push_failure_time_seconds\{instance="db1",job="named"\} 1`).MatchString(fetch(t, gateway.addr, "/metrics"))
	})
	return gateway
}

func postText(t *testing.T, addr, path, body string) int {
	t.Helper()
	resp, err := client.Post("http://"+addr+path, "text/plain", strings.NewReader(body))
	done(t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

var gatewayOnly = regexp.MustCompile(`(?m)^(?:go|process|promspool|pushgateway)_.*\n`)

// sameSamples compares two pages, without the servers' own samples and, if times
// is unset, without those of the pushes' times.
func sameSamples(t *testing.T, ours, theirs string, times bool) {
	t.Helper()
	all := func(page string) []string {
		list := samples(gatewayOnly.ReplaceAllString(page, ""))
		if !times {
			list = slices.DeleteFunc(list, func(s string) bool { return strings.HasPrefix(s, "push_") })
		}
		return list
	}
	if got, want := all(ours), all(theirs); !slices.Equal(got, want) {
		t.Errorf("the agent serves\n%s\nPushgateway\n%s", strings.Join(got, ""), strings.Join(want, ""))
	}
}

func migrateFrom(url string, args ...string) command {
	return command{name: promspool, args: append([]string{"migrate", "--from=" + url}, args...)}
}

func TestMigrateTakesAllFromPushgateway(t *testing.T) {
	t.Parallel()
	need(t, "prometheus-pushgateway")
	gateway := startFullPushgateway(t)
	theirs := fetch(t, gateway.addr, "/metrics")
	a := startAgent(t, "")

	dry := migrateFrom("http://"+gateway.addr+"/", "--dry-run", "--spool.directory="+a.spool).must(t)
	if got := files(t, a.spool); len(got) != 0 || !strings.Contains(dry, `would be taken {job="named",instance="db1"}: 1 metric in 1 family, pushed 20`) || !strings.HasSuffix(dry, "6 would be taken, 0 left, 0 refused\n") {
		t.Errorf("a dry run leaves %q and says\n%s", got, dry)
	}
	out := migrateFrom("http://"+gateway.addr, "--spool.directory="+a.spool).must(t)
	if !strings.HasSuffix(out, "6 taken, 0 left, 0 refused\n") {
		t.Errorf("says\n%s", out)
	}
	waitFor(t, "the agent has seen the files", func() bool { return strings.Contains(a.page(), "push_time_seconds{job=\"slash\"") })
	waitFor(t, "the agent has seen all files", func() bool { return strings.Contains(a.page(), "\npromspool_groups 6\n") })
	sameSamples(t, a.page(), theirs, true)
	page := a.merge()
	wantLines(t, page, "# TYPE c_total counter", "# TYPE s summary", "# TYPE h histogram", "# TYPE untyped untyped", `# HELP v Has \\ and \n and "q" é.`, `n{instance="db1",job="named"} 1`)
	wantNone(t, page, `instance=""`)
	before := page
	a = a.restart()
	if after := a.merge(); after != before {
		t.Errorf("after a restart the agent serves\n%s\nwant\n%s", after, before)
	}

	// A second time everything is there, and what a job has pushed since stays.
	a.push("/metrics/job/exact", "untyped 4\n")
	if out := migrateFrom("http://"+gateway.addr, "--spool.directory="+a.spool).must(t); !strings.HasSuffix(out, "0 taken, 6 left, 0 refused\n") {
		t.Errorf("a second time it says\n%s", out)
	}
	wantLines(t, a.page(), `untyped{job="exact"} 4`)
	if out := migrateFrom("http://"+gateway.addr, "--spool.directory="+a.spool, "--overwrite", "--push.empty-instance-label").must(t); !strings.HasSuffix(out, "6 taken, 0 left, 0 refused\n") {
		t.Errorf("with --overwrite it says\n%s", out)
	}
	a.serves(`untyped{instance="",job="exact"} 3`)
	waitFor(t, "all groups are overwritten", func() bool { return !regexp.MustCompile(`(?m)^push_time_seconds\{job=`).MatchString(a.page()) })
	sameSamples(t, a.page(), theirs, true)
	wantLines(t, a.page(), `push_time_seconds{instance="",job="nothing"} `+regexp.MustCompile(`push_time_seconds\{instance="",job="nothing"\} (\S+)`).FindStringSubmatch(theirs)[1])
}

func TestMigrateToAnAgent(t *testing.T) {
	t.Parallel()
	need(t, "prometheus-pushgateway")
	gateway := startFullPushgateway(t)
	theirs := fetch(t, gateway.addr, "/metrics")
	a := startAgent(t, "", "--web.route-prefix=/spool")
	a.url += "/spool"
	a.push("/metrics/job/in_body", "n{instance=\"db3\"} 9\n")
	before := a.merge()
	if out := migrateFrom("http://"+gateway.addr, "--url="+a.url, "--dry-run").must(t); !strings.HasSuffix(out, "5 would be taken, 1 left, 0 refused\n") || a.merge() != before {
		t.Errorf("a dry run says\n%s\nand leaves\n%s", out, a.merge())
	}
	if out := migrateFrom("http://"+gateway.addr, "--url="+a.url).must(t); !strings.HasSuffix(out, "5 taken, 1 left, 0 refused\n") {
		t.Errorf("says\n%s", out)
	}
	wantLines(t, a.page(), `n{instance="db3",job="in_body"} 9`)
	migrateFrom("http://"+gateway.addr, "--url="+a.url+"/", "--overwrite").must(t)
	sameSamples(t, a.page(), theirs, false)

	// And from promspool to promspool.
	spool := filepath.Join(t.TempDir(), "spool")
	done(t, os.Mkdir(spool, 0o755))
	out, _, status := migrateFrom(a.url, "--spool.directory="+spool).run(t)
	if status != 0 || !strings.HasSuffix(out, "6 taken, 0 left, 0 refused\n") {
		t.Errorf("from promspool: status %d\n%s", status, out)
	}
	second := startAgent(t, spool)
	// Its JSON has no place for families of these names.
	a.push("/metrics/job/hides/zone/a", "")
	second.push("/metrics/job/hides/zone/a", "")
	sameSamples(t, second.page(), a.page(), false)
}

// answers serves a text as what a Pushgateway has.
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

// TestMigrateRefusesGroupsByThemselves has what the Debian version does not
// know, and what one with its check on does not take.
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
		`refused {job="native"}: family h: it is a native histogram`,
		`refused {job="gaugehist"}: family h: its type is GAUGE_HISTOGRAM`,
		`refused {job="types2"}: family "t" has another type in "job=types1.prom"`,
		`refused {job="rubbish"}: family t: "one" is no number`,
		`refused {job="utf8"}: the metric name is not`,
		`refused {job="types1"}: another group differs from it only in a label with an empty value`,
		`refused map["x":"1"]: job name is required`,
	}
	spool := t.TempDir()
	for _, flags := range [][]string{{"--dry-run"}, nil} {
		stdout, stderr, status := migrateFrom(gateway, append(flags, "--spool.directory="+spool)...).run(t)
		if status != 1 || stderr != "" || !strings.Contains(stdout, "2 ") || !strings.HasSuffix(stdout, ", 0 left, 7 refused\n") {
			t.Errorf("%q ends with status %d and says\n%s%s", flags, status, stdout, stderr)
		}
		for _, line := range refused {
			if !strings.Contains(stdout, line) {
				t.Errorf("%q does not say %s but\n%s", flags, line, stdout)
			}
		}
	}
	if got := files(t, spool); !slices.Equal(got, []string{"job=float.prom", "job=types1.prom"}) {
		t.Errorf("the spool has %q", got)
	}
	page := startAgent(t, spool).page()
	wantLines(t, page, `h_bucket{job="float",le="0.5"} 1.5`, `h_bucket{job="float",le="1000"} 1e+30`, `h_bucket{job="float",le="+Inf"} 2.5`,
		`h_count{job="float"} 2.5`, `push_time_seconds{job="float"} 1.5e+09`, `push_failure_time_seconds{job="float"} 0`)

	out, _, status := migrateFrom(gateway, "--spool.directory="+spool, "--push.enable-utf8-names").run(t)
	if status != 1 || !strings.Contains(out, `taken {job="utf8"}`) || !strings.HasSuffix(out, "1 taken, 2 left, 6 refused\n") {
		t.Errorf("with other names status %d and\n%s", status, out)
	}
}

func TestMigrateSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	nobody := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(nobody.Close)
	for _, c := range []struct {
		url    string
		status int
		says   string
	}{
		{"pushgateway:9091", 2, `--from: "pushgateway:9091" is no URL such as http://localhost:9091`},
		{"ftp://pushgateway", 2, "--from: "},
		{"http://127.0.0.1:1", 1, "connection refused"},
		{nobody.URL, 1, "404 Not Found"},
		{answers(t, "<html>"), 1, "the answer is no list of groups"},
		{answers(t, `{"status":"success"}`), 1, "the answer is no list of groups"},
		{answers(t, `{"status":"success","data":[{"labels":{"job":"a"}},`), 1, "the answer is no list of groups"},
	} {
		if stdout, stderr, status := migrateFrom(c.url, "--spool.directory="+spool).run(t); status != c.status || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: status %d, %q %q, want %d and %q", c.url, status, stdout, stderr, c.status, c.says)
		}
	}
	full := answers(t, `{"status":"success","data":[{"labels":{"job":"a"}}]}`)
	if _, stderr, status := migrateFrom(full, "--spool.directory="+spool+"/none").run(t); status != 1 || !strings.Contains(stderr, "/none") {
		t.Errorf("without a spool: %d %q", status, stderr)
	}
	if _, stderr, status := migrateFrom(full, "--url="+nobody.URL).run(t); status != 1 || !strings.Contains(stderr, "asking the agent what it has") {
		t.Errorf("without an agent: %d %q", status, stderr)
	}
	if got := files(t, spool); len(got) != 0 {
		t.Errorf("the spool has %q", got)
	}
}
