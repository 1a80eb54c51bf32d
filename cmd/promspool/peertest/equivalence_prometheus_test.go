package peertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// scrapeWith starts a Prometheus that scrapes these targets continuously.
func scrapeWith(t *testing.T, flags []string, targets ...string) *realPrometheus {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	agenttest.NoError(t, os.WriteFile(file, []byte(`global:
  scrape_interval: 100ms
  scrape_timeout: 100ms
scrape_configs:
  - job_name: promspool
    honor_labels: true
    static_configs:
      - targets: ["`+strings.Join(targets, `", "`)+`"]
`), 0o644))
	args := append([]string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0"}, flags...)
	return &realPrometheus{agenttest.StartServer(t, listensOn, agenttest.Need(t, "prometheus"), args...)}
}

// allTypes is a push of every type.
const allTypes = `# TYPE c_total counter
c_total{path="/a\"b\\\n é"} 1e6
# TYPE g gauge
g -0.5
g{x="1"} NaN
# TYPE u untyped
u +Inf
# TYPE h histogram
h_bucket{le="0.5"} 1
h_bucket{le="1"} 2
h_bucket{le="+Inf"} 3
h_sum 4.5
h_count 3
# TYPE s summary
s{quantile="0.5"} 2
s{quantile="1"} NaN
s_sum 4.5
s_count 3
`

func TestPrometheusHasAllTypesRight(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		flags []string
		one   string // how this Prometheus writes the bound 1
	}{
		{name: "text", one: "1"},
		{"protobuf", []string{"--enable-feature=native-histograms"}, "1.0"}, // shows that it scraped protobuf
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := agenttest.StartAgent(t, "", replacement...)
			a.Push("/metrics/job/j/instance/i", allTypes)
			a.Push("/metrics/job/k", "# TYPE other gauge\nother{instance=\"own\"} 1\nother 2\n")
			p := scrapeWith(t, tt.flags, a.Addr)
			group := func(pairs ...string) labels {
				l := labels{"job": "j", "instance": "i"}
				for i := 0; i < len(pairs); i += 2 {
					l[pairs[i]] = pairs[i+1]
				}
				return l
			}
			p.has("c_total", "1000000", group("path", "/a\"b\\\n é"))
			p.has(`g{x=""}`, "-0.5", group())
			p.has(`g{x="1"}`, "NaN", group("x", "1"))
			p.has("u", "+Inf", group())
			p.has(`h_bucket{le="0.5"}`, "1", group("le", "0.5"))
			p.has(`h_bucket{le="`+tt.one+`"}`, "2", group("le", tt.one))
			p.has(`h_bucket{le="+Inf"}`, "3", group("le", "+Inf"))
			p.has("count(h_bucket)", "3", labels{})
			p.has("h_sum", "4.5", group())
			p.has("h_count", "3", group())
			p.has(`s{quantile="0.5"}`, "2", group("quantile", "0.5"))
			p.has(`s{quantile="`+tt.one+`"}`, "NaN", group("quantile", tt.one))
			p.has("s_sum", "4.5", group())
			p.has("s_count", "3", group())
			p.has(`other{instance="own"}`, "1", labels{"job": "k", "instance": "own"})
			p.has(`other{instance=""}`, "2", labels{"job": "k"})
			p.has(`push_failure_time_seconds{job="j"}`, "0", group())
			p.has(`push_time_seconds{job="k"} > bool 1e9`, "1", labels{"job": "k"})
			if log := p.Log.String(); strings.Contains(log, "Error on ingesting") {
				t.Errorf("Prometheus does not like all of it:\n%s", log)
			}
			p.Stop()
			a.Stop()
		})
	}
}

// TestPrometheusHasUTF8Names includes a Prometheus without support for such names. It
// gets them escaped, and two series never become one.
func TestPrometheusHasUTF8Names(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		flags []string
	}{
		{name: "text"},
		{"protobuf", []string{"--enable-feature=native-histograms"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := agenttest.StartAgent(t, "", "--push.enable-utf8-names")
			a.Push("/metrics/job/a", "# TYPE \"http.requests\" counter\n{\"http.requests\",\"http.code\"=\"2.00\"} 1\n")
			a.Push("/metrics/job/b/U__site_2e_name/x", "# TYPE \"größe\" gauge\n{\"größe\"} 2\n")
			a.Push("/metrics/job/c", "# TYPE \"h.s\" histogram\n{\"h.s_bucket\",le=\"+Inf\"} 3\n{\"h.s_sum\"} 3\n{\"h.s_count\"} 3\n")
			p := scrapeWith(t, tt.flags, a.Addr)
			p.has("http_requests", "1", labels{"job": "a", "instance": a.Addr, "http_code": "2.00"})
			p.has("gr__e", "2", labels{"job": "b", "instance": a.Addr, "site_name": "x"})
			p.has("h_s_bucket", "3", labels{"job": "c", "instance": a.Addr, "le": "+Inf"})
			p.has("h_s_sum", "3", labels{"job": "c", "instance": a.Addr})

			// Names that would become other names are escaped so that they do not.
			in := labels{"job": "d", "instance": a.Addr}
			for _, body := range []string{
				"{\"x.y\"} 1\n{\"x-y\"} 2\n", "{\"m\",\"x.y\"=\"1\"} 1\n{\"m\",\"x-y\"=\"1\"} 2\n", "{\"m\",\"x.y\"=\"1\",x_y=\"2\"} 1\n",
				"# TYPE \"http-requests\" gauge\n{\"http-requests\"} 1\n", "# TYPE h_s gauge\nh_s 1\n{\"x.y\"} 1\nx_y 2\n",
			} {
				a.Push("/metrics/job/d", body)
				wantUnique(t, "PUT of "+body, a)
			}
			p.has(`h_s{job="d"}`, "1", in)
			p.has("x_y", "2", in)
			p.has("U__x_2e_y", "1", in)
			p.has("U__h_2e_s_sum", "3", labels{"job": "c", "instance": a.Addr})
			p.has("up", "1", labels{"job": "promspool", "instance": a.Addr})
			if log := p.Log.String(); strings.Contains(log, "Error on ingesting") {
				t.Errorf("Prometheus does not like all of it:\n%s", log)
			}
			p.Stop()
			a.Stop()
		})
	}
}
