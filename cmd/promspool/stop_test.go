package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestStopFinishesThePushInFlight(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	conn, err := net.Dial("tcp", a.Addr)
	agenttest.NoError(t, err)
	defer conn.Close()
	agenttest.NoError(t, conn.SetDeadline(time.Now().Add(agenttest.Timeout)))

	// The agent asks for the body just before it reads it.
	const body = "slow_metric 1\nslow_metric_end 1\n"
	fmt.Fprintf(conn, "PUT /metrics/job/slow HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", a.Addr, len(body))
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") {
		t.Fatalf("the agent answers %q, %v, want 100 Continue", line, err)
	}
	if _, err = answers.ReadString('\n'); err == nil {
		_, err = io.WriteString(conn, body[:10])
	}
	agenttest.NoError(t, err)
	a.Terminate()
	agenttest.WaitFor(t, "the agent accepts no further connection", func() bool {
		further, err := net.Dial("tcp", a.Addr)
		if err == nil {
			further.Close()
		}
		return err != nil
	})
	_, err = io.WriteString(conn, body[10:])
	agenttest.NoError(t, err)
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatalf("the push has no answer: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the push is answered with %s, want 200", resp.Status)
	}
	a.ExitsWith(0)
	agenttest.WantLines(t, agenttest.StartAgent(t, a.Spool).Merge(), `slow_metric{job="slow"} 1`, `slow_metric_end{job="slow"} 1`)
}

func TestKillLosesNoAnsweredPush(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	const pushes = 50
	answered := make([]atomic.Bool, 1000)
	var all atomic.Int32
	enough := make(chan struct{})
	var pushers sync.WaitGroup
	for p := range 4 {
		pushers.Go(func() {
			for i := p; i < len(answered); i += 4 {
				req, err := http.NewRequest("PUT", fmt.Sprintf("%s/metrics/job/job%d", a.URL, i), strings.NewReader("number "+fmt.Sprint(i)+"\n"))
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := agenttest.Client.Do(req)
				if err != nil {
					return // killed
				}
				resp.Body.Close()
				answered[i].Store(resp.StatusCode == http.StatusOK)
				if all.Add(1) == pushes {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(agenttest.Timeout):
		t.Errorf("%d of %d pushes were answered within %v", all.Load(), pushes, agenttest.Timeout)
	}
	a.Kill() // other requests are in progress
	pushers.Wait()

	merge := agenttest.StartAgent(t, a.Spool).Merge()
	kept := 0
	for i := range answered {
		if answered[i].Load() {
			agenttest.WantLines(t, merge, fmt.Sprintf(`number{job="job%d"} %d`, i, i))
			kept++
		}
	}
	if kept < pushes {
		t.Errorf("%d pushes were answered with 200, want %d or more", kept, pushes)
	}
	for _, name := range agenttest.Files(t, a.Spool) {
		if !strings.HasSuffix(name, ".prom") {
			t.Errorf("%s is left in the spool", name)
		}
	}
}

func TestStartSweepsItsOwnLeftoversOnly(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	// The file has this name until a commit renames it; the others are not the agent's.
	own, foreign := ".job=backup.prom1234567890", []string{".other.prom123", "job=backup.prom123", ".job=backup.tmp"}
	for _, name := range append(foreign, own) {
		agenttest.NoError(t, os.WriteFile(filepath.Join(spool, name), []byte("half_a_metr"), 0o644))
	}
	merge := agenttest.StartAgent(t, spool).Merge()
	if merge != "" {
		t.Errorf("the agent serves leftovers:\n%s", merge)
	}
	left := strings.Join(agenttest.Files(t, spool), " ")
	if want := strings.Join([]string{foreign[2], foreign[0], foreign[1]}, " "); left != want {
		t.Errorf("left in the spool: %s, want %s", left, want)
	}
}

func TestRestartIsInvisible(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	for i := range 30 {
		a.Push(fmt.Sprintf("/metrics/job/job%d/instance/i%d", i%7, i), fmt.Sprintf(
			"# HELP shared_seconds Text %d.\n# TYPE shared_seconds histogram\nshared_seconds_bucket{le=\"1\"} %d\nshared_seconds_bucket{le=\"+Inf\"} %d\nshared_seconds_sum 1e-3\nshared_seconds_count %d\nalone_%d{z=\"a\\\"\\\\\\n\",b=\"é\"} NaN\n", i%3, i, i, i, i))
	}
	a.Drop("dropped.prom", "# TYPE shared_seconds histogram\nshared_seconds_bucket{le=\"+Inf\"} 2\nshared_seconds_sum 1\nshared_seconds_count 2\ndropped -Inf\n")
	a.Drop("broken.prom", "not a metric\n")
	a.Drop("conflict.prom", "# TYPE alone_3 counter\nalone_3 1\nfine 1\n")
	a.Serves("dropped -Inf")
	a.Serves("fine 1")

	before := a.Merge()
	if after := a.Restart().Merge(); after != before {
		t.Errorf("before the restart:\n%s\nafter it:\n%s", before, after)
	}
}

func TestQuitNeedsTheFlag(t *testing.T) {
	t.Parallel()
	without := agenttest.StartAgent(t, "")
	if code, answer := without.Send("PUT", "/-/quit", ""); code != http.StatusForbidden || !strings.Contains(answer, "--web.enable-lifecycle") {
		t.Errorf("PUT /-/quit = %d %q, want 403 and the flag", code, answer)
	}
	without.Push("/metrics/job/still", "here 1\n")
	without.Stop()

	with := agenttest.StartAgent(t, "", "--web.enable-lifecycle")
	if code, _ := with.Send("GET", "/-/quit", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("GET /-/quit = %d, want 405", code)
	}
	if code, answer := with.Send("POST", "/-/quit", ""); code != http.StatusOK {
		t.Errorf("POST /-/quit = %d %q, want 200", code, answer)
	}
	with.ExitsWith(0)
}

func TestPersistenceFlagsAreIgnoredWithOneWarning(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "persistence")
	a := agenttest.StartAgent(t, "", "--persistence.file="+file, "--persistence.interval=1s")
	a.Push("/metrics/job/a", "b 1\n")
	a.Stop()
	if n := strings.Count(a.Log.String(), "--persistence.file"); n != 1 {
		t.Errorf("the log mentions --persistence.file %d times, want once:\n%s", n, a.Log)
	}
	if !regexp.MustCompile(`(?m)^.*level=WARN.*--persistence\.file`).MatchString(a.Log.String()) {
		t.Errorf("no warning of --persistence.file in:\n%s", a.Log)
	}
	if _, err := os.Stat(file); err == nil {
		t.Errorf("%s was written", file)
	}
}
