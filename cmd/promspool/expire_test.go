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

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestScriptExpire(t *testing.T) { runScripts(t, "expire") }

// Killing the agent or the command during a sweep loses nothing and does not change
// the metrics served.
func TestKilledInTheMiddleOfASweep(t *testing.T) {
	t.Parallel()
	const groups = 300
	spool := t.TempDir()
	pushed := time.Now().Add(-time.Hour).Unix()
	for i := range groups {
		agenttest.NoError(t, os.WriteFile(filepath.Join(spool, fmt.Sprintf("job=%03d.prom", i)), fmt.Appendf(nil,
			"# promspool:group {job=\"%03d\"}\n# promspool:ttl 1m\n# TYPE payload gauge\npayload{job=\"%03d\"} %d\n# TYPE push_time_seconds gauge\npush_time_seconds{job=\"%03d\"} %d\n", i, i, i, i, pushed), 0o644))
	}
	a := agenttest.StartAgent(t, spool)
	before := a.Page()
	if n := strings.Count(before, "\npromspool_group_expired{"); n != groups || strings.Contains(before, "\npayload{") {
		t.Fatalf("%d groups have expired at the start", n)
	}
	sweep := exec.Command(agenttest.Promspool, "expire", "--spool.directory="+spool)
	out, err := sweep.StdoutPipe()
	agenttest.NoError(t, err)
	agenttest.NoError(t, sweep.Start())
	lines := bufio.NewScanner(out)
	for range groups / 4 {
		lines.Scan()
	}
	agenttest.NoError(t, sweep.Process.Kill())
	_ = sweep.Wait() // it was killed
	a.Kill()
	written := 0
	for i := range groups {
		text, err := os.ReadFile(filepath.Join(spool, fmt.Sprintf("job=%03d.prom", i)))
		agenttest.NoError(t, err)
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
	a = agenttest.StartAgent(t, spool)
	if got := agenttest.Samples(a.Page()); !slices.Equal(samplesIn(got), samplesIn(agenttest.Samples(before))) {
		t.Errorf("after the kill %d samples are served, before it %d", len(samplesIn(got)), len(samplesIn(agenttest.Samples(before))))
	}
	agenttest.NoError(t, exec.Command(agenttest.Promspool, "restore", "job=007", "--spool.directory="+spool).Run())
	a.Serves(`payload{job="007"} 7`)
}

// samplesIn keeps the samples of groups.
func samplesIn(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !strings.Contains(s, `{job="`) })
}
