package peertest

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/push"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// secured returns the flags of a server that requires user ali with password sesame.
func secured(t *testing.T) []string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "web.yml")
	agenttest.NoError(t, os.WriteFile(config, []byte("basic_auth_users:\n  ali: $2a$04$hak3ORLaPyAWS9lDDzeaBuToWk/oMOYDq0jsWrsik5tiKxyAgLb3a\n"), 0o600))
	return []string{"--web.config.file=" + config}
}

// outcome returns equal texts for calls of client_golang that ended alike.
func outcome(err error) string {
	if err == nil {
		return "done"
	}
	if code := regexp.MustCompile(`unexpected status code \d+`).FindString(err.Error()); code != "" {
		return code
	}
	if errors.Is(err, context.Canceled) {
		return "cancelled"
	}
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		return failed.Err.Error()
	}
	return "refused by the library"
}

// collection returns metrics of all types.
func collection() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total", Help: "Has a \\ and\na new line."}, []string{"path"})
	counter.WithLabelValues("/a\"b\\\n").Inc()
	counter.WithLabelValues("").(prometheus.ExemplarAdder).AddWithExemplar(2, prometheus.Labels{"trace_id": "x"})
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h_seconds", Help: "H.", Buckets: []float64{0.1, 1, 1e6}})
	both := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "both_seconds", Help: "B.", Buckets: []float64{1}})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s_seconds", Help: "S.", Objectives: map[float64]float64{0.5: 0.05, 0.99: 0.001}})
	bare := prometheus.NewSummary(prometheus.SummaryOpts{Name: "bare_seconds", Help: "S."})
	untyped := prometheus.NewUntypedFunc(prometheus.UntypedOpts{Name: "u", Help: "U."}, func() float64 { return 1e21 })
	reg.MustRegister(counter, histogram, both, summary, bare, untyped, gauge("g", -0.5))
	for _, v := range []float64{0.05, 0.5, 5} {
		histogram.Observe(v)
		both.Observe(v)
		summary.Observe(v)
		bare.Observe(v)
	}
	return reg
}

// A header is a client that adds a header to each request.
type header struct{ name, value string }

func (h header) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set(h.name, h.value)
	return agenttest.Client.Do(r)
}

func TestEquivalenceForTheGoClient(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus-pushgateway")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	openMetrics, err := expfmt.NewOpenMetricsFormat(expfmt.OpenMetricsVersion_1_0_0)
	agenttest.NoError(t, err)
	one, two, other := gauge("one", 1), gauge("two", 2), gauge("other", 3)
	count := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "one", Help: "Help of one."}, func() float64 { return 1 })
	labelled := func(label string) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "labelled", ConstLabels: prometheus.Labels{label: "own"}}, func() float64 { return 1 })
	}
	for name, calls := range map[string][]func(url string) error{
		"Push and Add": {
			func(url string) error { return push.New(url, "j").Collector(one).Collector(two).Push() },
			func(url string) error { return push.New(url, "j").Collector(other).Add() },
			func(url string) error { return push.New(url, "k").Collector(one).Collector(two).Add() },
			func(url string) error { return push.New(url, "k").Collector(other).Push() },
			func(url string) error { return push.New(url, "empty").Push() },
			func(url string) error { return push.New(url, "nothing").Add() },
		},
		"PushContext and AddContext": {
			func(url string) error { return push.New(url, "j").Collector(one).PushContext(t.Context()) },
			func(url string) error { return push.New(url, "j").Collector(two).AddContext(t.Context()) },
			func(url string) error { return push.New(url, "j").Collector(other).PushContext(cancelled) },
			func(url string) error { return push.New(url, "j").Collector(other).AddContext(cancelled) },
		},
		"Delete": {
			func(url string) error { return push.New(url, "j").Collector(one).Push() },
			func(url string) error { return push.New(url, "j").Grouping("x", "1").Collector(one).Push() },
			func(url string) error { return push.New(url, "k").Collector(one).Push() },
			func(url string) error { return push.New(url, "j").Collector(one).Delete() },
			func(url string) error { return push.New(url, "nothing").Delete() },
		},
		"Grouping": {
			func(url string) error {
				return push.New(url, "a/b").Grouping("path", "/var/tmp").Grouping("z", "a+b c&d;e%").Grouping("instance", "i").Collector(one).Push()
			},
			func(url string) error { return push.New(url, "ü%").Grouping("q", "a\"b\\c\n").Collector(one).Push() },
			func(url string) error { return push.New(url, "j").Grouping("empty", "").Collector(one).Push() },
			func(url string) error { return push.New(url, "../..").Grouping("y", "./.").Collector(one).Push() },
			func(url string) error { return push.New(url, "j").Grouping("a-b", "1").Collector(one).Push() },
			func(url string) error { return push.New(url, "j").Grouping("__x", "1").Collector(one).Push() },
		},
		"Collector and Gatherer": {
			func(url string) error { return push.New(url, "j").Collector(one).Gatherer(collection()).Push() },
			func(url string) error { return push.New(url, "j").Gatherer(collection()).Gatherer(collection()).Push() },
			func(url string) error { return push.New(url, "j").Collector(one).Collector(one).Push() },
			func(url string) error { return push.New(url, "j").Collector(labelled("job")).Push() },
			func(url string) error { return push.New(url, "j").Collector(labelled("instance")).Push() },
			func(url string) error {
				return push.New(url, "k").Grouping("instance", "i").Collector(labelled("instance")).Push()
			},
			func(url string) error {
				return push.New(url, "build").Collector(collectors.NewBuildInfoCollector()).Push()
			},
		},
		"Format": {
			func(url string) error {
				return push.New(url, "a").Gatherer(collection()).Format(formats["protobuf"]).Push()
			},
			func(url string) error {
				return push.New(url, "b").Gatherer(collection()).Format(formats["text"]).Push()
			},
			func(url string) error {
				return push.New(url, "c").Collector(one).Format(expfmt.NewFormat(expfmt.TypeProtoText)).Push()
			},
			func(url string) error {
				return push.New(url, "d").Collector(one).Format(expfmt.NewFormat(expfmt.TypeProtoCompact)).Push()
			},
			func(url string) error { return push.New(url, "e").Collector(one).Format(openMetrics).Push() },
		},
		"Header and Client": {
			func(url string) error {
				return push.New(url, "a").Header(http.Header{"X-Test": {"1"}}).Collector(one).Push()
			},
			func(url string) error {
				return push.New(url, "b").Header(http.Header{"Content-Encoding": {"gzip"}}).Collector(one).Push()
			},
			func(url string) error {
				return push.New(url, "c").Header(http.Header{"Accept": {"application/json"}}).Collector(one).Add()
			},
			func(url string) error {
				return push.New(url, "d").Client(header{"User-Agent", "test"}).Collector(one).Push()
			},
			func(url string) error {
				return push.New(url, "e").Client(header{"Content-Type", "text/plain"}).Collector(one).Push()
			},
			func(url string) error { return push.New(url, "d").Client(header{"User-Agent", "test"}).Delete() },
		},
		"URL": {
			func(url string) error { return push.New(url+"/", "a").Collector(one).Push() },
			func(url string) error { return push.New(strings.TrimPrefix(url, "http://"), "b").Collector(one).Push() },
			func(url string) error { return push.New(url+"/nowhere", "c").Collector(one).Push() },
		},
		"Error": {
			func(url string) error { return push.New(url, "").Collector(one).Push() },
			func(url string) error { return push.New(url, "").Error() },
			func(url string) error { return push.New(url, "j").Grouping("", "1").Collector(one).Add() },
			func(url string) error { return push.New(url, "j").Grouping("\xff", "1").Delete() },
			func(url string) error { return push.New(url, "j").Collector(one).Push() },
			func(url string) error { return push.New(url, "k").Collector(count).Push() },
			func(url string) error { return push.New(url, "k").Collector(count).Add() },
		},
		"BasicAuth": {
			func(url string) error { return push.New(url, "j").Collector(one).Push() },
			func(url string) error { return push.New(url, "j").BasicAuth("ali", "wrong").Collector(one).Add() },
			func(url string) error { return push.New(url, "j").BasicAuth("", "").Collector(one).Delete() },
			func(url string) error { return push.New(url, "j").BasicAuth("ali", "sesame").Collector(one).Push() },
			func(url string) error { return push.New(url, "j").BasicAuth("ali", "sesame").Collector(two).Add() },
			func(url string) error { return push.New(url, "k").BasicAuth("ali", "sesame").Collector(two).Add() },
			func(url string) error { return push.New(url, "k").BasicAuth("ali", "sesame").Delete() },
			func(url string) error { return push.New(url, "j").Delete() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := secureIf(t, name == "BasicAuth")
			for i, call := range calls {
				got, want := outcome(call("http://"+ours)), outcome(call("http://"+theirs))
				if got != want {
					t.Errorf("call %d: %q with promspool, %q with Pushgateway", i+1, got, want)
				}
			}
			wantSame(t, ours, theirs)
		})
	}
}

// secureIf starts a promspool and a Pushgateway, with or without a password.
func secureIf(t *testing.T, secure bool) (ours, theirs string) {
	t.Helper()
	var flags []string
	if secure {
		flags = secured(t)
	}
	return agenttest.StartAgent(t, "", append(flags, replacement...)...).Addr, startPushgateway(t, flags...).Addr
}

// wantSame compares the states of two servers, which may require a password.
func wantSame(t *testing.T, ours, theirs string) {
	t.Helper()
	for _, addr := range []string{ours, theirs} {
		if a := last.with("Authorization", "Basic YWxpOnNlc2FtZQ==").sendTo(t, addr); a.code != http.StatusOK {
			t.Errorf("the last push is answered with %d", a.code)
		}
	}
	got, want := look(t, "ali:sesame@"+ours), look(t, "ali:sesame@"+theirs)
	if got != want {
		t.Errorf("page and API (-Pushgateway +promspool):\n%s%s", cmp.Diff(want.page, got.page), cmp.Diff(want.api, got.api))
	}
}

// A histogram with native buckets only is kept: the text format has its sum and count,
// and a protobuf scrape the buckets.
func TestGoClientWithNativeHistogram(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "native_seconds", NativeHistogramBucketFactor: 1.1})
	h.Observe(1)
	agenttest.NoError(t, push.New(a.URL, "j").Collector(h).Push())
	agenttest.WantLines(t, a.Page(), `native_seconds_bucket{job="j",le="+Inf"} 1`, `native_seconds_sum{job="j"} 1`, `native_seconds_count{job="j"} 1`)
	kept := scrapedFamily(t, a.Restart(), "native_seconds").Metric[0].Histogram
	if kept.GetSchema() != 3 || len(kept.PositiveSpan) != 1 || kept.CreatedTimestamp == nil {
		t.Errorf("the scrape has %v", kept)
	}
}

// In OpenMetrics the client writes the times of exemplars as floats with an exponent.
// Pushgateway reads the text as 0.0.4 and rejects exemplars.
func TestGoClientWithExemplarsInOpenMetrics(t *testing.T) {
	t.Parallel()
	openMetrics, err := expfmt.NewOpenMetricsFormat(expfmt.OpenMetricsVersion_1_0_0)
	agenttest.NoError(t, err)
	a := agenttest.StartAgent(t, "")
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "rows_total"})
	c.(prometheus.ExemplarAdder).AddWithExemplar(42, prometheus.Labels{"trace_id": "abc"})
	agenttest.NoError(t, push.New(a.URL, "j").Collector(c).Gatherer(collection()).Format(openMetrics).Push())
	e := scrapedFamily(t, a.Restart(), "rows_total").Metric[0].Counter.Exemplar
	if e.GetValue() != 42 || e.GetLabel()[0].GetValue() != "abc" || e.GetTimestamp().GetSeconds() == 0 {
		t.Errorf("the scrape has the exemplar %v", e)
	}
}

// scrapedFamily returns a family of a scrape by protobuf.
func scrapedFamily(t *testing.T, a *agenttest.Agent, name string) *dto.MetricFamily {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/metrics", nil)
	agenttest.NoError(t, err)
	req.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	resp, err := agenttest.Client.Do(req)
	agenttest.NoError(t, err)
	defer resp.Body.Close()
	for d := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header)); ; {
		f := new(dto.MetricFamily)
		agenttest.NoError(t, d.Decode(f)) // io.EOF if it is missing
		if f.GetName() == name {
			return f
		}
	}
}

// TestEquivalenceForThePythonClient uses every function of Debian's package.
func TestEquivalenceForThePythonClient(t *testing.T) {
	t.Parallel()
	python := needPython(t)
	agenttest.Need(t, "prometheus-pushgateway")
	for _, handler := range []string{"default_handler", "passthrough_redirect_handler", "basic_auth_handler"} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			ours, theirs := secureIf(t, handler == "basic_auth_handler")
			run := func(addr string) string {
				return agenttest.Command{Name: python, Args: []string{"testdata/equivalence_client.py", addr, handler}}.Must(t)
			}
			got, want := run(ours), run(theirs)
			if d := cmp.Diff(want, got); d != "" || strings.Count(got, ": done\n") < 10 {
				t.Errorf("the client says (-of Pushgateway +of promspool):\n%s%s", d, got)
			}
			wantSame(t, ours, theirs)
		})
	}
}
