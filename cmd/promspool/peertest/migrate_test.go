package peertest

import (
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// startFullPushgateway starts a Pushgateway with every kind of content.
func startFullPushgateway(t *testing.T) *agenttest.Server {
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
		if code := postText(t, gateway.Addr, push[0], push[1]); code != http.StatusAccepted {
			t.Fatalf("POST %s = %d", push[0], code)
		}
	}
	postText(t, gateway.Addr, "/metrics/job/named/instance/db1", "timestamp 1 1\n")
	agenttest.WaitFor(t, "Pushgateway has all of it", func() bool {
		return regexp.MustCompile(`push_failure_time_seconds\{instance="db1",job="named"\} 1`).MatchString(fetch(t, gateway.Addr, "/metrics"))
	})
	return gateway
}

func postText(t *testing.T, addr, path, body string) int {
	t.Helper()
	resp, err := agenttest.Client.Post("http://"+addr+path, "text/plain", strings.NewReader(body))
	agenttest.NoError(t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

var gatewayOnly = regexp.MustCompile(`(?m)^(?:go|process|promspool|pushgateway)_.*\n`)

// sameSamples compares two pages without the servers' own samples. It ignores the push
// times unless times is set.
func sameSamples(t *testing.T, ours, theirs string, times bool) {
	t.Helper()
	all := func(page string) []string {
		list := agenttest.Samples(gatewayOnly.ReplaceAllString(page, ""))
		if !times {
			list = slices.DeleteFunc(list, func(s string) bool { return strings.HasPrefix(s, "push_") })
		}
		return list
	}
	if got, want := all(ours), all(theirs); !slices.Equal(got, want) {
		t.Errorf("the agent serves\n%s\nPushgateway\n%s", strings.Join(got, ""), strings.Join(want, ""))
	}
}

func TestMigrateTakesAllFromPushgateway(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus-pushgateway")
	gateway := startFullPushgateway(t)
	theirs := fetch(t, gateway.Addr, "/metrics")
	a := agenttest.StartAgent(t, "")

	dry := agenttest.MigrateFrom("http://"+gateway.Addr+"/", "--dry-run", "--spool.directory="+a.Spool).Must(t)
	if got := agenttest.Files(t, a.Spool); len(got) != 0 || !strings.Contains(dry, `would be taken {job="named",instance="db1"}: 1 metric in 1 family, pushed 20`) || !strings.HasSuffix(dry, "6 would be taken, 0 left, 0 refused\n") {
		t.Errorf("a dry run leaves %q and says\n%s", got, dry)
	}
	out := agenttest.MigrateFrom("http://"+gateway.Addr, "--spool.directory="+a.Spool).Must(t)
	if !strings.HasSuffix(out, "6 taken, 0 left, 0 refused\n") {
		t.Errorf("says\n%s", out)
	}
	agenttest.WaitFor(t, "the agent has seen the files", func() bool { return strings.Contains(a.Page(), "push_time_seconds{job=\"slash\"") })
	agenttest.WaitFor(t, "the agent has seen all files", func() bool { return strings.Contains(a.Page(), "\npromspool_groups 6\n") })
	sameSamples(t, a.Page(), theirs, true)
	page := a.Merge()
	agenttest.WantLines(t, page, "# TYPE c_total counter", "# TYPE s summary", "# TYPE h histogram", "# TYPE untyped untyped", `# HELP v Has \\ and \n and "q" é.`, `n{instance="db1",job="named"} 1`)
	agenttest.WantNone(t, page, `instance=""`)
	before := page
	a = a.Restart()
	if after := a.Merge(); after != before {
		t.Errorf("after a restart the agent serves\n%s\nwant\n%s", after, before)
	}

	// A second run skips all groups and keeps later pushes of jobs.
	a.Push("/metrics/job/exact", "untyped 4\n")
	if out := agenttest.MigrateFrom("http://"+gateway.Addr, "--spool.directory="+a.Spool).Must(t); !strings.HasSuffix(out, "0 taken, 6 left, 0 refused\n") {
		t.Errorf("a second time it says\n%s", out)
	}
	agenttest.WantLines(t, a.Page(), `untyped{job="exact"} 4`)
	if out := agenttest.MigrateFrom("http://"+gateway.Addr, "--spool.directory="+a.Spool, "--overwrite", "--push.empty-instance-label").Must(t); !strings.HasSuffix(out, "6 taken, 0 left, 0 refused\n") {
		t.Errorf("with --overwrite it says\n%s", out)
	}
	a.Serves(`untyped{instance="",job="exact"} 3`)
	agenttest.WaitFor(t, "all groups are overwritten", func() bool { return !regexp.MustCompile(`(?m)^push_time_seconds\{job=`).MatchString(a.Page()) })
	sameSamples(t, a.Page(), theirs, true)
	agenttest.WantLines(t, a.Page(), `push_time_seconds{instance="",job="nothing"} `+regexp.MustCompile(`push_time_seconds\{instance="",job="nothing"\} (\S+)`).FindStringSubmatch(theirs)[1])
}

func TestMigrateToAnAgent(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus-pushgateway")
	gateway := startFullPushgateway(t)
	theirs := fetch(t, gateway.Addr, "/metrics")
	a := agenttest.StartAgent(t, "", "--web.route-prefix=/spool")
	a.URL += "/spool"
	a.Push("/metrics/job/in_body", "n{instance=\"db3\"} 9\n")
	before := a.Merge()
	if out := agenttest.MigrateFrom("http://"+gateway.Addr, "--url="+a.URL, "--dry-run").Must(t); !strings.HasSuffix(out, "5 would be taken, 1 left, 0 refused\n") || a.Merge() != before {
		t.Errorf("a dry run says\n%s\nand leaves\n%s", out, a.Merge())
	}
	if out := agenttest.MigrateFrom("http://"+gateway.Addr, "--url="+a.URL).Must(t); !strings.HasSuffix(out, "5 taken, 1 left, 0 refused\n") {
		t.Errorf("says\n%s", out)
	}
	agenttest.WantLines(t, a.Page(), `n{instance="db3",job="in_body"} 9`)
	agenttest.MigrateFrom("http://"+gateway.Addr, "--url="+a.URL+"/", "--overwrite").Must(t)
	sameSamples(t, a.Page(), theirs, false)

	// From one promspool to another.
	spool := filepath.Join(t.TempDir(), "spool")
	agenttest.NoError(t, os.Mkdir(spool, 0o755))
	out, _, status := agenttest.MigrateFrom(a.URL, "--spool.directory="+spool).Run(t)
	if status != 0 || !strings.HasSuffix(out, "6 taken, 0 left, 0 refused\n") {
		t.Errorf("from promspool: status %d\n%s", status, out)
	}
	second := agenttest.StartAgent(t, spool)
	// Its JSON cannot represent families with these names.
	a.Push("/metrics/job/hides/zone/a", "")
	second.Push("/metrics/job/hides/zone/a", "")
	sameSamples(t, second.Page(), a.Page(), false)
}

// TestMigrateKeepsWhatClientsSend migrates from the newest Pushgateway: protobuf is the
// same before and after, and from there to a second agent.
func TestMigrateKeepsWhatClientsSend(t *testing.T) {
	t.Parallel()
	program := newestProgram(t, "pushgateway")
	gateway := agenttest.StartServer(t, listensOn, program, "--web.listen-address=127.0.0.1:0")
	source := &agenttest.Agent{Server: gateway, URL: "http://" + gateway.Addr}
	pushRun(t, source)
	for _, kind := range []dto.MetricType{dto.MetricType_GAUGE_HISTOGRAM, dto.MetricType_GAUGE} {
		agenttest.NoError(t, push.New(source.URL, "more").Grouping("kind", kind.String()).Gatherer(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			mf := &dto.MetricFamily{Name: proto.String(strings.ToLower(kind.String()) + "_bytes"), Help: proto.String("H."), Unit: proto.String("bytes"), Type: kind.Enum(), Metric: []*dto.Metric{{}}}
			if kind == dto.MetricType_GAUGE {
				mf.Metric[0].Gauge = &dto.Gauge{Value: proto.Float64(2)}
			} else {
				mf.Metric[0].Histogram = &dto.Histogram{SampleCount: proto.Uint64(3), SampleSum: proto.Float64(4), Schema: proto.Int32(0), ZeroThreshold: proto.Float64(0), ZeroCount: proto.Uint64(0), PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(1)}}, PositiveDelta: []int64{3}}
			}
			return []*dto.MetricFamily{mf}, nil
		})).Push())
	}
	want := pushedFamilies(t, gateway.Addr)
	if len(want) != 5 {
		t.Fatalf("Pushgateway has %d families, want 5", len(want))
	}

	a := agenttest.StartAgent(t, "")
	agenttest.MigrateFrom(source.URL, "--spool.directory="+a.Spool).Must(t)
	a.Serves(`gauge_bytes{job="more",kind="GAUGE"} 2`)
	a.Serves(`rows_total{job="nightly"} 42`)
	second := agenttest.StartAgent(t, "")
	agenttest.MigrateFrom(a.URL, "--url="+second.URL).Must(t)
	for _, to := range []*agenttest.Agent{a, second} {
		got := pushedFamilies(t, to.Addr)
		for name, mf := range want {
			if !proto.Equal(got[name], mf) {
				t.Errorf("after the migration %s is\n%v\nand was\n%v", name, got[name], mf)
			}
		}
	}
}

// pushedFamilies scrapes the pushed families as protobuf, without the label instance="" of
// Pushgateway and without what the servers add.
func pushedFamilies(t *testing.T, addr string) map[string]*dto.MetricFamily {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	agenttest.NoError(t, err)
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	resp, err := agenttest.Client.Do(req)
	agenttest.NoError(t, err)
	defer resp.Body.Close()
	families := map[string]*dto.MetricFamily{}
	for d := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header)); ; {
		mf := new(dto.MetricFamily)
		err := d.Decode(mf)
		if errors.Is(err, io.EOF) {
			return families
		}
		agenttest.NoError(t, err)
		if gatewayOnly.MatchString(mf.GetName()+"\n") || strings.HasPrefix(mf.GetName(), "push_") {
			continue
		}
		for _, m := range mf.Metric {
			m.Label = slices.DeleteFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetValue() == "" })
			m.TimestampMs = nil
			if h := m.Histogram; h != nil && len(h.Bucket) > 0 {
				h.Exemplars = nil                                                                                            // the file has one list
				h.Bucket = slices.DeleteFunc(h.Bucket, func(b *dto.Bucket) bool { return math.IsInf(b.GetUpperBound(), 1) }) // which Go's client omits
			}
		}
		families[mf.GetName()] = mf
	}
}
