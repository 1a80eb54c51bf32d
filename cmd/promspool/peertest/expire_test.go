package peertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// A plain lifetime deletes the series when it expires, which ends the alert on its age.
// This alert must keep firing.
func TestAlertsOnAgeOutliveTheLifetime(t *testing.T) {
	t.Parallel()
	program := agenttest.Need(t, "prometheus")
	a := agenttest.StartAgent(t, "")
	dir := t.TempDir()
	agenttest.NoError(t, os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(`groups:
  - name: age
    rules:
      - alert: TooOld
        expr: time() - push_time_seconds > 2
`), 0o644))
	agenttest.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: promspool
    honor_labels: true
    static_configs: [{targets: ["`+strings.TrimPrefix(a.URL, "http://")+`"]}]
`), 0o644))
	p := &realPrometheus{agenttest.StartServer(t, listensOn, program,
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")}
	count := func(expr string) int {
		series, _ := p.query(expr)
		return len(series)
	}
	a.Push("/metrics/job/kept?ttl=8s", "payload 1\n")
	a.Push("/metrics/job/plain", "payload 1\n") // deleted later, as by a plain lifetime
	agenttest.WaitFor(t, "both alerts fire", func() bool { return count(`ALERTS{alertname="TooOld",alertstate="firing"}`) == 2 })
	agenttest.WaitFor(t, "the group expires", func() bool { return count(`promspool_group_expired{job="kept"} == 1`) == 1 })
	if code, _ := a.Send("DELETE", "/metrics/job/plain", ""); code != 202 {
		t.Fatalf("DELETE = %d", code)
	}
	agenttest.WaitFor(t, "the alert on the deleted group is resolved", func() bool { return count(`ALERTS{job="plain"}`) == 0 })
	if count(`payload`) != 0 || count(`push_time_seconds{job="plain"}`) != 0 {
		t.Error("Prometheus still has series of an expired group")
	}
	if count(`ALERTS{job="kept",alertstate="firing"}`) != 1 || count(`push_time_seconds{job="kept"}`) != 1 {
		t.Error("the alert on the expired group does not fire any more")
	}
}

// Other readers of the directory see that the payload has expired, and accept the file.
func TestNodeExporterSeesThatAGroupHasExpired(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus-node-exporter")
	a := agenttest.StartAgent(t, "")
	a.Push("/metrics/job/short?ttl=1s", "# HELP payload A \\\\ \"text\".\n# TYPE payload histogram\npayload_bucket{le=\"1\",x=\"\\\\\\n\\\"\"} 1\npayload_bucket{le=\"+Inf\",x=\"\\\\\\n\\\"\"} 1\npayload_sum{x=\"\\\\\\n\\\"\"} 1\npayload_count{x=\"\\\\\\n\\\"\"} 1\n")
	a.Push("/metrics/job/other", "other 1\n")
	alive, err := os.Stat(filepath.Join(a.Spool, "job=short.prom"))
	agenttest.NoError(t, err)
	a.Serves(`promspool_group_expired{job="short"} 1`)
	agenttest.WantNone(t, a.Page(), "\npayload")
	agenttest.NoError(t, exec.Command(agenttest.Promspool, "expire", "--spool.directory="+a.Spool).Run())
	node := startNodeExporter(t, a.Spool)
	page := nodePage(t, node)
	agenttest.WantLines(t, page, "node_textfile_scrape_error 0", `promspool_group_expired{job="short"} 1`, `other{job="other"} 1`)
	agenttest.WantNone(t, page, "\npayload")
	expired, err := os.Stat(filepath.Join(a.Spool, "job=short.prom"))
	agenttest.NoError(t, err)
	if !expired.ModTime().Equal(alive.ModTime()) {
		t.Errorf("the file is of %v, want that of the push, %v", expired.ModTime(), alive.ModTime())
	}
	out, err := exec.Command(agenttest.Promspool, "check", "--node-exporter", a.Spool).CombinedOutput()
	if err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
	agenttest.WaitFor(t, "the agent has seen the file", func() bool { return slices.Equal(agenttest.Samples(a.Merge()), samplesOf(nodePage(t, node))) })
	agenttest.NoError(t, exec.Command(agenttest.Promspool, "restore", "job=short", "--spool.directory="+a.Spool).Run())
	a.Serves(`payload_count{job="short",x="\\\n\""} 1`)
	agenttest.WantNone(t, a.Page(), "promspool_group_expired{")
	agenttest.WantLines(t, nodePage(t, node), `payload_count{job="short",x="\\\n\""} 1`, "node_textfile_scrape_error 0")
}

// samplesOf returns the samples without times, which the merge in a test lacks.
func samplesOf(page string) []string {
	return agenttest.Samples(agenttest.OwnFamilies.ReplaceAllString(page, ""))
}
