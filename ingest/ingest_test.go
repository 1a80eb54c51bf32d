package ingest_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
)

func TestMethods(t *testing.T) {
	a := start(t, nil, nil)
	const path = "/metrics/job/j/x/1"
	a.want(200, "PUT", path, "a 1\nb 2\n")
	a.wantSamples(`a{job="j",x="1"} 1`, `b{job="j",x="1"} 2`)
	a.want(200, "POST", path, "b 3\n")
	a.wantSamples(`a{job="j",x="1"} 1`, `b{job="j",x="1"} 3`)
	a.want(200, "PUT", path, "c 4\n")
	a.wantSamples(`c{job="j",x="1"} 4`)
	a.want(200, "POST", path, "")
	a.wantSamples(`c{job="j",x="1"} 4`)
	a.want(202, "DELETE", "/metrics/job/j", "") // another group
	a.wantSamples(`c{job="j",x="1"} 4`)
	a.want(202, "DELETE", path, "d 5\n")
	a.wantSamples()
	a.want(202, "DELETE", path, "")
	if got := a.scrape(); got != "" {
		t.Errorf("after everything was deleted the scrape is %q", got)
	}
	a.want(200, "PUT", path, "")
	if !strings.Contains(a.scrape(), `push_time_seconds{job="j",x="1"} 1`) {
		t.Errorf("after an empty PUT the scrape is %q", a.scrape())
	}

	for _, method := range []string{"GET", "HEAD", "PATCH", "CONNECTED"} {
		got := a.want(405, method, path, "")
		if allow := got.header.Get("Allow"); allow != "DELETE, OPTIONS, POST, PUT" {
			t.Errorf("%s: Allow is %q", method, allow)
		}
	}
	if got := a.want(200, "OPTIONS", path, ""); got.header.Get("Allow") != "DELETE, OPTIONS, POST, PUT" {
		t.Errorf("OPTIONS: Allow is %q", got.header.Get("Allow"))
	}
}

func TestRoutes(t *testing.T) {
	a := start(t, nil, nil)
	tests := []struct {
		path string
		code int
	}{
		{"/metrics/job/j", 200},
		{"/metrics/job/j/", 200},
		{"/metrics/job@base64/ag", 200},
		{"/%6detrics/%6aob/j", 200},
		{"/metrics%2Fjob%2Fj", 200},
		{"/metrics/job/j?job=other#x", 200},
		{"/metrics/job/%2e%2e/x/%2e", 200},

		{"/metrics", 404},
		{"/metrics/", 404},
		{"/metrics/job", 404},
		{"/metrics/job/", 404},
		{"/metrics/job@base64", 404},
		{"/metrics/job@base64/", 404},
		{"/metrics/jobs/j", 404},
		{"/metrics/foo/bar", 404},
		{"/METRICS/job/j", 404},
		{"/metrics/JOB/j", 404},
		{"//metrics/job/j", 404},
		{"/metrics//job/j", 404},
		{"/./metrics/job/j", 404},
		{"/x/../metrics/job/j", 404},
		{"/api/v1/admin/wipe", 404},
		{"/api/v1/admin/wipe/", 404},

		{"/metrics/job//j", 400},
		{"/metrics/job/./j", 400},
		{"/metrics/job/../j", 400},
		{"/metrics/job/..", 400},
		{"/metrics/job/j/.", 400},
		{"/metrics/job/j//", 400},
		{"/metrics/job/j/x/", 400},
		{"/metrics/job/j/x//y/1", 400},
		{"/metrics/job/%2F", 400},
		{"/metrics/job/%2Fj", 400},
	}
	for _, test := range tests {
		for _, method := range []string{"PUT", "POST", "DELETE"} {
			want := test.code
			if want == 200 && method == "DELETE" {
				want = 202
			}
			if got := a.do(method, test.path, strings.NewReader("")); got.code != want {
				t.Errorf("%s %s = %d, want %d", method, test.path, got.code, want)
			}
		}
		if test.code != 200 && a.scrape() != "" {
			t.Fatalf("%s left %s", test.path, a.scrape())
		}
		a.do("DELETE", test.path, nil)
	}
}

func TestUncheckedAnswersAccepted(t *testing.T) {
	a := start(t, &filestore.Options{Unchecked: true}, func(c *ingest.Config) { c.Unchecked = true })
	a.want(202, "PUT", "/metrics/job/a", "# TYPE m gauge\nm 1\n")
	a.want(202, "POST", "/metrics/job/b", "# TYPE m counter\nm 1\n")
	a.want(400, "PUT", "/metrics/job/c", "m one\n")
	a.want(202, "DELETE", "/metrics/job/b", "")
}

func TestWipe(t *testing.T) {
	const path = "/api/v1/admin/wipe"
	a := start(t, nil, func(c *ingest.Config) { c.Admin = true })
	a.want(200, "PUT", "/metrics/job/a", "m 1\n")
	a.want(200, "PUT", "/metrics/job/b", "m 1\n")
	for _, method := range []string{"GET", "POST", "DELETE"} {
		if got := a.want(405, method, path, ""); got.header.Get("Allow") != "OPTIONS, PUT" || !strings.Contains(got.body, "use PUT") {
			t.Errorf("%s = %v", method, got)
		}
	}
	a.want(200, "OPTIONS", path, "")
	if len(a.samples()) != 2 {
		t.Fatalf("wiped by other methods than PUT")
	}
	a.want(202, "PUT", path, "")
	if got := a.scrape(); got != "" {
		t.Errorf("after the wipe the scrape is %q", got)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "promspool_http_requests_total", Help: "h"}, []string{"handler", "code", "method"})
	a := start(t, nil, func(c *ingest.Config) { c.Registerer, c.Requests = reg, requests })
	a.want(200, "PUT", "/metrics/job/a", "m 1\n")
	a.want(200, "PUT", "/metrics/job/a", "m 1\n")
	a.want(400, "POST", "/metrics/job/a", "m one\n")
	a.want(202, "DELETE", "/metrics/job/a", "")
	a.want(400, "DELETE", "/metrics/job/a/x", "")
	a.want(405, "GET", "/metrics/job/a", "")
	a.want(405, "NOSUCH", "/metrics/job/a", "")
	a.want(404, "PUT", "/api/v1/admin/wipe", "")
	const want = `# HELP promspool_http_requests_total h
# TYPE promspool_http_requests_total counter
promspool_http_requests_total{code="200",handler="push",method="put"} 2
promspool_http_requests_total{code="202",handler="delete",method="delete"} 1
promspool_http_requests_total{code="400",handler="delete",method="delete"} 1
promspool_http_requests_total{code="400",handler="push",method="post"} 1
promspool_http_requests_total{code="404",handler="wipe",method="put"} 1
promspool_http_requests_total{code="405",handler="push",method="get"} 1
promspool_http_requests_total{code="405",handler="push",method="other"} 1
`
	if err := testutil.CollectAndCompare(requests, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetHistogram().GetSampleCount()
		}
	}
	for name, n := range map[string]uint64{
		"promspool_http_push_size_bytes put": 2, "promspool_http_push_size_bytes post": 1,
		"promspool_http_push_duration_seconds put": 2, "promspool_http_push_duration_seconds post": 1,
	} {
		if got[name] != n {
			t.Errorf("%s was observed %d times, want %d", name, got[name], n)
		}
	}
	if _, err := ingest.New(ingest.Config{Store: a.store, Registerer: reg}); err == nil {
		t.Error("New twice with one registry gave no error")
	}
}
