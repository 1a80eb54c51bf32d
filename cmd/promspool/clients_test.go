package main_test

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
)

// formats are what client_golang can push.
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
			a := startAgent(t, "")
			to := func(collectors ...prometheus.Collector) *push.Pusher {
				p := push.New(a.url, "backup").Grouping("instance", "db1").Format(format)
				for _, c := range collectors {
					p.Collector(c)
				}
				return p
			}
			first, second := `first{instance="db1",job="backup"} 1.5`, `second{instance="db1",job="backup"} 2`

			done(t, to(gauge("first", 1.5)).Push())
			wantLines(t, a.page(), "# HELP first Help of first.", "# TYPE first gauge", first)
			done(t, to(gauge("second", 2)).Add())
			wantLines(t, a.page(), first, second)
			done(t, to(gauge("second", 2)).Push())
			wantLines(t, a.page(), second)
			wantNone(t, a.merge(), "first")
			done(t, to().Delete())
			wantNone(t, a.merge(), "backup", "second")
			if left := files(t, a.spool); len(left) != 0 {
				t.Errorf("left in the spool: %q, want nothing", left)
			}
			done(t, to().Delete()) // nothing is there
			a.stop()
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

			a := startAgent(t, "")
			done(t, push.New(a.url, "all").Gatherer(reg).Format(format).Push())
			want := []string{
				"# TYPE c_total counter", `c_total{job="all",path="C:\\\"x\"\n"} 1`,
				"# TYPE h_seconds histogram", `h_seconds_bucket{job="all",le="0.1"} 1`, `h_seconds_bucket{job="all",le="1"} 2`,
				`h_seconds_bucket{job="all",le="+Inf"} 3`, `h_seconds_sum{job="all"} 5.55`, `h_seconds_count{job="all"} 3`,
				"# TYPE s_seconds summary", `s_seconds{job="all",quantile="0.5"} 0.5`, `s_seconds_sum{job="all"} 5.55`, `s_seconds_count{job="all"} 3`,
			}
			wantLines(t, a.page(), want...)
			wantLines(t, a.restart().page(), want...)
		})
	}
}

func TestGoClientPushesItsOwnProcess(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "") // has the same metrics of its own
	done(t, push.New(a.url, "batch").Gatherer(prometheus.DefaultGatherer).Push())
	page := a.page()
	pushed := `go_info{job="batch",version="` + runtime.Version() + `"} 1`
	wantLines(t, page, pushed, `go_info{version="`+runtime.Version()+`"} 1`)
	wantParses(t, page)
	// As the example for node_exporter has it.
	wantLines(t, nodePage(t, startNodeExporter(t, a.spool, "--web.disable-exporter-metrics")), "node_textfile_scrape_error 0", pushed)
}

func TestGoClientGroupsByAnyValue(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	for _, tt := range []struct{ job, name, value, labels string }{
		{"a/b", "path", "/var/tmp", `{job="a/b",path="/var/tmp"}`},
		{"empty", "instance", "", `{job="empty"}`},
		{"ü%", "q", `a"b\c`, `{job="ü%",q="a\"b\\c"}`},
	} {
		to := push.New(a.url, tt.job).Grouping(tt.name, tt.value).Collector(gauge("grouped", 1))
		done(t, to.Push())
		wantLines(t, a.page(), "grouped"+tt.labels+" 1")
		done(t, to.Delete())
		wantNone(t, a.page(), "grouped"+tt.labels)
	}
}

func TestGoClientHasTheReasonOfARefusal(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "same_name", Help: "H."})
	done(t, push.New(a.url, "one").Collector(counter).Push())
	err := push.New(a.url, "two").Collector(gauge("same_name", 1)).Push()
	if err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), "same_name") || !strings.Contains(err.Error(), "job=one.prom") {
		t.Errorf("Push of another type: %v, want 400, the family and the file that it clashes with", err)
	}
}

func TestGoClientWithBasicAuth(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "web.yml")
	// The password is sesame.
	done(t, os.WriteFile(config, []byte("basic_auth_users:\n  ali: $2a$04$hak3ORLaPyAWS9lDDzeaBuToWk/oMOYDq0jsWrsik5tiKxyAgLb3a\n"), 0o600))
	a := startAgent(t, "", "--web.config.file="+config)
	to := push.New(a.url, "treasure").Collector(gauge("gold", 1))
	if err := to.Push(); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("Push without a password: %v, want 401", err)
	}
	done(t, to.BasicAuth("ali", "sesame").Push())
	if code, _ := a.send("GET", "/metrics", ""); code != http.StatusUnauthorized {
		t.Errorf("GET /metrics without a password = %d, want 401", code)
	}
	if got := files(t, a.spool); !slices.Equal(got, []string{"job=treasure.prom"}) {
		t.Errorf("the spool has %q, want the pushed group", got)
	}
}

// needPython returns the path of a Python that has the official client.
func needPython(t *testing.T) string {
	t.Helper()
	python := need(t, "/usr/bin/python3") // others do not see Debian's packages
	if _, stderr, status := (command{name: python, args: []string{"-c", "import prometheus_client"}}).run(t); status != 0 {
		if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
			t.Fatal(stderr)
		}
		t.Skip(stderr)
	}
	return python
}

// TestPythonClient runs what users of Debian's package write.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	python := needPython(t)
	a := startAgent(t, "")
	call := func(function string) {
		t.Helper()
		command{name: python, args: []string{"testdata/client.py", a.addr, function}}.must(t)
	}
	call("push")
	wantLines(t, a.page(), "# HELP last_success Last time", "# TYPE last_success gauge", `last_success{job="batch_A"} 42`,
		`duration_seconds_bucket{job="batch_A",le="+Inf"} 1`, `duration_seconds_sum{job="batch_A"} 2`,
		`done_total{job="batch_A",kind="x/y"} 3`)
	call("pushadd")
	wantLines(t, a.page(), `last_success{job="batch_A"} 42`, `added{job="batch_A"} 1`)
	call("delete")
	wantNone(t, a.merge(), "batch_A")
	call("instance")
	wantLines(t, a.page(), `by_address{instance="127.0.0.1",job="batch/B"} 1`)
	call("delete-instance")
	wantNone(t, a.merge(), "by_address")
}
