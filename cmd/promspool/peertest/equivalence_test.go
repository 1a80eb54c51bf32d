package peertest

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// The files equivalence_*_test.go compare promspool with Pushgateway. Each exchange in
// their tables is sent to both programs. Both must give the same responses and then
// show the same metrics, on the page and in the JSON API. An exchange that differs
// states the reason. The Pushgateway is Debian 12's, version 1.5.1, and promspool runs
// with --push.empty-instance-label, as a replacement does.

// An exchange is a series of requests to two empty servers.
type exchange struct {
	name string
	send []request
	// serves has the samples that promspool then serves, one per line, without instance=""
	// and push times. If it is empty promspool must serve the same as Pushgateway.
	serves string
	// differs is the reason for a difference. Then serves must differ from Pushgateway's
	// samples, or one of the responses must differ.
	differs string
}

// nothing is the value of serves for no samples.
const nothing = "nothing"

// A request is one request of an exchange, with the expected response.
type request struct {
	method, path, body string
	header             http.Header
	code               int    // from both servers
	ours               int    // from promspool if it differs
	allow              string // Allow from promspool with a 405 if it differs
}

func put(path, body string, code int) request {
	return request{method: http.MethodPut, path: path, body: body, code: code}
}

func post(path, body string, code int) request {
	return request{method: http.MethodPost, path: path, body: body, code: code}
}

// remove must not get a malformed path: this Pushgateway then answers no further
// DELETE.
func remove(path string) request {
	return request{method: http.MethodDelete, path: path, code: http.StatusAccepted}
}

func ask(method, path string, code int) request {
	return request{method: method, path: path, code: code}
}

// with adds a header.
func (r request) with(name, value string) request {
	header := http.Header{}
	maps.Copy(header, r.header)
	header.Set(name, value)
	r.header = header
	return r
}

// but sets the status of promspool's different response.
func (r request) but(code int) request {
	r.ours = code
	return r
}

func (r request) butAllow(methods string) request {
	r.allow = methods
	return r
}

const delimitedType = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

// putProto and postProto send metric families in the text form of protobuf.
func putProto(path string, code int, families ...string) request {
	return put(path, delimited(families...), code).with("Content-Type", delimitedType)
}

func postProto(path string, code int, families ...string) request {
	return post(path, delimited(families...), code).with("Content-Type", delimitedType)
}

func delimited(families ...string) string {
	var b bytes.Buffer
	for _, text := range families {
		var family dto.MetricFamily
		if err := prototext.Unmarshal([]byte(text), &family); err != nil {
			panic(err) // the test is wrong
		}
		if _, err := protodelim.MarshalTo(&b, &family); err != nil {
			panic(err)
		}
	}
	return b.String()
}

func gzipped(text string) string {
	var b bytes.Buffer
	return compressed(&b, gzip.NewWriter(&b), text)
}

func snappied(text string) string {
	var b bytes.Buffer
	return compressed(&b, snappy.NewBufferedWriter(&b), text)
}

func compressed(b *bytes.Buffer, w io.WriteCloser, text string) string {
	_, _ = io.WriteString(w, text) // in memory
	_ = w.Close()
	return b.String()
}

// An answer has the parts of a response that must be equal.
type answer struct {
	code  int
	empty bool
	media string // Content-Type, if there is a body
	allow string // Allow of a 405, sorted, without HEAD and OPTIONS
}

// verbatim sends paths unchanged and follows no redirects.
var verbatim = &http.Client{
	Timeout:       agenttest.Timeout,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

var methodNames = regexp.MustCompile(`[A-Z]+`)

func (r request) sendTo(t *testing.T, addr string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, "http://"+addr, strings.NewReader(r.body))
	agenttest.NoError(t, err)
	req.URL = &url.URL{Scheme: "http", Host: addr, Opaque: r.path}
	maps.Copy(req.Header, r.header)
	resp, err := verbatim.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	a := answer{code: resp.StatusCode, empty: len(body) == 0}
	if !a.empty {
		a.media, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	}
	if a.code == http.StatusMethodNotAllowed {
		methods := methodNames.FindAllString(strings.Join(resp.Header.Values("Allow"), " "), -1)
		methods = slices.DeleteFunc(methods, func(m string) bool { return m == "HEAD" || m == "OPTIONS" })
		slices.Sort(methods)
		a.allow = strings.Join(methods, " ")
	}
	return a
}

// replacement are the flags of promspool as a replacement of Pushgateway.
var replacement = []string{"--push.empty-instance-label", "--web.enable-admin-api", "--web.enable-lifecycle"}

// startPushgateway starts Debian's Pushgateway.
func startPushgateway(t *testing.T, flags ...string) *agenttest.Server {
	t.Helper()
	args := append([]string{
		"--web.listen-address=127.0.0.1:0", "--persistence.file=" + filepath.Join(t.TempDir(), "data"),
		"--web.enable-admin-api", "--web.enable-lifecycle",
	}, flags...)
	return agenttest.StartServer(t, listensOn, agenttest.Need(t, "prometheus-pushgateway"), args...)
}

// last is a push that must succeed after every exchange. In Pushgateway it also follows
// all deletions, for which it does not wait.
var last = put("/metrics/job/last", "last 1\n", http.StatusOK)

// holds sends each exchange to a promspool and a Pushgateway and compares the results.
func holds(t *testing.T, exchanges []exchange) {
	t.Helper()
	t.Parallel()
	agenttest.Need(t, "prometheus-pushgateway")
	for _, x := range exchanges {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			x.hold(t, agenttest.StartAgent(t, "", replacement...).Addr, startPushgateway(t).Addr)
		})
	}
}

func (x exchange) hold(t *testing.T, ours, theirs string) {
	different := false
	for _, r := range append(slices.Clip(x.send), last) {
		want := r.sendTo(t, theirs)
		if want.code != r.code {
			t.Errorf("Pushgateway answers %s %s %q with %d, want %d", r.method, r.path, r.body, want.code, r.code)
		}
		if r.ours != 0 || r.allow != "" {
			different = true
		}
		if r.allow != "" {
			want.allow = r.allow
		}
		got := r.sendTo(t, ours)
		if r.ours != 0 {
			want = answer{r.ours, got.empty, got.media, got.allow}
		}
		if got != want {
			t.Errorf("promspool answers %s %s %q with %+v, want %+v", r.method, r.path, r.body, got, want)
		}
	}
	got, want := look(t, ours), look(t, theirs)
	if x.serves != "" {
		if d := cmp.Diff(strings.TrimPrefix(x.serves, nothing), got.pushed()); d != "" {
			t.Errorf("promspool serves (-want +got):\n%s", d)
		}
	}
	same := got == want
	if x.differs == "" && !same || x.differs != "" && x.serves == "" && !same {
		t.Errorf("page and API (-Pushgateway +promspool):\n%s%s", cmp.Diff(want.page, got.page), cmp.Diff(want.api, got.api))
	}
	if x.differs == "" && different || x.differs != "" && same && !different {
		t.Errorf("the exchange states %q for a difference, and is there one? %t", x.differs, different || !same)
	}
}
