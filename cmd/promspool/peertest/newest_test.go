package peertest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// newestProgram returns the path of a program in its newest version, which "make peers"
// builds.
func newestProgram(t *testing.T, name string) string {
	t.Helper()
	return agenttest.Need(t, filepath.Join(agenttest.Repository, "build", "peers", name))
}

// startNewestPrometheus starts the newest Prometheus with all that it has for native
// histograms, exemplars and start times. It scrapes the agent all the time.
func startNewestPrometheus(t *testing.T, protocols, addr string) *realPrometheus {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	agenttest.NoError(t, os.WriteFile(file, []byte(`global:
  scrape_interval: 100ms
  scrape_timeout: 100ms
scrape_configs:
  - job_name: promspool
    honor_labels: true
    scrape_native_histograms: true
    scrape_protocols: [`+protocols+`]
    static_configs:
      - targets: ["`+addr+`"]
`), 0o644))
	return &realPrometheus{agenttest.StartServer(t, listensOn, newestProgram(t, "prometheus"), "--config.file="+file,
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0",
		"--enable-feature=exemplar-storage,st-storage,use-start-timestamps,openmetrics2")}
}

// about waits until an expression has one value between two bounds.
func (p *realPrometheus) about(expr string, low, high float64) {
	p.T.Helper()
	var last string
	defer func() {
		if p.T.Failed() {
			p.T.Logf("%s was last %s", expr, last)
		}
	}()
	agenttest.WaitFor(p.T, fmt.Sprintf("%s is between %v and %v", expr, low, high), func() bool {
		var series []labels
		series, last = p.query(expr)
		v, err := strconv.ParseFloat(last, 64)
		return len(series) == 1 && err == nil && low <= v && v <= high
	})
}

// scrapes waits until the agent has been scraped so many times more.
func (p *realPrometheus) scrapes(n int) {
	p.T.Helper()
	count := func() float64 {
		_, value := p.query("count_over_time(up[1h])")
		v, _ := strconv.ParseFloat(value, 64) // none is 0
		return v
	}
	first := count()
	agenttest.WaitFor(p.T, fmt.Sprintf("%d more scrapes", n), func() bool { return count() >= first+float64(n) })
}

// exemplar waits for an exemplar of a series and returns its labels and value.
func (p *realPrometheus) exemplar(selector string) (of labels, value string) {
	p.T.Helper()
	agenttest.WaitFor(p.T, "an exemplar of "+selector, func() bool {
		var answer struct {
			Data []struct {
				Exemplars []struct {
					Labels labels
					Value  string
				}
			}
		}
		now := time.Now()
		query := url.Values{"query": {selector}, "start": {now.Add(-time.Hour).Format(time.RFC3339)}, "end": {now.Add(time.Hour).Format(time.RFC3339)}}
		agenttest.NoError(p.T, json.Unmarshal([]byte(fetch(p.T, p.Addr, "/api/v1/query_exemplars?"+query.Encode())), &answer))
		if len(answer.Data) == 0 || len(answer.Data[0].Exemplars) == 0 {
			return false
		}
		of, value = answer.Data[0].Exemplars[0].Labels, answer.Data[0].Exemplars[0].Value
		return true
	})
	return of, value
}

// pushRun pushes what a run of a job leaves: a counter of 42 rows, with an exemplar,
// and two histograms of 1 to 200 ms, of which one has classic buckets as well.
func pushRun(t *testing.T, a *agenttest.Agent) {
	t.Helper()
	reg := prometheus.NewRegistry()
	rows := prometheus.NewCounter(prometheus.CounterOpts{Name: "rows_total", Help: "Rows."})
	native := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "native_seconds", Help: "N.", NativeHistogramBucketFactor: 1.1})
	mixed := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "mixed_seconds", Help: "M.", NativeHistogramBucketFactor: 1.1, Buckets: []float64{0.1, 1}})
	reg.MustRegister(rows, native, mixed)
	rows.(prometheus.ExemplarAdder).AddWithExemplar(42, prometheus.Labels{"trace_id": "abc"})
	for i := range 200 {
		v := float64(i+1) / 1000
		native.Observe(v)
		mixed.(prometheus.ExemplarObserver).ObserveWithExemplar(v, prometheus.Labels{"trace_id": strconv.Itoa(i)})
	}
	agenttest.NoError(t, push.New(a.URL, "nightly").Gatherer(reg).Push())
}

// unixText returns Unix time in seconds.
func unixText(at time.Time) string {
	return strconv.FormatFloat(float64(at.UnixMicro())/1e6, 'f', 6, 64)
}

// TestNewestPrometheusHasAllThatClientsSend pushes as client_golang does and as scripts
// do, and asks the newest Prometheus what it has.
func TestNewestPrometheusHasAllThatClientsSend(t *testing.T) {
	t.Parallel()
	newestProgram(t, "prometheus")
	a := agenttest.StartAgent(t, "", "--push.enable-utf8-names")
	a.Push("/metrics/job/utf8", "{\"disk.free\"} 7\n")
	p := startNewestPrometheus(t, "PrometheusProto", a.Addr)
	run := func() {
		t.Helper()
		pushRun(t, a)
		a.Push("/metrics/job/script?start="+unixText(time.Now()), "# TYPE lines_total counter\nlines_total 42\n")
		a.Push("/metrics/job/plain", "# TYPE files_total counter\nfiles_total 42\n")
		// A run that takes several scrapes, in which the values of the last run are served.
		job := agenttest.StartJob(t, a.Spool, `echo $$; cat; printf '# TYPE items_total counter\nitems_total 42\n' >"$PROMSPOOL_TEXTFILE"`, "--push.start-time")
		p.scrapes(3)
		if state := job.Finish(); !state.Success() {
			t.Fatalf("promspool run: %v", state)
		}
		p.scrapes(3)
	}
	run()
	p.has("histogram_count(native_seconds)", "200", labels{"job": "nightly", "instance": a.Addr})
	p.about("histogram_quantile(0.5, native_seconds)", 0.09, 0.11)
	p.about("histogram_quantile(0.9, mixed_seconds)", 0.17, 0.19)
	p.has("disk_free", "7", labels{"job": "utf8", "instance": a.Addr}) // protobuf has names escaped

	if of, value := p.exemplar(`rows_total{job="nightly"}`); of["trace_id"] != "abc" || value != "42" {
		t.Errorf("the exemplar of rows_total is %v %s, want that of the push", of, value)
	}
	if of, _ := p.exemplar(`mixed_seconds{job="nightly"}`); of["trace_id"] == "" {
		t.Errorf("the exemplar of mixed_seconds is %v, want one of the push", of)
	}

	// Two runs of 42 are 84, and a little more since the last interval is extrapolated.
	run()
	for _, counter := range []string{"rows_total", "lines_total", "items_total"} {
		p.about("resets("+counter+"[1h])", 1, 1)
		p.about("increase("+counter+"[1h])", 84, 95)
	}
	p.about("histogram_count(increase(native_seconds[1h]))", 400, 450)
	p.about("increase(files_total[1h])", 0, 0)
	if log := p.Log.String(); strings.Contains(log, "Error on ingesting") {
		t.Errorf("Prometheus reports errors:\n%s", log)
	}
	p.Stop()
	a.Stop()
}

// TestNewestPrometheusReadsOpenMetrics has it ask for nothing else.
func TestNewestPrometheusReadsOpenMetrics(t *testing.T) {
	t.Parallel()
	newestProgram(t, "prometheus")
	for _, protocol := range []string{"OpenMetricsText1.0.0", "OpenMetricsText2.0.0"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			a := agenttest.StartAgent(t, "", "--web.enable-openmetrics", "--push.enable-utf8-names")
			pushRun(t, a)
			a.Push("/metrics/job/utf8", "{\"disk.free\"} 7\n")
			// What OpenMetrics does not allow is there without a type.
			a.Push("/metrics/job/odd", "# TYPE odd_total counter\nodd_total -1\n# TYPE odd gauge\nodd NaN\n# UNIT odd rows\n# TYPE f histogram\nf_bucket{le=\"+Inf\"} 2.5\nf_sum 1\nf_count 2.5\n")
			a.Push("/metrics/job/queue", "# TYPE q_bytes gaugehistogram\nq_bytes_bucket{le=\"1\"} 2\nq_bytes_bucket{le=\"+Inf\"} 3\nq_bytes_gcount 3\nq_bytes_gsum -4.5\n")
			p := startNewestPrometheus(t, protocol, a.Addr)
			p.has("q_bytes_gcount", "3", labels{"job": "queue", "instance": a.Addr})
			p.has("q_bytes_gsum", "-4.5", labels{"job": "queue", "instance": a.Addr})
			p.has("rows_total", "42", labels{"job": "nightly", "instance": a.Addr})
			p.has(`{"disk.free"}`, "7", labels{"job": "utf8", "instance": a.Addr})
			p.has("odd_total", "-1", labels{"job": "odd", "instance": a.Addr})
			p.has("odd", "NaN", labels{"job": "odd", "instance": a.Addr})
			if of, value := p.exemplar(`rows_total{job="nightly"}`); of["trace_id"] != "abc" || value != "42" {
				t.Errorf("the exemplar of rows_total is %v %s, want that of the push", of, value)
			}
			if protocol == "OpenMetricsText1.0.0" { // which has no native histograms
				p.has("mixed_seconds_count", "200", labels{"job": "nightly", "instance": a.Addr})
				p.has("f_count", "2.5", labels{"job": "odd", "instance": a.Addr})
			} else {
				p.about("histogram_quantile(0.5, native_seconds)", 0.09, 0.11)
			}
			p.has("up", "1", labels{"job": "promspool", "instance": a.Addr})
			if log := p.Log.String(); strings.Contains(log, "Error on ingesting") {
				t.Errorf("Prometheus reports errors:\n%s", log)
			}
		})
	}
}
