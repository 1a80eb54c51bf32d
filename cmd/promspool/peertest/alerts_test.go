package peertest

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestAlertsFire(t *testing.T) {
	t.Parallel()
	rules := filepath.Join(examples, "alerts", "promspool.rules.yml")
	agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"check", "rules", rules}}.Must(t)
	agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"test", "rules", filepath.Join(examples, "alerts", "promspool.test.yml")}}.Must(t)
}

// TestDashboardHasData queries a Prometheus for each panel of the dashboard. The agent
// has data for all of them.
func TestDashboardHasData(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus")
	a := agenttest.StartAgent(t, "")
	past := time.Now().Add(-time.Hour).Unix()
	record := func(job string, exitCode int) {
		a.Push("/metrics/job/"+job, strings.NewReplacer("PAST", fmt.Sprint(past), "CODE", fmt.Sprint(exitCode)).Replace(`
# TYPE promspool_job_runs_total counter
promspool_job_runs_total{outcome="failure"} 1
promspool_job_start_timestamp_seconds PAST
promspool_job_end_timestamp_seconds PAST
promspool_job_success_timestamp_seconds 0
promspool_job_next_due_timestamp_seconds PAST
promspool_job_duration_seconds 3
promspool_job_exit_code CODE
promspool_job_running 0
promspool_job_cpu_seconds{mode="user"} 1
promspool_job_max_resident_memory_bytes 1e6
`))
	}
	record("failed", 3)
	record("lost", -1)
	a.Drop("broken.prom", "no metric at all\n")
	a.Serves(`promspool_file_error{file="broken.prom",reason="syntax"} 1`)
	p := startPrometheus(t, "prometheus.yml", a.Addr)

	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	agenttest.NoError(t, json.Unmarshal([]byte(example(t, "grafana/promspool.json")), &dashboard))
	queries := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries++
			expr := strings.NewReplacer("$instance", ".*", "$job", ".*", "$__rate_interval", "1m").Replace(target.Expr)
			agenttest.WaitFor(t, "the panel "+panel.Title+" has data: "+expr, func() bool {
				series, _ := p.query(expr)
				return len(series) > 0
			})
		}
	}
	if queries < 20 {
		t.Errorf("the dashboard has %d queries", queries)
	}
}
