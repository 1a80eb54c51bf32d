package main_test

import (
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
