package exporter_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/exporter"
)

// files are the content of a spool by file name.
type files map[string]string

// group makes the file of a pushed group; body are samples with all labels.
func group(t testing.TB, fs files, body string, labels ...exposition.Label) string {
	t.Helper()
	g, err := grouping.New(labels...)
	if err != nil {
		t.Fatal(err)
	}
	fs[g.FileName()] = "# promspool:group " + g.String() + "\n" + body
	return g.FileName()
}

func viewOf(own map[string]merge.Own, fs files) *merge.View {
	m := make(map[string][]byte)
	for name, text := range fs {
		m[name] = []byte(text)
	}
	return merge.Merge(own, m)
}

// serve returns an Exporter for a spool of these files and, unless it is nil,
// a registry that the store was told of.
func serve(t testing.TB, fs files, reg *prometheus.Registry) *exporter.Exporter {
	t.Helper()
	cfg := exporter.Config{}
	if reg != nil {
		own, err := exporter.OwnFamilies(reg)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Own, cfg.OwnFamilies = reg, own
	}
	v := viewOf(cfg.OwnFamilies, fs)
	cfg.View = func() *merge.View { return v }
	return exporter.New(cfg)
}

// get calls a handler with headers in pairs.
func get(h http.HandlerFunc, target string, header ...string) *httptest.ResponseRecorder {
	return do(h, http.MethodGet, target, header...)
}

func do(h http.HandlerFunc, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h(w, r)
	return w
}

// parse reads text as Prometheus would, and more strictly: no family and no
// series comes twice, and none is torn.
func parse(t testing.TB, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	mfs, err := p.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("the text does not parse: %v\n%s", err, text)
	}
	types, series := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		key := line[:strings.LastIndexByte(line, ' ')]
		if name, ok := strings.CutPrefix(key, "# TYPE "); ok {
			if types[name] {
				t.Fatalf("two TYPE lines of %s in\n%s", name, text)
			}
			types[name] = true
		} else if !strings.HasPrefix(line, "#") {
			if series[key] {
				t.Fatalf("series %s twice in\n%s", key, text)
			}
			series[key] = true
		}
	}
	for _, mf := range mfs {
		for _, m := range mf.Metric {
			var names []string
			for _, l := range m.Label {
				if slices.Contains(names, l.GetName()) {
					t.Fatalf("label %s twice in %s", l.GetName(), mf.GetName())
				}
				names = append(names, l.GetName())
			}
		}
	}
	return mfs
}

// need skips the test if a program is missing, unless skipping is forbidden.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
			t.Fatalf("%s is needed: %v", program, err)
		}
		t.Skipf("%s is needed: %v", program, err)
	}
	return path
}

func TestHealthSaysWhy(t *testing.T) {
	var err error
	v := viewOf(nil, nil)
	check := func() error { return err }
	e := exporter.New(exporter.Config{View: func() *merge.View { return v }, Health: check, Ready: check})
	for _, h := range []http.HandlerFunc{e.Healthy, e.Ready} {
		err = nil
		if w := get(h, "/"); w.Code != 200 || w.Body.String() != "OK" {
			t.Errorf("healthy: %d %q, want 200 OK", w.Code, w.Body)
		}
		err = errors.New("the spool is gone")
		if w := get(h, "/"); w.Code != 503 || !strings.Contains(w.Body.String(), "the spool is gone") {
			t.Errorf("unhealthy: %d %q, want 503 and why", w.Code, w.Body)
		}
	}
}

func TestMethods(t *testing.T) {
	e := serve(t, files{"a.prom": "a 1\n"}, nil)
	for name, h := range map[string]http.HandlerFunc{
		"metrics": e.Metrics, "healthy": e.Healthy, "ready": e.Ready, "page": e.Page, "asset": e.Asset,
		"api status": e.APIStatus, "api metrics": e.APIMetrics, "api files": e.APIFiles,
	} {
		for method, code := range map[string]int{"GET": 200, "HEAD": 200, "OPTIONS": 200, "POST": 405, "PUT": 405, "DELETE": 405} {
			w := do(h, method, "/ui/page.css")
			if w.Code != code {
				t.Errorf("%s %s = %d, want %d", method, name, w.Code, code)
			}
			if allow := w.Header().Get("Allow"); (method == "OPTIONS" || code == 405) && allow != "GET, HEAD, OPTIONS" {
				t.Errorf("%s %s: Allow is %q", method, name, allow)
			}
			if len(w.Header()) == 0 || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s: headers are %v, want some and none for other origins", method, name, w.Header())
			}
		}
	}
}

func TestCrossOriginReadingIsGranted(t *testing.T) {
	v := viewOf(nil, nil)
	e := exporter.New(exporter.Config{
		View:       func() *merge.View { return v },
		CORSOrigin: regexp.MustCompile(`https://(a|ab)\.example`),
	})
	for origin, granted := range map[string]bool{
		"https://a.example": true, "https://ab.example": true, "https://a.example.evil": false,
		"xhttps://a.example": false, "https://c.example": false, "": false,
	} {
		for _, h := range []http.HandlerFunc{e.APIMetrics, e.APIStatus, e.APIFiles} {
			for _, method := range []string{"GET", "OPTIONS"} {
				w := do(h, method, "/", "Origin", origin)
				got, want := w.Header().Get("Access-Control-Allow-Origin"), ""
				if granted {
					want = origin
				}
				if got != want || w.Header().Get("Vary") != "Origin" {
					t.Errorf("%s from %q: headers are %v, want the origin %q", method, origin, w.Header(), want)
				}
			}
		}
		if w := get(e.Metrics, "/", "Origin", origin); w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("the scrape may be read by other origins")
		}
	}
}

func TestRequestsAreCounted(t *testing.T) {
	v := viewOf(nil, nil)
	reg := prometheus.NewRegistry()
	n := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "promspool_http_requests_total"}, []string{"handler", "code", "method"})
	reg.MustRegister(n)
	e := exporter.New(exporter.Config{View: func() *merge.View { return v }, Own: reg, Requests: n})
	get(e.Healthy, "/")
	get(e.Metrics, "/")
	do(e.Metrics, "HEAD", "/")
	do(e.Metrics, "POST", "/") // not counted
	get(e.APIMetrics, "/")
	text := get(e.Metrics, "/").Body.String()
	for _, line := range []string{
		`promspool_http_requests_total{code="200",handler="healthy",method="get"} 1`,
		`promspool_http_requests_total{code="200",handler="metrics",method="get"} 1`,
		`promspool_http_requests_total{code="200",handler="metrics",method="head"} 1`,
		`promspool_http_requests_total{code="200",handler="api/v1/metrics",method="get"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the scrape lacks %s", line)
		}
	}
	if strings.Contains(text, "405") {
		t.Errorf("a refused method is counted:\n%s", text)
	}
}

func TestCollectorAgreesWithTheView(t *testing.T) {
	fs := files{"good.prom": "a 1\nb 2\n", "bad.prom": "a b c\n", "worse.prom": "a"}
	group(t, fs, "a{job=\"x\"} 1\n", exposition.Label{Name: "job", Value: "x"})
	v := viewOf(nil, fs)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(exporter.NewCollector(func() *merge.View { return v }))
	e := exporter.New(exporter.Config{View: func() *merge.View { return v }, Own: reg})
	text := get(e.Metrics, "/").Body.Bytes()
	parse(t, text)
	for _, line := range []string{
		"promspool_groups 1", "promspool_files 3", "promspool_series 3",
		fmt.Sprintf("promspool_spool_bytes %d", v.Totals().Bytes),
		`promspool_files_with_errors{reason="syntax"} 1`,
		`promspool_files_with_errors{reason="incomplete"} 1`,
		`promspool_files_with_errors{reason="duplicate"} 0`,
	} {
		if !bytes.Contains(text, []byte(line+"\n")) {
			t.Errorf("the scrape lacks %s:\n%s", line, text)
		}
	}
}
