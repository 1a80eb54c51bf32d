package ingest_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
)

// agent is a server with only the push API, on its own spool.
type agent struct {
	t     testing.TB
	store *filestore.Store
	url   string
	dir   string
}

// path returns the path of a file in the spool.
func (a *agent) path(name string) string { return filepath.Join(a.dir, name) }

// start runs an agent for a test. Edit may change its configuration.
func start(t testing.TB, opts *filestore.Options, edit func(*ingest.Config)) *agent {
	t.Helper()
	dir := t.TempDir()
	store, err := filestore.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	cfg := ingest.Config{Store: store}
	if edit != nil {
		edit(&cfg)
	}
	h, err := ingest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(handler(h))
	a := &agent{t: t, store: store, url: srv.URL, dir: dir}
	t.Cleanup(func() {
		srv.Close()
		a.checkReopened(dir, opts)
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// handler does what the program's router does.
func handler(h *ingest.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !h.Serve(w, r, r.URL.EscapedPath()) {
			http.NotFound(w, r)
		}
	}
}

// checkReopened checks that nothing served is only in memory.
func (a *agent) checkReopened(dir string, opts *filestore.Options) {
	a.t.Helper()
	if _, err := os.Stat(dir); err != nil {
		return
	}
	again, err := filestore.Open(dir, opts)
	if err != nil {
		a.t.Error(err)
		return
	}
	defer again.Close()
	if got, want := string(again.View().AppendTo(nil)), a.scrape(); got != want {
		a.t.Errorf("reopened, the spool serves\n%s\nwant\n%s", got, want)
	}
}

func (a *agent) scrape() string { return string(a.store.View().AppendTo(nil)) }

// samples are the scraped lines but for comments and the agent's times.
func (a *agent) samples() []string {
	var lines []string
	for line := range strings.Lines(a.scrape()) {
		if line[0] != '#' && !strings.HasPrefix(line, "push_") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func (a *agent) wantSamples(want ...string) {
	a.t.Helper()
	if got := a.samples(); !slices.Equal(got, want) {
		a.t.Errorf("scrape has %q, want %q", got, want)
	}
}

// answer is a response that was read.
type answer struct {
	code   int
	body   string
	header http.Header
}

// do sends a request; the header is a list of names and values.
func (a *agent) do(method, path string, body io.Reader, header ...string) answer {
	a.t.Helper()
	req, err := http.NewRequest(method, a.url+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(b), resp.Header}
}

// want sends a request and checks the code and, of a refusal, its form.
func (a *agent) want(code int, method, path, body string, header ...string) answer {
	a.t.Helper()
	return a.wantBytes(code, method, path, []byte(body), header...)
}

func (a *agent) wantBytes(code int, method, path string, body []byte, header ...string) answer {
	a.t.Helper()
	got := a.do(method, path, bytes.NewReader(body), header...)
	if got.code != code {
		a.t.Errorf("%s %s = %d %q, want %d", method, path, got.code, got.body, code)
	}
	checkForm(a.t, method, got)
	return got
}

// checkForm checks that a success has no body and a refusal is a sentence.
func checkForm(t testing.TB, method string, got answer) {
	t.Helper()
	if got.code/100 == 2 {
		if got.body != "" {
			t.Errorf("success with the body %q, want none", got.body)
		}
		return
	}
	if got.code/100 == 3 {
		t.Errorf("a redirect to %q", got.header.Get("Location"))
	}
	if got.header.Get("Content-Type") != "text/plain; charset=utf-8" || got.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("refusal with the header %v", got.header)
	}
	if method != http.MethodHead && (strings.Count(got.body, "\n") != 1 || len(got.body) < 10 || !strings.HasSuffix(got.body, "\n")) {
		t.Errorf("refusal with the text %q, want one line", got.body)
	}
}

// checkScrape checks that Prometheus would take the scrape.
func checkScrape(t testing.TB, text []byte) {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := p.TextToMetricFamilies(bytes.NewReader(text)); err != nil {
		t.Errorf("the scrape does not parse: %v\n%s", err, text)
	}
}
