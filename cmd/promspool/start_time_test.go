package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestAgentSetsStartTimes checks the flag at the agent: only counters and the like of
// text pushes get the time of the push as start time.
func TestAgentSetsStartTimes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flags []string
		want  int
	}{{nil, 0}, {[]string{"--push.start-time"}, 1}} {
		a := agenttest.StartAgent(t, "", tt.flags...)
		a.Push("/metrics/job/q", "# TYPE a_total counter\na_total 1\n# TYPE g gauge\ng 1\n")
		text, err := os.ReadFile(filepath.Join(a.Spool, "job=q.prom"))
		agenttest.NoError(t, err)
		if got := strings.Count(string(text), "\n# promspool:om2 a_total{job=\"q\"} 1.0 st@"); got != tt.want || strings.Count(string(text), "om2") != tt.want {
			t.Errorf("with %q the file has %d start times, want %d:\n%s", tt.flags, got, tt.want, text)
		}
	}
}
