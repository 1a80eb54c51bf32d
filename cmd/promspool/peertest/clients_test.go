package peertest

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
	"github.com/prometheus/common/expfmt"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// formats are the formats that client_golang can push.
var formats = map[string]expfmt.Format{
	"text":     expfmt.NewFormat(expfmt.TypeTextPlain),
	"protobuf": expfmt.NewFormat(expfmt.TypeProtoDelim),
}

func gauge(name string, value float64) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "Help of " + name + "."})
	g.Set(value)
	return g
}

func TestGoClientReplacesAddsAndDeletes(t *testing.T) {
	t.Parallel()
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := agenttest.StartAgent(t, "")
			to := func(collectors ...prometheus.Collector) *push.Pusher {
				p := push.New(a.URL, "backup").Grouping("instance", "db1").Format(format)
				for _, c := range collectors {
					p.Collector(c)
				}
				return p
			}
			first, second := `first{instance="db1",job="backup"} 1.5`, `second{instance="db1",job="backup"} 2`

			agenttest.NoError(t, to(gauge("first", 1.5)).Push())
			agenttest.WantLines(t, a.Page(), "# HELP first Help of first.", "# TYPE first gauge", first)
			agenttest.NoError(t, to(gauge("second", 2)).Add())
			agenttest.WantLines(t, a.Page(), first, second)
			agenttest.NoError(t, to(gauge("second", 2)).Push())
			agenttest.WantLines(t, a.Page(), second)
			agenttest.WantNone(t, a.Merge(), "first")
			agenttest.NoError(t, to().Delete())
			agenttest.WantNone(t, a.Merge(), "backup", "second")
			if left := agenttest.Files(t, a.Spool); len(left) != 0 {
				t.Errorf("left in the spool: %q, want nothing", left)
			}
			agenttest.NoError(t, to().Delete()) // the group does not exist
			a.Stop()
		})
	}
}

func TestGoClientPushesAllItGathers(t *testing.T) {
	t.Parallel()
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := prometheus.NewRegistry()
			histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h_seconds", Help: "H.", Buckets: []float64{0.1, 1}})
			summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s_seconds", Help: "S.", Objectives: map[float64]float64{0.5: 0.05}})
			counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total", Help: "C."}, []string{"path"})
			reg.MustRegister(histogram, summary, counter)
			for _, v := range []float64{0.05, 0.5, 5} {
				histogram.Observe(v)
				summary.Observe(v)
			}
			counter.WithLabelValues("C:\\\"x\"\n").Inc()

			a := agenttest.StartAgent(t, "")
			agenttest.NoError(t, push.New(a.URL, "all").Gatherer(reg).Format(format).Push())
			want := []string{
				"# TYPE c_total counter", `c_total{job="all",path="C:\\\"x\"\n"} 1`,
				"# TYPE h_seconds histogram", `h_seconds_bucket{job="all",le="0.1"} 1`, `h_seconds_bucket{job="all",le="1"} 2`,
				`h_seconds_bucket{job="all",le="+Inf"} 3`, `h_seconds_sum{job="all"} 5.55`, `h_seconds_count{job="all"} 3`,
				"# TYPE s_seconds summary", `s_seconds{job="all",quantile="0.5"} 0.5`, `s_seconds_sum{job="all"} 5.55`, `s_seconds_count{job="all"} 3`,
			}
			agenttest.WantLines(t, a.Page(), want...)
			agenttest.WantLines(t, a.Restart().Page(), want...)
		})
	}
}

func TestGoClientPushesItsOwnProcess(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "") // its own metrics have the same names
	agenttest.NoError(t, push.New(a.URL, "batch").Gatherer(prometheus.DefaultGatherer).Push())
	page := a.Page()
	pushed := `go_info{job="batch",version="` + runtime.Version() + `"} 1`
	agenttest.WantLines(t, page, pushed, `go_info{version="`+runtime.Version()+`"} 1`)
	wantParses(t, page)
	// As in the example for node_exporter.
	agenttest.WantLines(t, nodePage(t, startNodeExporter(t, a.Spool, "--web.disable-exporter-metrics")), "node_textfile_scrape_error 0", pushed)
}

func TestGoClientGroupsByAnyValue(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	for _, tt := range []struct{ job, name, value, labels string }{
		{"a/b", "path", "/var/tmp", `{job="a/b",path="/var/tmp"}`},
		{"empty", "instance", "", `{job="empty"}`},
		{"ü%", "q", `a"b\c`, `{job="ü%",q="a\"b\\c"}`},
	} {
		to := push.New(a.URL, tt.job).Grouping(tt.name, tt.value).Collector(gauge("grouped", 1))
		agenttest.NoError(t, to.Push())
		agenttest.WantLines(t, a.Page(), "grouped"+tt.labels+" 1")
		agenttest.NoError(t, to.Delete())
		agenttest.WantNone(t, a.Page(), "grouped"+tt.labels)
	}
}

func TestGoClientHasTheReasonOfARefusal(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "same_name", Help: "H."})
	agenttest.NoError(t, push.New(a.URL, "one").Collector(counter).Push())
	err := push.New(a.URL, "two").Collector(gauge("same_name", 1)).Push()
	if err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), "same_name") || !strings.Contains(err.Error(), "job=one.prom") {
		t.Errorf("Push of another type: %v, want 400, the family and the file that it clashes with", err)
	}
}

func TestGoClientWithBasicAuth(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "web.yml")
	// The password is sesame.
	agenttest.NoError(t, os.WriteFile(config, []byte("basic_auth_users:\n  ali: $2a$04$hak3ORLaPyAWS9lDDzeaBuToWk/oMOYDq0jsWrsik5tiKxyAgLb3a\n"), 0o600))
	a := agenttest.StartAgent(t, "", "--web.config.file="+config)
	to := push.New(a.URL, "treasure").Collector(gauge("gold", 1))
	if err := to.Push(); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("Push without a password: %v, want 401", err)
	}
	agenttest.NoError(t, to.BasicAuth("ali", "sesame").Push())
	if code, _ := a.Send("GET", "/metrics", ""); code != http.StatusUnauthorized {
		t.Errorf("GET /metrics without a password = %d, want 401", code)
	}
	if got := agenttest.Files(t, a.Spool); !slices.Equal(got, []string{"job=treasure.prom"}) {
		t.Errorf("the spool has %q, want the pushed group", got)
	}
}

// needPython returns the path of a Python that has the official client.
func needPython(t *testing.T) string {
	t.Helper()
	python := agenttest.Need(t, "/usr/bin/python3") // other Pythons do not see Debian's packages
	if _, stderr, status := (agenttest.Command{Name: python, Args: []string{"-c", "import prometheus_client"}}).Run(t); status != 0 {
		if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
			t.Fatal(stderr)
		}
		t.Skip(stderr)
	}
	return python
}

// TestPythonClient runs the code of users of Debian's package.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	python := needPython(t)
	a := agenttest.StartAgent(t, "")
	call := func(function string) {
		t.Helper()
		agenttest.Command{Name: python, Args: []string{"testdata/client.py", a.Addr, function}}.Must(t)
	}
	call("push")
	agenttest.WantLines(t, a.Page(), "# HELP last_success Last time", "# TYPE last_success gauge", `last_success{job="batch_A"} 42`,
		`duration_seconds_bucket{job="batch_A",le="+Inf"} 1`, `duration_seconds_sum{job="batch_A"} 2`,
		`done_total{job="batch_A",kind="x/y"} 3`)
	call("pushadd")
	agenttest.WantLines(t, a.Page(), `last_success{job="batch_A"} 42`, `added{job="batch_A"} 1`)
	call("delete")
	agenttest.WantNone(t, a.Merge(), "batch_A")
	call("instance")
	agenttest.WantLines(t, a.Page(), `by_address{instance="127.0.0.1",job="batch/B"} 1`)
	call("delete-instance")
	agenttest.WantNone(t, a.Merge(), "by_address")
}
