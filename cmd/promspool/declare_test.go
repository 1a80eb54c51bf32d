package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// showTimer is a systemctl that shows a timer as that of systemd 252 does.
const showTimer = `#!/bin/sh
case "$*" in
"show --property=LoadState,Unit,TimersCalendar,TimersMonotonic,AccuracyUSec,RandomizedDelayUSec -- backup.timer")
	cat <<'END'
Unit=backup.service
TimersCalendar={ OnCalendar=Mon..Fri *-*-* 03:00:00 ; next_elapse=Mon 2026-11-30 03:00:00 UTC }
AccuracyUSec=1min
RandomizedDelayUSec=5min
LoadState=loaded
END
	;;
*"-- poll.timer") printf 'Unit=promspool-run@poll.service\nTimersMonotonic={ OnUnitActiveUSec=15min ; next_elapse=0 }\nLoadState=loaded\n' ;;
*"-- once.timer") printf 'Unit=once.service\nTimersMonotonic={ OnBootUSec=15min ; next_elapse=15min }\nLoadState=loaded\n' ;;
*"-- none.timer") printf 'LoadState=not-found\n' ;;
*) echo "System has not been booted with systemd as init system (PID 1)." >&2; exit 1 ;;
esac
`

func TestDeclareFromTimer(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "systemd-analyze")
	bin, spool := t.TempDir(), t.TempDir()
	agenttest.NoError(t, os.WriteFile(filepath.Join(bin, "systemctl"), []byte(showTimer), 0o755))
	declare := func(args ...string) agenttest.Command {
		return agenttest.Command{Name: agenttest.Promspool, Args: append([]string{"--spool.directory=" + spool, "job", "declare"}, args...), Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH")}}
	}
	due := func(job string) float64 {
		t.Helper()
		for line := range strings.Lines(agenttest.Record(t, spool, job)) {
			if value, ok := strings.CutPrefix(line, fmt.Sprintf("promspool_job_next_due_timestamp_seconds{job=%q} ", job)); ok {
				v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				agenttest.NoError(t, err)
				return v
			}
		}
		t.Fatalf("job %s is not due", job)
		return 0
	}

	// The weekend is the longest time between two starts, and the job is due at the next one.
	if said := declare("--from-timer=backup.timer", "--grace=10m").Must(t); !strings.HasPrefix(said, `declared {job="backup"}: every 3d`) || !strings.Contains(said, "grace 16m") {
		t.Errorf("it said %q", said)
	}
	at := time.Unix(int64(due("backup")), 0)
	if in := time.Until(at); at.Minute() != 16 || at.Second() != 0 || in < 0 || in > 73*time.Hour {
		t.Errorf("the job is due at %v, want 16 minutes after the next elapse", at)
	}
	// After a run it is due by the longest time.
	agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + spool, "run", "--job=backup", "--", "true"}}.Must(t)
	if in := time.Until(time.Unix(int64(due("backup")), 0)); in < 71*time.Hour {
		t.Errorf("after a run the job is due in %v, want 3 days", in)
	}
	declare("--from-timer", "poll").Must(t)
	if in := time.Until(time.Unix(int64(due("poll")), 0)); in > 15*time.Minute {
		t.Errorf("the job is due in %v, want 15 minutes", in)
	}
	declare("--from-timer=poll.timer", "--max-runtime=1m", "renamed").Must(t)
	due("renamed")

	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--from-timer=once.timer"}, 1, "once.timer does not start its unit repeatedly: give --every instead"},
		{[]string{"--from-timer=none.timer"}, 1, "none.timer is not there or cannot be loaded (not-found)"},
		{[]string{"--from-timer=other.timer"}, 1, "systemctl failed: System has not been booted with systemd"},
		{[]string{"--from-timer=backup.service"}, 2, `"backup.service" is not the name of a timer`},
		{[]string{"--from-timer=backup.timer", "--every=1h"}, 2, "--every and --from-timer exclude each other"},
		{nil, 2, "give the name of the job, or --from-timer"},
	} {
		refuses(t, declare(tt.args...), tt.status, tt.want)
	}
	if files := agenttest.Files(t, spool); len(files) != 3 {
		t.Errorf("the spool has %q, want 3 jobs", files)
	}
}
