package ingest_test

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest"
)

// TestRefusalsStayWithTheGroup: why the last push was refused is in the group's file until
// a push succeeds, whatever was wrong with it.
func TestRefusalsStayWithTheGroup(t *testing.T) {
	tests := []struct {
		name, body, reason, message string
		header                      []string
	}{
		{"syntax", "a 1,5\n", "syntax", `line 1: metric "a": invalid value: use a decimal point`, nil},
		{"several", "a x\nb y\n", "syntax", `line 1: metric "a": invalid value: not a number (the first of at least 2 faults)`, nil},
		{"no newline", "a 1", "incomplete", "line 1: the last line does not end in a newline", nil},
		{"timestamp", "a 1 1000\n", "timestamp", `line 1: metric "a": invalid timestamp: samples must not have timestamps`, nil},
		{"type", "# TYPE other counter\nother 1\n", "type-conflict", `family "other" has another type in "job=other.prom"`, nil},
		{"option", "a 1\n", "", "", []string{"X-Promspool-TTL", "x"}}, // of the request, before the group is looked at
		{"encoding", "\x00\x01", "request", `the Content-Encoding "br" is not supported`, []string{"Content-Encoding", "br"}},
		{"size", strings.Repeat("#\n", 1000), "too-large", "the body is larger than 1000 bytes", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := start(t, nil, func(c *ingest.Config) { c.MaxBytes = 1000 })
			a.want(200, "PUT", "/metrics/job/other", "# TYPE other gauge\nother 1\n")
			// A group that is not there is not made for what Pushgateway does not note.
			a.do("PUT", "/metrics/job/j", strings.NewReader(test.body), test.header...)
			noted := test.reason == "timestamp" || test.reason == "type-conflict"
			if made := a.store.View().File("job=j.prom") != nil; made != noted {
				t.Errorf("the group is there: %v, want %v", made, noted)
			}
			a.want(200, "PUT", "/metrics/job/j", "keep 1\n")
			path := a.path("job=j.prom")
			stat := func() time.Time {
				fi, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				return fi.ModTime()
			}
			before := stat()
			samples := a.samples()
			got := a.do("POST", "/metrics/job/j", strings.NewReader(test.body), test.header...)
			if got.code != 400 && got.code != 413 {
				t.Fatalf("the push is answered with %d", got.code)
			}
			if !noted && !stat().Equal(before) {
				t.Error("the time of the file has changed")
			}
			a.wantSamples(samples...)
			r, ok := a.store.View().File("job=j.prom").Refused()
			if ok != (test.reason != "") || r.Reason != test.reason || !strings.HasPrefix(r.Message, test.message) {
				t.Errorf("with the group is kept %+v, %v, want %q, %q", r, ok, test.reason, test.message)
			}
			if ok && (r.Client != "127.0.0.1" || time.Since(r.Time) > time.Hour || time.Since(r.Time) < -time.Hour) {
				t.Errorf("with the group is kept %+v", r)
			}
			again, err := filestore.Open(filepath.Dir(path), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if read, _ := again.View().File("job=j.prom").Refused(); read != r {
				t.Errorf("read again, it is %+v, want %+v", read, r)
			}
			a.want(200, "POST", "/metrics/job/j", "keep 2\n")
			if r, ok := a.store.View().File("job=j.prom").Refused(); ok {
				t.Errorf("after a success there is %+v", r)
			}
			data, err := os.ReadFile(path)
			if err != nil || bytes.Contains(data, []byte("promspool:refused")) {
				t.Errorf("after a success the file is %v\n%s", err, data)
			}
		})
	}
}

// TestRefusalsAreWrittenAtABoundedRate: a client that is refused all the time does not wear
// the disk.
func TestRefusalsAreWrittenAtABoundedRate(t *testing.T) {
	a := start(t, nil, nil)
	a.want(200, "PUT", "/metrics/job/j", "keep 1\n")
	begin := time.Now()
	writes, last := 0, record.Refusal{}
	const pushes = 200
	for range pushes {
		a.want(400, "PUT", "/metrics/job/j", "a x\n")
		if r, _ := a.store.View().File("job=j.prom").Refused(); r != last {
			writes, last = writes+1, r
		}
	}
	if seconds := int(time.Since(begin).Seconds()) + 2; writes == 0 || writes > min(seconds, pushes-1) {
		t.Errorf("%d refusals in %d s were written %d times", pushes, seconds, writes)
	}
}

// TestRefusalsAreLoggedAndCounted: each at WARN with the group, the client and the reason,
// but not without bound.
func TestRefusalsAreLoggedAndCounted(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	a := start(t, nil, func(c *ingest.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Registerer = reg
	})
	for range 50 {
		a.want(400, "PUT", "/metrics/job/j", "a s3cr3t\n")
		a.want(400, "POST", "/metrics/job/j", "a 1 1\n")
		a.want(400, "PUT", "/metrics/job/k", "a s3cr3t\n")
		a.want(400, "PUT", "/metrics/job/k?tll=1", "a 1\n")
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 4 {
		t.Errorf("the log has %d lines, want one for each group and reason:\n%s", len(lines), log.String())
	}
	for i, want := range []string{"reason=syntax", "reason=timestamp", "reason=syntax", "reason=request"} {
		if i < len(lines) && (!strings.Contains(lines[i], "level=WARN") || !strings.Contains(lines[i], want) || !strings.Contains(lines[i], "client=127.0.0.1") || !strings.Contains(lines[i], "group=")) {
			t.Errorf("line %d is %s, want %s", i+1, lines[i], want)
		}
	}
	if strings.Contains(log.String(), "s3cr3t") {
		t.Errorf("the log quotes the body:\n%s", log.String())
	}
	want := `# HELP promspool_push_refusals_total Rejected pushes by reason.
# TYPE promspool_push_refusals_total counter
`
	for _, line := range []string{"busy 0", "duplicate 0", "encoding 0", "error 0", "forbidden 0", "full 0", "incomplete 0", "request 50", "reserved 0", "syntax 100", "timeout 0", "timestamp 50", "too-large 0", "type-conflict 0"} {
		reason, n, _ := strings.Cut(line, " ")
		want += `promspool_push_refusals_total{reason="` + reason + `"} ` + n + "\n"
	}
	if err := testutil.GatherAndCompare(reg, io.Reader(strings.NewReader(want)), "promspool_push_refusals_total"); err != nil {
		t.Error(err)
	}
}
