package peertest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// A poison is an attempt of a client to spoil the metrics of all others. The agent
// rejects it or stores it harmlessly.
type poison struct {
	name string
	send []request // with the responses of an agent with all checks and without UTF-8 names
}

var poisons = []poison{
	{"value of the path not UTF-8, by base64", []request{put("/metrics/job@base64/__4", "m 1\n", 400), put("/metrics/job/j/x@base64/__4", "m 1 1000\n", 400)}},
	{"value of the path not UTF-8, by escapes", []request{put("/metrics/job/%ff", "m 1\n", 400), post("/metrics/job/j/x/%ff", "m 1\nm 1\n", 400)}},
	{"NUL in the path", []request{put("/metrics/job/a%00b", "m 1\n", 400)}},
	{"no instance and an empty one", []request{put("/metrics/job/w2", "w2 1\n", 200), put("/metrics/job/w2/instance@base64/=", "w2 2\n", 200)}},
	{"no label and an empty one", []request{put("/metrics/job/x", "x 1\n", 200), put("/metrics/job/x/y@base64/=", "x 2\n", 200), put("/metrics/job/x/z@base64/=", "x 3\n", 200)}},
	{"series with an empty label and without", []request{put("/metrics/job/e", "e{x=\"\"} 1\ne 2\n", 400)}},
	{"family without a name", []request{putProto("/metrics/job/w3", 400, `type: GAUGE metric { gauge { value: 1 } }`), putProto("/metrics/job/w3", 400, ``)}},
	{"gauge histogram", []request{putProto("/metrics/job/w4", 200, `name: "w4" type: GAUGE_HISTOGRAM metric { histogram { sample_count: 1 bucket { upper_bound: 1 cumulative_count: 1 } } }`)}},
	{"gauge histogram without a histogram", []request{putProto("/metrics/job/w4", 400, `name: "w4" type: GAUGE_HISTOGRAM metric { }`), putProto("/metrics/job/w4", 200, `name: "w4" type: GAUGE_HISTOGRAM`)}},
	{"type that there is none", []request{put("/metrics/job/t", "\x07\x0a\x01t\x18\x63\x22\x00", 400).with("Content-Type", delimitedType)}},
	{"label names that are one when escaped", []request{putProto("/metrics/job/w5", 400, `name: "w5" type: GAUGE metric { label { name: "x.y" value: "1" } label { name: "x_y" value: "2" } gauge { } }`)}},
	{"metric names that are one when escaped", []request{putProto("/metrics/job/w5", 400, `name: "w.5" type: GAUGE metric { gauge { } }`, `name: "w_5" type: COUNTER metric { counter { } }`), put("/metrics/job/w5", "w_5 1\n", 200)}},
	{"metric names that are one when escaped, in two groups", []request{putProto("/metrics/job/w5a", 400, `name: "w-5" type: GAUGE metric { gauge { } }`), putProto("/metrics/job/w5b", 400, `name: "w.5" type: COUNTER metric { counter { } }`)}},
	{"names with newlines and quotes", []request{putProto("/metrics/job/n", 400, `name: "n\n# TYPE n gauge\nn" type: GAUGE metric { gauge { } }`), putProto("/metrics/job/n", 400, `name: "n" type: GAUGE metric { label { name: "a\"b\n" value: "1" } gauge { } }`)}},
	{"le in the path of a histogram", []request{put("/metrics/job/w6/le/5", "# TYPE w6 histogram\nw6_bucket{le=\"+Inf\"} 1\nw6_sum 1\nw6_count 1\n", 400)}},
	{"le in the path of a histogram in protobuf", []request{putProto("/metrics/job/w6/le/5", 400, `name: "w6" type: HISTOGRAM metric { histogram { sample_count: 1 bucket { upper_bound: 1 cumulative_count: 1 } } }`)}},
	{"label le of a histogram", []request{putProto("/metrics/job/w6", 400, `name: "w6" type: HISTOGRAM metric { label { name: "le" value: "5" } histogram { sample_count: 1 bucket { upper_bound: 1 cumulative_count: 1 } } }`)}},
	{"quantile in the path of a summary", []request{put("/metrics/job/w6/quantile/0.5", "# TYPE s6 summary\ns6{quantile=\"0.9\"} 1\ns6_sum 1\ns6_count 1\n", 400)}},
	{"HELP not UTF-8", []request{put("/metrics/job/w7", "# HELP w7 \xff\nw7 1\n", 400)}},
	{"HELP not UTF-8 in protobuf", []request{put("/metrics/job/w7", "\x0f\x0a\x02w7\x12\x01\xff\x18\x01\x22\x04\x12\x02\x09\x00", 400).with("Content-Type", delimitedType)}},
	{"HELP with newlines in protobuf", []request{putProto("/metrics/job/h", 200, `name: "help" help: "\n# TYPE help counter\nhelp 5\n" type: GAUGE metric { gauge { } }`)}},
	{"HELP that differs", []request{put("/metrics/job/h1", "# HELP differs One.\ndiffers 1\n", 200), put("/metrics/job/h2", "# HELP differs Two.\ndiffers 1\n", 200)}},
	{"label value not UTF-8 in protobuf", []request{put("/metrics/job/v", "\x12\x0a\x01v\x18\x01\x22\x0b\x0a\x06\x0a\x01x\x12\x01\xff\x12\x01\x00", 400).with("Content-Type", delimitedType)}},
	{"time of failures in a first push", []request{put("/metrics/job/w9", "# TYPE push_failure_time_seconds counter\npush_failure_time_seconds 1\n", 200)}},
	{"times of pushes in a later push", []request{
		put("/metrics/job/w9", "w9 1\n", 200), put("/metrics/job/w9", "# TYPE push_failure_time_seconds counter\npush_failure_time_seconds{x=\"1\"} 1\n# TYPE push_time_seconds summary\npush_time_seconds_sum 1\n", 200),
		post("/metrics/job/w9", "push_time_seconds 1\npush_failure_time_seconds 1\n", 200),
	}},
	{"histogram called like the times of pushes", []request{putProto("/metrics/job/w9", 200, `name: "push_time_seconds" type: HISTOGRAM metric { histogram { sample_count: 1 } }`)}},
	{"family whose lines are called like the times of pushes", []request{put("/metrics/job/w9", "# TYPE push_time histogram\npush_time_count 1\n# TYPE push_time_seconds_count gauge\npush_time_seconds_count 1\n", 200)}},
	{"reserved name behind the escaping", []request{put("/metrics/job/w10/U______foo/1", "w10 1\n", 200), put("/metrics/job/w10/U____name____/1", "w10 1\n", 200)}},
	{"length of 2^62", []request{put("/metrics/job/w11", "\x80\x80\x80\x80\x80\x80\x80\x80\x40\x0a", 400).with("Content-Type", delimitedType)}},
	{"length of 2^48", []request{put("/metrics/job/w11", "\x80\x80\x80\x80\x80\x80\x40\x0a\x01", 400).with("Content-Type", delimitedType)}},
	{"bucket twice", []request{put("/metrics/job/b", "# TYPE b histogram\nb_bucket{le=\"1\"} 1\nb_bucket{le=\"1.0\"} 2\nb_bucket{le=\"+Inf\"} 2\nb_sum 1\nb_count 2\n", 400)}},
	{"bucket twice in protobuf", []request{putProto("/metrics/job/b", 400, `name: "b" type: HISTOGRAM metric { histogram { sample_count: 1 bucket { upper_bound: 1 cumulative_count: 1 } bucket { upper_bound: 1 cumulative_count: 2 } } }`)}},
	{"bucket not a number", []request{putProto("/metrics/job/b", 400, `name: "b" type: HISTOGRAM metric { histogram { sample_count: 1 bucket { upper_bound: nan cumulative_count: 1 } bucket { upper_bound: nan cumulative_count: 1 } } }`)}},
	{"quantile twice", []request{put("/metrics/job/q", "# TYPE q summary\nq{quantile=\"0.5\"} 1\nq{quantile=\"0.50\"} 2\nq_sum 1\nq_count 2\n", 400), putProto("/metrics/job/q", 400, `name: "q" type: SUMMARY metric { summary { quantile { quantile: 0.5 value: 1 } quantile { quantile: 0.5 value: 2 } } }`)}},
	{"series twice", []request{put("/metrics/job/d", "d 1\nd 2\n", 400)}},
	{"two types", []request{put("/metrics/job/d1", "# TYPE d gauge\nd 1\n", 200), put("/metrics/job/d2", "# TYPE d counter\nd 1\n", 400)}},
	{"families that collide", []request{put("/metrics/job/d3", "# TYPE k histogram\nk_bucket{le=\"+Inf\"} 1\nk_sum 1\nk_count 1\n", 200), put("/metrics/job/d4", "k_count 1\n", 400), put("/metrics/job/d4", "# TYPE k_bucket summary\nk_bucket_sum 1\n", 400)}},
	{"the agent's own families", []request{put("/metrics/job/o", "promspool_build_info 1\n", 400), put("/metrics/job/o", "# TYPE go_goroutines counter\ngo_goroutines 1\n", 400), putProto("/metrics/job/o", 400, `name: "promspool_file_error" type: GAUGE metric { gauge { } }`)}},
	{"members of the JSON API", []request{put("/metrics/job/api", "labels 1\nlast_push_successful 1\n", 200)}},
}

// TestNothingSpoilsTheScrape sends all of it to an agent of each kind. After each it
// checks another client's push, a scrape in each format, and the result in Prometheus.
func TestNothingSpoilsTheScrape(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus")
	agenttest.Need(t, "promtool")
	for _, kind := range []struct {
		name  string
		flags []string
	}{
		{name: "checked"},
		{"checked like a Pushgateway", []string{"--push.empty-instance-label"}},
		{"checked with UTF-8 names", []string{"--push.enable-utf8-names"}},
		{"unchecked", []string{"--push.disable-consistency-check"}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			a := agenttest.StartAgent(t, "", kind.flags...)
			p := scrapeWith(t, nil, a.Addr)
			strict := strings.HasPrefix(kind.name, "checked") && !strings.Contains(kind.name, "UTF-8")
			for i, poison := range poisons {
				for _, r := range poison.send {
					switch got := r.sendTo(t, a.Addr); {
					case strict && got.code != r.code:
						t.Errorf("%s: %s %s %q = %d, want %d", poison.name, r.method, r.path, r.body, got.code, r.code)
					case got.code >= http.StatusInternalServerError:
						t.Errorf("%s: %s %s %q = %d", poison.name, r.method, r.path, r.body, got.code)
					}
				}
				value := strconv.Itoa(i + 1)
				if code, answer := a.Send("PUT", "/metrics/job/innocent", "innocent "+value+"\n"); code != http.StatusOK && code != http.StatusAccepted {
					t.Errorf("%s: an innocent push = %d %q", poison.name, code, answer)
				}
				wantWhole(t, poison.name, a)
				// Only complete scrapes have the series.
				agenttest.WaitFor(t, "Prometheus has the push after "+poison.name, func() bool { _, v := p.query("innocent"); return v == value })
				if t.Failed() {
					t.Fatalf("after %s", poison.name)
				}
			}
			if log := p.Log.String(); strings.Contains(log, "Error on ingesting") || strings.Contains(log, "level=error") {
				t.Errorf("Prometheus does not like all of it:\n%s", log)
			}
			wantParses(t, a.Page())
			a = a.Restart(kind.flags...)
			wantWhole(t, "a restart", a)
			if kind.name == "checked" {
				agenttest.WantLines(t, nodePage(t, startNodeExporter(t, a.Spool)), "node_textfile_scrape_error 0", `innocent{job="innocent"} `+strconv.Itoa(len(poisons)))
			}
			a.Stop()
		})
	}
}

// wantWhole reports responses that a server must never send.
func wantWhole(t *testing.T, after string, a *agenttest.Agent) {
	t.Helper()
	wantUnique(t, after, a)
	if families := protobufPage(t, a.Addr); !slices.Contains(families, "innocent") {
		t.Errorf("after %s the scrape as protobuf has %q, want the innocent push as well", after, families)
	}
	look(t, a.Addr)
	for _, path := range []string{"/", "/api/v1/files", "/-/healthy", "/-/ready"} {
		fetch(t, a.Addr, path)
	}
}

// wantUnique reports a page that does not parse or has a duplicate.
func wantUnique(t *testing.T, after string, a *agenttest.Agent) {
	t.Helper()
	page := a.Page()
	parsed(t, page)
	seen := make(map[string]bool)
	lines := parsed(t, typeLines.ReplaceAllString(page, ""))
	for name, family := range lines {
		for _, m := range family.Metric {
			if !hasJob(m) {
				continue
			}
			line := normalSample(t, name, m)
			series := line[:strings.LastIndexByte(line, ' ')]
			if seen[series] {
				t.Errorf("after %s the page has %s twice", after, series)
			}
			seen[series] = true
			for _, l := range m.Label {
				if strings.HasPrefix(l.GetName(), "__") {
					t.Errorf("after %s the page has the label name of %s", after, series)
				}
			}
		}
	}
}

// protobufPage returns the names of the families of a protobuf scrape and reports
// duplicates.
func protobufPage(t *testing.T, addr string) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/metrics", addr), nil)
	agenttest.NoError(t, err)
	req.Header.Set("Accept", delimitedType)
	resp, err := agenttest.Client.Do(req)
	agenttest.NoError(t, err)
	defer resp.Body.Close()
	decoder := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header))
	var names []string
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); errors.Is(err, io.EOF) {
			return names
		} else if err != nil {
			t.Fatalf("the scrape as protobuf: %v", err)
		}
		if slices.Contains(names, family.GetName()) {
			t.Errorf("the scrape as protobuf has family %s twice", family.GetName())
		}
		names = append(names, family.GetName())
	}
}
