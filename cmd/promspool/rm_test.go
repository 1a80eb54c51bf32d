package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestScriptRm(t *testing.T) { runScripts(t, "rm") }

// TestNameThatLsQuotes checks that other commands accept the names that ls prints.
func TestNameThatLsQuotes(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	agenttest.NoError(t, os.WriteFile(filepath.Join(spool, "two\nlines.prom"), []byte("a 1\n"), 0o644))
	promspoolIn := func(args ...string) string {
		t.Helper()
		return agenttest.Command{Name: agenttest.Promspool, Args: append([]string{"--spool.directory=" + spool}, args...)}.Must(t)
	}
	name, _, _ := strings.Cut(promspoolIn("ls"), "\t")
	if got := promspoolIn("show", name); name != `"two\nlines.prom"` || !strings.HasSuffix(got, "\na 1\n") {
		t.Errorf("show %s = %s", name, got)
	}
	promspoolIn("rm", name)
	if left := agenttest.Files(t, spool); len(left) > 0 {
		t.Errorf("rm %s has left %q", name, left)
	}
}

// TestRmThatIsKilled kills a removal in progress while an agent runs. Each file is
// either unchanged or deleted, and the rest can be deleted afterwards.
func TestRmThatIsKilled(t *testing.T) {
	t.Parallel()
	const groups = 3000
	spool := t.TempDir()
	text := func(i int) string {
		return fmt.Sprintf("# promspool:group {job=\"j%04d\"}\n# TYPE m gauge\nm{job=\"j%04d\"} %d\n# TYPE push_time_seconds gauge\npush_time_seconds{job=\"j%04d\"} 1.7e+09\n", i, i, i, i)
	}
	for i := range groups {
		agenttest.NoError(t, os.WriteFile(filepath.Join(spool, fmt.Sprintf("job=j%04d.prom", i)), []byte(text(i)), 0o644))
	}
	a := agenttest.StartAgent(t, spool)
	held := func() (left int) {
		t.Helper()
		for _, name := range agenttest.Files(t, spool) {
			if strings.HasPrefix(name, "job=") {
				left++
			}
		}
		return left
	}
	args := []string{"--spool.directory=" + spool, "rm", "--match", `job=~"j.*"`, "--yes"}
	cmd := exec.CommandContext(t.Context(), agenttest.Promspool, args...)
	agenttest.NoError(t, cmd.Start())
	agenttest.WaitFor(t, "it has begun", func() bool { return held() < groups })
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()

	left := 0
	for i := range groups {
		got, err := os.ReadFile(filepath.Join(spool, fmt.Sprintf("job=j%04d.prom", i)))
		if os.IsNotExist(err) {
			continue
		}
		agenttest.NoError(t, err)
		if left++; string(got) != text(i) {
			t.Errorf("group %d holds %q", i, got)
		}
	}
	t.Logf("%d of %d groups were left", left, groups)
	a.Serves(fmt.Sprintf("promspool_groups %d", left))
	if out := (agenttest.Command{Name: agenttest.Promspool, Args: args}).Must(t); !strings.HasSuffix(out, "removed\n") && left > 0 {
		t.Errorf("the rest: %s", out)
	}
	a.Serves("promspool_groups 0")
	if left := held(); left > 0 {
		t.Errorf("%d files are left", left)
	}
}
