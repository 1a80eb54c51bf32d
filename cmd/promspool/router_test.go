package main_test

import (
	"os"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestPathsOfPageFiles checks that each file of the page has one path.
func TestPathsOfPageFiles(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "/ui"} {
		a := agenttest.StartAgent(t, "", "--web.route-prefix="+prefix)
		for path, want := range map[string]int{"/ui/page.css": 200, "/ui/x/y/page.css": 404, "/ui/ui/page.css": 404, "/ui/": 404} {
			if code, _ := a.Send("GET", prefix+path, ""); code != want {
				t.Errorf("%s%s is %d, want %d", prefix, path, code, want)
			}
		}
	}
}

// TestPushIntoSpoolWithoutPermission checks that the error names the spool and a remedy.
func TestPushIntoSpoolWithoutPermission(t *testing.T) {
	t.Parallel()
	a := startAgentAsNobody(t, openDir(t))
	a.Push("/metrics/job/g1", "a 1\n")
	agenttest.NoError(t, os.Chmod(a.Spool, 0o555))
	for _, method := range []string{"PUT", "DELETE"} {
		code, answer := a.Send(method, "/metrics/job/g1", "a 2\n")
		if code != 500 || !strings.Contains(answer, "permission denied: the agent lacks permission in the spool "+a.Spool+": ") {
			t.Errorf("%s = %d %q", method, code, answer)
		}
	}
	agenttest.NoError(t, os.Chmod(a.Spool, 0o755))
	a.Push("/metrics/job/g1", "a 2\n")
}
