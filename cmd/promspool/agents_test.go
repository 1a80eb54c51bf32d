package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agents"
	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// doctorOn returns the findings and the exit status of doctor.
func doctorOn(t *testing.T, spool, url string) (stdout string, status int) {
	t.Helper()
	stdout, _, status = agenttest.Command{
		Name: agenttest.Promspool, Args: []string{"--spool.directory=" + spool, "doctor", "--url=" + url, "--prometheus.config=none", "--node-exporter.defaults=none"},
	}.Run(t)
	return stdout, status
}

// TestTwoAgentsOnOneSpool has both agents, doctor, the page and the API report each
// other, and none of them after a kill.
func TestTwoAgentsOnOneSpool(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("agents find each other on Linux only")
	}
	one := agenttest.StartAgent(t, "")
	one.Drop("disk.prom", "disk_free 1\n")
	// Another agent may read the directory.
	agenttest.StartAgent(t, "", "--spool.textfile-directory="+one.Spool)
	status := func() string {
		_, answer := one.Send("GET", "/api/v1/status", "")
		return answer
	}
	page := func() string {
		_, answer := one.Send("GET", "/?view=status", "")
		return answer
	}
	alone := func() {
		t.Helper()
		agenttest.WaitFor(t, "the agent finds no other", func() bool { return !strings.Contains(status(), "other_agents") })
		agenttest.WantNone(t, page(), "other agent on this spool", "Other agent of this spool")
		if stdout, code := doctorOn(t, one.Spool, one.URL); code != 0 || strings.Contains(stdout, "agents:") {
			t.Errorf("doctor with one agent: exit status %d\n%s", code, stdout)
		}
	}
	alone()

	link := filepath.Join(t.TempDir(), "link")
	agenttest.Command{Name: "ln", Args: []string{"-s", one.Spool, link}}.Must(t)
	two := agenttest.StartAgent(t, link)
	pids := []string{strconv.Itoa(one.Cmd.Process.Pid), strconv.Itoa(two.Cmd.Process.Pid)}
	warning := `msg="Another agent serves the same spool: stop one of them, or give it another --spool.directory" spool=` + link + ` other="process ` + pids[0] + `"`
	if !strings.Contains(two.Log.String(), warning) {
		t.Errorf("the second agent logged\n%swant %s", two.Log, warning)
	}
	agenttest.WaitFor(t, "the first agent finds the second", func() bool {
		return strings.Contains(status(), `"other_agents":["process `+pids[1]+`"]`)
	})
	if text := page(); !strings.Contains(text, ">1 other agent on this spool</a>") || !strings.Contains(text, "process "+pids[1]) {
		t.Errorf("the page does not have the other agent:\n%s", text)
	}
	stdout, code := doctorOn(t, one.Spool, one.URL)
	if code != 1 || !strings.Contains(stdout, "wrong    agents: 2 agents serve the spool: process ") ||
		!strings.Contains(stdout, "process "+pids[0]) || !strings.Contains(stdout, "process "+pids[1]) || !strings.Contains(stdout, "→ stop all agents but one") {
		t.Errorf("doctor with two agents: exit status %d\n%s", code, stdout)
	}
	// Both still accept pushes, and no file is in the spool for this.
	two.Push("/metrics/job/two", "two 2\n")
	one.Serves(`two{job="two"} 2`)
	one.Push("/metrics/job/one", "one 1\n")
	if got := strings.Join(agenttest.Files(t, one.Spool), " "); got != "disk.prom job=one.prom job=two.prom" {
		t.Errorf("the spool has %s", got)
	}
	two.Kill()
	alone()
}

// TestMarkOfReplacedSpool expects the mark of an agent on the directory that replaced its
// spool as soon as it is scanned.
func TestMarkOfReplacedSpool(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("agents find each other on Linux only")
	}
	a := agenttest.StartAgent(t, "", "--spool.resync=1h") // the only scan is that of the replaced directory
	agenttest.NoError(t, os.Rename(a.Spool, a.Spool+".old"))
	agenttest.NoError(t, os.Mkdir(a.Spool, 0o755))
	scanned := regexp.MustCompile(`(?m)^promspool_rescan_duration_seconds_count\{directory="` + regexp.QuoteMeta(a.Spool) + `"\} [1-9]`)
	agenttest.WaitFor(t, "the directory is scanned", func() bool { return scanned.MatchString(a.Page()) })
	for dir, want := range map[string]int{a.Spool: 1, a.Spool + ".old": 0} {
		if found, err := agents.Find("/proc", dir); err != nil || len(found) != want {
			t.Errorf("%s has the agents %v (%v), want %d", dir, found, err, want)
		}
	}
}

// TestAgentInAContainerIsFound has an agent in other namespaces, which the host sees.
func TestAgentInAContainerIsFound(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t, "for other namespaces")
	spool := filepath.Join(t.TempDir(), "spool")
	inside := agenttest.StartServer(t, `(msg=Serving )`, agenttest.Need(t, "unshare"), "--net", "--pid", "--fork", "--kill-child", "--",
		agenttest.Promspool, "--spool.directory="+spool, "--web.listen-address=", "--web.metrics-socket="+spool+".sock")
	outside := agenttest.StartAgent(t, spool)
	agenttest.WaitFor(t, "the agent on the host warns", func() bool {
		return strings.Contains(outside.Log.String(), "Another agent serves the same spool") && strings.Contains(outside.Log.String(), `other="process `)
	})
	if stdout, code := doctorOn(t, spool, outside.URL); code != 1 || !strings.Contains(stdout, "wrong    agents: 2 agents serve the spool: process ") {
		t.Errorf("doctor: exit status %d\n%s", code, stdout)
	}
	inside.Kill()
	agenttest.WaitFor(t, "doctor finds one agent", func() bool {
		stdout, _ := doctorOn(t, spool, outside.URL)
		return !strings.Contains(stdout, "agents:")
	})
}
