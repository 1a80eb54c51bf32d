package peertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestReleaseCheck runs .ci/release-check in a clone with and without the parts of a
// release.
func TestReleaseCheck(t *testing.T) {
	t.Parallel()
	git := agenttest.Need(t, "git")
	if _, err := os.Stat(agenttest.Repository + "/.git"); err != nil {
		t.Skipf("the sources are not a clone: %v", err)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	do := func(args ...string) {
		t.Helper()
		agenttest.Command{Name: git, Args: append([]string{"-C", clone, "-c", "user.name=test", "-c", "user.email=test@localhost"}, args...)}.Must(t)
	}
	agenttest.Command{Name: git, Args: []string{"-c", "safe.directory=*", "clone", "--quiet", "--no-tags", agenttest.Repository, clone}}.Must(t)
	// The files of the work tree, which may not be committed yet.
	agenttest.Command{Name: "bash", Args: []string{"-ec", `cd "$1"; git -c safe.directory='*' ls-files -z -co --exclude-standard --deduplicate |
		while IFS= read -r -d '' f; do test -e "$f" && cp --parents -P "$f" "$2"; done`, "sh", agenttest.Repository, clone}}.Must(t)
	check := func(wantStatus int, wants ...string) {
		t.Helper()
		stdout, stderr, status := agenttest.Command{Name: clone + "/.ci/release-check"}.Run(t)
		for _, want := range wants {
			if !strings.Contains(stdout+stderr, want) {
				t.Errorf("release-check does not print %q", want)
			}
		}
		if status != wantStatus || t.Failed() {
			t.Fatalf("release-check exits with %d, want %d:\n%s%s", status, wantStatus, stdout, stderr)
		}
	}
	changelog := func(text string) {
		t.Helper()
		agenttest.NoError(t, os.WriteFile(clone+"/CHANGELOG.md", []byte("# Changelog\n\n"+text), 0o644))
		do("add", "--all")
		do("commit", "--quiet", "--allow-empty", "--message=changelog")
	}
	changelog("## Unreleased\n\n- A feature.\n\n## 9.8.7 / 2030-01-02\n\n- An older one.\n")
	check(1, "HEAD has no tag", "CHANGELOG.md has changes under Unreleased")
	do("tag", "v9.9.9")
	agenttest.NoError(t, os.WriteFile(clone+"/new", nil, 0o644))
	check(1, "the working tree has changes", "'## 9.9.9 / ")
	agenttest.NoError(t, os.Remove(clone+"/new"))
	changelog("## 9.9.8 / soon\n\n- A feature.\n")
	do("tag", "--force", "v9.9.9")
	check(1, "invalid heading '## 9.9.8 / soon'")
	changelog("## 9.9.8 / 2030-01-02\n\n- A feature.\n")
	do("tag", "--force", "v9.9.9")
	check(1, "the newest section of CHANGELOG.md is 9.9.8, the tag is v9.9.9")
	changelog("## Unreleased\n\n## 9.9.9-rc.1 / 2030-01-02\n\n- A feature.\n")
	do("tag", "v9.9.9-rc.1")
	check(0, "release-check: v9.9.9-rc.1 is ready")
}
