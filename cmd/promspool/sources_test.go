package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestDirectoriesBesideTheSpoolAreServed has the directories of two packages, one of
// which is installed later.
func TestDirectoriesBesideTheSpoolAreServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	apt, raid := filepath.Join(dir, "apt.d"), filepath.Join(dir, "raid.d")
	agenttest.NoError(t, os.Mkdir(apt, 0o755))
	agenttest.NoError(t, os.WriteFile(apt+"/upgrades.prom", []byte("upgrades 7\n"), 0o644))
	for i := range 300 { // reading them takes a moment
		agenttest.NoError(t, os.WriteFile(fmt.Sprintf("%s/package%d.prom", apt, i), fmt.Appendf(nil, "package_%d 1\n", i), 0o644))
	}
	flags := []string{"--spool.textfile-directory=" + dir + "/*.d", "--spool.resync=200ms"}
	a := agenttest.StartAgent(t, filepath.Join(dir, "spool"), flags...)
	a.Push("/metrics/job/backup", "pushed 1\n")
	a.Serves("upgrades 7")

	agenttest.NoError(t, os.Mkdir(raid, 0o755))
	agenttest.NoError(t, os.WriteFile(raid+"/raid.prom", []byte("raid_ok 1\n"), 0o644))
	a.Serves("raid_ok 1")
	agenttest.NoError(t, os.WriteFile(apt+"/upgrades.prom", []byte("upgrades 8\n"), 0o644))
	a.Serves("upgrades 8")

	before := a.Merge()
	if after := a.Restart(flags...).Merge(); after != before {
		t.Errorf("the first scrape after a restart has %d lines, want the %d that it had before", strings.Count(after, "\n"), strings.Count(before, "\n"))
	}
	if n := len(agenttest.Files(t, apt)); n != 301 {
		t.Errorf("%s has %d files, want only those that were dropped there", apt, n)
	}
}

// TestResyncOfZeroIsTheDefault includes a further directory, which has its own resync.
func TestResyncOfZeroIsTheDefault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := agenttest.StartAgent(t, "", "--spool.resync=0s", "--spool.textfile-directory="+dir)
	agenttest.NoError(t, os.WriteFile(dir+"/beside.prom", []byte("beside 1\n"), 0o644))
	a.Serves("beside 1")
	a.Stop()
}
