package peertest

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestWriterExample writes groups without promspool. The agent serves them, and a push to
// each finds the file instead of creating another one.
func TestWriterExample(t *testing.T) {
	t.Parallel()
	python := agenttest.Need(t, "/usr/bin/python3")
	a := agenttest.StartAgent(t, "")
	long := strings.Repeat("x", 200)
	groups := []struct {
		labels []string
		path   string
		series string
	}{
		{[]string{"job=plain"}, "/metrics/job/plain", `written{job="plain"} 1`},
		{[]string{"zone=a/b é", "job=Mixed"}, "/metrics/job/Mixed/zone@base64/" + agenttest.Base64("a/b é"), `written{job="Mixed",zone="a/b é"} 1`},
		{[]string{"job=" + long, "a=\"\\\n"}, "/metrics/job/" + long + "/a@base64/" + agenttest.Base64("\"\\\n"), `written{a="\"\\\n",job="` + long + `"} 1`},
	}
	for _, g := range groups {
		agenttest.Command{Name: python, Args: append([]string{examples + "/writer/write-group", a.Spool, "written", "1"}, g.labels...)}.Must(t)
		a.Serves(g.series)
		if code, answer := a.Send("POST", g.path, ""); code != 200 {
			t.Errorf("POST %s: %d %s", g.path, code, answer)
		}
		agenttest.WantLines(t, a.Page(), g.series)
	}
	files, err := filepath.Glob(a.Spool + "/*.prom")
	agenttest.NoError(t, err)
	if len(files) != len(groups) {
		t.Errorf("the spool has the files %q, want one for each of %d groups", files, len(groups))
	}
}
