package main_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestScriptExpire(t *testing.T) { runScripts(t, "expire") }

// A plain lifetime, at whose end a series is gone, ends the alert on its age as
// well. Here it goes on firing.
func TestAlertsOnAgeOutliveTheLifetime(t *testing.T) {
	t.Parallel()
	program := need(t, "prometheus")
	a := startAgent(t, "")
	dir := t.TempDir()
	done(t, os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(`groups:
  - name: age
    rules:
      - alert: TooOld
        expr: time() - push_time_seconds > 2
`), 0o644))
	done(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: promspool
    honor_labels: true
    static_configs: [{targets: ["`+strings.TrimPrefix(a.url, "http://")+`"]}]
`), 0o644))
	p := &realPrometheus{startServer(t, listensOn, program,
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")}
	count := func(expr string) int {
		series, _ := p.query(expr)
		return len(series)
	}
	a.push("/metrics/job/kept?ttl=8s", "payload 1\n")
	a.push("/metrics/job/plain", "payload 1\n") // removed at its end, as a plain lifetime does
	waitFor(t, "both alerts fire", func() bool { return count(`ALERTS{alertname="TooOld",alertstate="firing"}`) == 2 })
	waitFor(t, "the group expires", func() bool { return count(`promspool_group_expired{job="kept"} == 1`) == 1 })
	if code, _ := a.send("DELETE", "/metrics/job/plain", ""); code != 202 {
		t.Fatalf("DELETE = %d", code)
	}
	waitFor(t, "the alert on what was removed is resolved", func() bool { return count(`ALERTS{job="plain"}`) == 0 })
	if count(`payload`) != 0 || count(`push_time_seconds{job="plain"}`) != 0 {
		t.Error("Prometheus still has what is not served any more")
	}
	if count(`ALERTS{job="kept",alertstate="firing"}`) != 1 || count(`push_time_seconds{job="kept"}`) != 1 {
		t.Error("the alert on the expired group does not fire any more")
	}
}

// Other readers of the directory see that the payload is gone, and the file is
// to their liking.
func TestNodeExporterSeesThatAGroupHasExpired(t *testing.T) {
	t.Parallel()
	need(t, "prometheus-node-exporter")
	a := startAgent(t, "")
	a.push("/metrics/job/short?ttl=1s", "# HELP payload A \\\\ \"text\".\n# TYPE payload histogram\npayload_bucket{le=\"1\",x=\"\\\\\\n\\\"\"} 1\npayload_bucket{le=\"+Inf\",x=\"\\\\\\n\\\"\"} 1\npayload_sum{x=\"\\\\\\n\\\"\"} 1\npayload_count{x=\"\\\\\\n\\\"\"} 1\n")
	a.push("/metrics/job/other", "other 1\n")
	alive, err := os.Stat(filepath.Join(a.spool, "job=short.prom"))
	done(t, err)
	a.serves(`promspool_group_expired{job="short"} 1`)
	wantNone(t, a.page(), "\npayload")
	done(t, exec.Command(promspool, "expire", "--spool.directory="+a.spool).Run())
	node := startNodeExporter(t, a.spool)
	page := nodePage(t, node)
	wantLines(t, page, "node_textfile_scrape_error 0", `promspool_group_expired{job="short"} 1`, `other{job="other"} 1`)
	wantNone(t, page, "\npayload")
	expired, err := os.Stat(filepath.Join(a.spool, "job=short.prom"))
	done(t, err)
	if !expired.ModTime().Equal(alive.ModTime()) {
		t.Errorf("the file is of %v, want that of the push, %v", expired.ModTime(), alive.ModTime())
	}
	out, err := exec.Command(promspool, "check", "--node-exporter", a.spool).CombinedOutput()
	if err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
	waitFor(t, "the agent has seen the file", func() bool { return slices.Equal(samples(a.merge()), samplesOf(nodePage(t, node))) })
	done(t, exec.Command(promspool, "restore", "job=short", "--spool.directory="+a.spool).Run())
	a.serves(`payload_count{job="short",x="\\\n\""} 1`)
	wantNone(t, a.page(), "promspool_group_expired{")
	wantLines(t, nodePage(t, node), `payload_count{job="short",x="\\\n\""} 1`, "node_textfile_scrape_error 0")
}

// samplesOf is samples without the times, which the merge of a test has not.
func samplesOf(page string) []string { return samples(ownFamilies.ReplaceAllString(page, "")) }

// Killed in the middle of a sweep, both of the agent and of the command, nothing
// is lost and what is served is the same.
func TestKilledInTheMiddleOfASweep(t *testing.T) {
	t.Parallel()
	const groups = 300
	spool := t.TempDir()
	pushed := time.Now().Add(-time.Hour).Unix()
	for i := range groups {
		done(t, os.WriteFile(filepath.Join(spool, fmt.Sprintf("job=%03d.prom", i)), fmt.Appendf(nil,
			"# promspool:group {job=\"%03d\"}\n# promspool:ttl 1m\n# TYPE payload gauge\npayload{job=\"%03d\"} %d\n# TYPE push_time_seconds gauge\npush_time_seconds{job=\"%03d\"} %d\n", i, i, i, i, pushed), 0o644))
	}
	a := startAgent(t, spool)
	before := a.page()
	if n := strings.Count(before, "\npromspool_group_expired{"); n != groups || strings.Contains(before, "\npayload{") {
		t.Fatalf("%d groups have expired at the start", n)
	}
	sweep := exec.Command(promspool, "expire", "--spool.directory="+spool)
	out, err := sweep.StdoutPipe()
	done(t, err)
	done(t, sweep.Start())
	lines := bufio.NewScanner(out)
	for range groups / 4 {
		lines.Scan()
	}
	done(t, sweep.Process.Kill())
	_ = sweep.Wait() // it was killed
	a.kill()
	written := 0
	for i := range groups {
		text, err := os.ReadFile(filepath.Join(spool, fmt.Sprintf("job=%03d.prom", i)))
		done(t, err)
		payload := fmt.Sprintf("payload{job=\"%03d\"} %d\n", i, i)
		switch {
		case strings.Contains(string(text), "\n# promspool:withheld "+payload):
			written++
		case !strings.Contains(string(text), "\n"+payload):
			t.Errorf("group %d has lost its payload:\n%s", i, text)
		}
	}
	if written < groups/4 || written == groups {
		t.Errorf("%d of %d files were written before the kill", written, groups)
	}
	a = startAgent(t, spool)
	if got := samples(a.page()); !slices.Equal(samplesIn(got), samplesIn(samples(before))) {
		t.Errorf("after the kill %d samples are served, before it %d", len(samplesIn(got)), len(samplesIn(samples(before))))
	}
	done(t, exec.Command(promspool, "restore", "job=007", "--spool.directory="+spool).Run())
	a.serves(`payload{job="007"} 7`)
}

// samplesIn leaves the samples of groups.
func samplesIn(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !strings.Contains(s, `{job="`) })
}
