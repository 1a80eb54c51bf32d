package ingest_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
)

// raw sends bytes on a connection of its own, ends its half of it and reads an
// answer.
func (a *agent) raw(request string) (int, error) {
	a.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		a.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return 0, err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// A body that ends too early changes nothing, even if it ends with a line.
func TestCutBodiesChangeNothing(t *testing.T) {
	a := start(t, nil, nil)
	a.want(200, "PUT", "/metrics/job/j", "keep 1\n")
	before := a.scrape()
	for name, request := range map[string]string{
		"length":            "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\na 1\n",
		"length in a line":  "POST /metrics/job/j HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\na 1\nb",
		"nothing came":      "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n",
		"chunk":             "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n8\r\na 1\n",
		"no last chunk":     "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 1\n\r\n",
		"garbage for chunk": "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 1\n\r\nzz\r\n",
		"HTTP 1.0":          "PUT /metrics/job/j HTTP/1.0\r\nContent-Length: 8\r\n\r\na 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			if code, err := a.raw(request); err != nil || code != 400 {
				t.Errorf("answer = %d, %v, want 400", code, err)
			}
			if got := a.scrape(); got != before {
				t.Errorf("scrape is\n%s\nwant\n%s", got, before)
			}
		})
	}
}

func TestWholeBodiesInEveryForm(t *testing.T) {
	a := start(t, nil, nil)
	for name, request := range map[string]string{
		"length":   "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\na 1\n",
		"chunked":  "PUT /metrics/job/j HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na \r\n2\r\n1\n\r\n0\r\n\r\n",
		"HTTP 1.0": "PUT /metrics/job/j HTTP/1.0\r\nContent-Length: 4\r\n\r\na 1\n",
		"absolute": "PUT http://h/metrics/job/j HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\na 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			if code, err := a.raw(request); err != nil || code != 200 {
				t.Errorf("answer = %d, %v, want 200", code, err)
			}
			a.wantSamples(`a{job="j"} 1`)
			a.want(202, "DELETE", "/metrics/job/j", "")
		})
	}
	if code, err := a.raw("PUT /metrics/job/%zz HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\na 1\n"); err != nil || code != 400 {
		t.Errorf("a broken escape is answered with %d, %v, want 400", code, err)
	}
}

func TestExpectContinue(t *testing.T) {
	a := start(t, nil, func(c *ingest.Config) { c.MaxBytes = 2 << 20 })
	ask := func(length int64, body string) (first string) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
		fmt.Fprintf(conn, "POST /metrics/job/j HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", length)
		r := bufio.NewReader(conn)
		first, err = r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(first, "100") {
			return first
		}
		_, _ = r.ReadString('\n')
		_, _ = io.WriteString(conn, body)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Status
	}
	body := "a 1\n" + strings.Repeat("# filler\n", 150000)
	if got := ask(int64(len(body)), body); got != "200 OK" {
		t.Errorf("the answer is %q, want 200", got)
	}
	a.wantSamples(`a{job="j"} 1`)
	// A body that is too large is not even asked for.
	if got := ask(3<<20, ""); !strings.Contains(got, "413") {
		t.Errorf("the answer is %q, want 413", got)
	}
	if got := ask(10<<30, ""); !strings.Contains(got, "413") {
		t.Errorf("the answer is %q, want 413", got)
	}
}

// TestLostNewlinesAreExplained: it is curl that loses them more often than a
// writer that died.
func TestLostNewlinesAreExplained(t *testing.T) {
	a := start(t, nil, nil)
	for agent, hint := range map[string]bool{"curl/8.5.0": true, "Python-urllib/3.12": false} {
		got := a.want(400, "PUT", "/metrics/job/j", "a 1", "User-Agent", agent).body
		if !strings.Contains(got, "does not end in a newline") || strings.Contains(got, "--data-binary") != hint {
			t.Errorf("the answer to %s is %q, want what to do about curl: %v", agent, got, hint)
		}
	}
}

func TestFailuresAreRecorded(t *testing.T) {
	const failed, never = `push_failure_time_seconds{job="j"} 1`, `push_failure_time_seconds{job="j"} 0`
	tests := []struct {
		name, body string
		header     []string
		recorded   bool
	}{
		{name: "timestamp", body: "a 1 1000\n", recorded: true},
		{name: "timestamp under an unknown encoding", body: "a 1 1000\n", header: []string{"Content-Encoding", "utf-8"}, recorded: true},
		{name: "series twice", body: "a 1\na 2\n", recorded: true},
		{name: "reserved label", body: "a{__x=\"1\"} 1\n", recorded: true},
		{name: "reserved label and a fault of syntax", body: "a{__x=\"1\"} 1\nb one\n"},
		{name: "reserved label in a faulty line", body: "a{__x=\"1\"} one\n"},
		{name: "reserved label and a timestamp", body: "a{__x=\"1\"} 1\nb 1 1\n", recorded: true},
		{name: "many reserved labels, then a fault of syntax", body: strings.Repeat("a{__x=\"1\"} 1\n", 20) + "b one\n"},
		{name: "other type elsewhere", body: "# TYPE other counter\nother 1\n", recorded: true},
		{name: "syntax", body: "a one\n"},
		{name: "no newline", body: "a 1"},
		{name: "not gzip", body: "a 1\n", header: []string{"Content-Encoding", "gzip"}},
		{name: "not protobuf", body: "a 1\n", header: []string{"Content-Type", protobufType}},
	}
	for _, test := range tests {
		for _, before := range []string{"", "keep 1\n"} {
			t.Run(fmt.Sprintf("%s after %q", test.name, before), func(t *testing.T) {
				a := start(t, nil, nil)
				a.want(200, "PUT", "/metrics/job/other", "# TYPE other gauge\nother 1\n")
				want := []string{`other{job="other"} 1`}
				if before != "" {
					a.want(200, "PUT", "/metrics/job/j", before)
					want = append([]string{`keep{job="j"} 1`}, want...)
				}
				for _, method := range []string{"PUT", "POST"} {
					a.want(400, method, "/metrics/job/j", test.body, test.header...)
					a.wantSamples(want...)
				}
				got := a.scrape()
				checkScrape(t, []byte(got))
				switch {
				case test.recorded && !strings.Contains(got, failed):
					t.Errorf("the failure is not recorded:\n%s", got)
				case !test.recorded && before != "" && !strings.Contains(got, never):
					t.Errorf("a failure is recorded:\n%s", got)
				case !test.recorded && before == "" && strings.Contains(got, `job="j"`):
					t.Errorf("the refusal left\n%s", got)
				}
			})
		}
	}
}

// Values that the file system, a terminal or a page might take for more than
// text stay values.
func TestHostileValues(t *testing.T) {
	a := start(t, nil, nil)
	dir := a.store.Path()
	for _, path := range []string{
		"job/%2e%2e", "job@base64/Li4vLi4vZXRjL3Bhc3N3ZA", "job/j/x@base64/Li4vLi4vLi4vdG1wL3g", "job/a%0Ab%0D%1b[31m",
		"job/%3Cscript%3E", "job@base64/L2V0Yy9wYXNzd2Q", "job/" + strings.Repeat("%e2%98%83", 1000), "job/j.prom", "job/con",
	} {
		a.want(200, "PUT", "/metrics/"+path, "m 1\n")
		a.want(400, "PUT", "/metrics/"+path, "# TYPE m counter\nm 1 1000\n")
	}
	checkScrape(t, []byte(a.scrape()))
	if got := len(a.samples()); got != 9 {
		t.Errorf("%d samples are stored, want 9", got)
	}
	above, err := os.ReadDir(dir + "/..")
	if err != nil || len(above) != 1 {
		t.Errorf("next to the spool is %v, %v", above, err)
	}
	got := a.want(400, "PUT", "/metrics/job/other", "# TYPE m counter\nm 1\n")
	if strings.Contains(got.body, "\x1b") {
		t.Errorf("the refusal is not printable: %q", got.body)
	}
	for _, bad := range []string{"job/%ff", "job/j/x@base64/__4", "job/a%00"} {
		a.want(400, "PUT", "/metrics/"+bad, "m 1\n")
		a.want(400, "PUT", "/metrics/"+bad, "m 1 1000\n")
	}
	if n := a.store.View().Totals().Groups; n != 10 { // the tenth has only the time of its failure
		t.Errorf("%d groups are stored, want 10", n)
	}
	a.want(200, "PUT", "/metrics/job/next", "n 1\n")
}

func TestFullSpool(t *testing.T) {
	a := start(t, &filestore.Options{MaxGroups: 1}, nil)
	a.want(200, "PUT", "/metrics/job/a", "m 1\n")
	a.want(507, "PUT", "/metrics/job/b", "m 1\n")
	a.want(400, "PUT", "/metrics/job/b", "m 1 1000\n") // its own fault first
	a.wantSamples(`m{job="a"} 1`)
	a.want(202, "DELETE", "/metrics/job/a", "")
	a.want(200, "PUT", "/metrics/job/b", "m 1\n")
}

func TestSpoolThatIsGone(t *testing.T) {
	var log bytes.Buffer
	a := start(t, nil, func(c *ingest.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Admin = true
	})
	a.want(400, "PUT", "/metrics/job/a", "m one\n")
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || strings.Contains(got, "level=ERROR") {
		t.Errorf("the fault of a client is logged as %s, want one warning", got)
	}
	if err := os.RemoveAll(a.store.Path()); err != nil {
		t.Fatal(err)
	}
	a.want(500, "PUT", "/metrics/job/a", "m 1\n")
	a.want(400, "PUT", "/metrics/job/a", "m 1 1000\n")
	if got := log.String(); strings.Count(got, "level=ERROR") != 2 || !strings.Contains(got, "{job=") {
		t.Errorf("the log is %q, want two errors with the group", got)
	}
}

// A read after a 200 returns the pushed metrics. No push is lost or applied in part.
func TestConcurrentPushes(t *testing.T) {
	a := start(t, nil, nil)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			own := fmt.Sprintf("/metrics/job/own/worker/%d", worker)
			for i := range 15 {
				a.want(200, "PUT", own, fmt.Sprintf("m %d\nn %d\n", i, i))
				if want := fmt.Sprintf("m{job=\"own\",worker=\"%d\"} %d\n", worker, i); !strings.Contains(a.scrape(), want) {
					t.Errorf("after a 200 the scrape lacks %q", want)
				}
				a.want(200, "POST", "/metrics/job/shared", fmt.Sprintf("w%d %d\n", worker, i))
				switch i % 3 {
				case 0:
					a.want(202, "DELETE", own, "")
				case 1:
					a.want(400, "POST", own, "m 1\nm 2\n")
				}
				checkScrape(t, a.store.View().AppendTo(nil))
			}
		})
	}
	wg.Wait()
	for worker := range 8 {
		if want := fmt.Sprintf("w%d{job=\"shared\"} 14\n", worker); !strings.Contains(a.scrape(), want) {
			t.Errorf("a POST of worker %d is lost", worker)
		}
	}
}
