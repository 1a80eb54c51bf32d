package peertest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v2"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestAlertsFire(t *testing.T) {
	t.Parallel()
	rules := filepath.Join(examples, "alerts", "promspool.rules.yml")
	agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"check", "rules", rules}}.Must(t)
	agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"test", "rules", filepath.Join(examples, "alerts", "promspool.test.yml")}}.Must(t)
}

// alertExprs returns the alerts of the example: name to expression.
func alertExprs(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	agenttest.NoError(t, yaml.Unmarshal([]byte(example(t, "alerts/promspool.rules.yml")), &file))
	exprs := map[string]string{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			exprs[r.Alert] = r.Expr
		}
	}
	return exprs
}

// TestEveryAlertIsTested requires a test in which each alert fires, and one in which it
// does not.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	var file struct {
		Tests []struct {
			Cases []struct {
				Alert   string `yaml:"alertname"`
				Expects []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	agenttest.NoError(t, yaml.Unmarshal([]byte(example(t, "alerts/promspool.test.yml")), &file))
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			if len(c.Expects) > 0 {
				fires[c.Alert] = true
			} else {
				rests[c.Alert] = true
			}
		}
	}
	exprs := alertExprs(t)
	if len(exprs) < 15 {
		t.Errorf("there are %d alerts, want 15 at least", len(exprs))
	}
	for alert := range exprs {
		if !fires[alert] || !rests[alert] {
			t.Errorf("tested that %s fires: %t, that it does not: %t", alert, fires[alert], rests[alert])
		}
	}
}

// TestWatchedMetricsHaveAlerts requires a rule for each metric in the table of
// operations.md.
func TestWatchedMetricsHaveAlerts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(agenttest.Repository + "/docs/operations.md")
	agenttest.NoError(t, err)
	_, section, _ := strings.Cut(string(text), "examples/alerts](../examples/alerts)")
	section, _, _ = strings.Cut(section, "\n## ")
	all := strings.Join(slices.Collect(maps.Values(alertExprs(t))), "\n")
	listed := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (`+"`[^|]*"+`) \|`).FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile(`\w+_\w+`).FindAllString(row[1], -1) {
			listed++
			if !regexp.MustCompile(`\b` + name + `(_sum|_count|_bucket)?\b`).MatchString(all) {
				t.Errorf("operations.md lists %s, but no alert uses it", name)
			}
		}
	}
	if listed < 10 {
		t.Errorf("found %d metrics in the table of operations.md, want 10 at least", listed)
	}
}

// TestDashboardHasData runs the queries of all panels in a Prometheus that scrapes an
// agent with data for each.
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
