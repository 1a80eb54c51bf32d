package main

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseTimer(t *testing.T) {
	for _, tt := range []struct {
		name, shown string
		want        timer
		calendar    string
		err         string
	}{
		{
			name: "daily", shown: "Unit=backup.service\nTimersCalendar={ OnCalendar=*-*-* 00:00:00 ; next_elapse=Mon 2026-11-30 00:00:00 UTC }\nAccuracyUSec=1min\nRandomizedDelayUSec=1h 30min\nLoadState=loaded\n",
			want: timer{job: "backup", late: 91 * time.Minute}, calendar: "*-*-* 00:00:00",
		},
		{
			name: "several", shown: "LoadState=loaded\nUnit=promspool-run@a-b.service\nTimersCalendar={ OnCalendar=Mon..Fri *-*-* 09:00:00 Europe/Berlin ; next_elapse=Mon 2026-11-30 08:00:00 UTC }\nTimersCalendar={ OnCalendar=*-*-01 00:00:00 ; next_elapse=n/a }\nTimersMonotonic={ OnBootUSec=15min ; next_elapse=15min }\nTimersMonotonic={ OnUnitActiveUSec=1d 500ms ; next_elapse=0 }\nTimersMonotonic={ OnUnitInactiveUSec=2w ; next_elapse=0 }\nAccuracyUSec=1us\nRandomizedDelayUSec=0\n",
			want: timer{job: "a-b", every: 24*time.Hour + 500*time.Millisecond, late: time.Microsecond}, calendar: "Mon..Fri *-*-* 09:00:00 Europe/Berlin|*-*-01 00:00:00",
		},
		{name: "missing", shown: "LoadState=not-found\nAccuracyUSec=1min\n", err: "is not there or cannot be loaded (not-found)"},
		{name: "nothing", shown: "", err: "was not shown"},
		{name: "odd span", shown: "LoadState=loaded\nAccuracyUSec=soon\n", err: `AccuracyUSec that is not understood: invalid time span "soon"`},
		{name: "infinity", shown: "LoadState=loaded\nRandomizedDelayUSec=infinity\n", err: `invalid time span "infinity"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, calendar, err := parseTimer(tt.shown)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("the error is %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want || strings.Join(calendar, "|") != tt.calendar {
				t.Errorf("%+v, %q, %v, want %+v, %q", got, calendar, err, tt.want, tt.calendar)
			}
		})
	}
}

func TestGapsOfElapses(t *testing.T) {
	// As systemd-analyze prints it in a time zone that is not UTC, around the end of summer time.
	elapses := parseElapses(`  Original form: daily
Normalized form: *-*-* 00:00:00
    Next elapse: Sat 2026-10-24 00:00:00 CEST
       (in UTC): Fri 2026-10-23 22:00:00 UTC
       From now: 14h left
       Iter. #2: Sun 2026-10-25 00:00:00 CEST
       (in UTC): Sat 2026-10-24 22:00:00 UTC
       From now: 1 day 14h left
       Iter. #3: Mon 2026-10-26 00:00:00 CET
       (in UTC): Sun 2026-10-25 23:00:00 UTC
       From now: 2 days 14h left

Normalized form: 2026-10-24 12:00:00 UTC
    Next elapse: Sat 2026-10-24 12:00:00 UTC
       From now: 1 day left
`)
	if len(elapses) != 2 || len(elapses[0]) != 3 || len(elapses[1]) != 1 {
		t.Fatalf("read %v", elapses)
	}
	first, longest := gaps(elapses)
	if want := time.Date(2026, 10, 23, 22, 0, 0, 0, time.UTC); !first.Equal(want) || longest != 25*time.Hour {
		t.Errorf("the first is %v and the longest gap %v, want %v and 25h", first, longest, want)
	}
	if _, longest := gaps(elapses[1:]); longest != 0 {
		t.Errorf("a timer that elapses once has the gap %v", longest)
	}
}

// TestTimerOfAnything has output that no systemd prints.
func TestTimerOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.SampledFrom([]string{"LoadState=loaded\n", "Unit=", "TimersMonotonic={ OnUnitActiveUSec=", "AccuracyUSec=", "{ ; = }", "1h", " 9e99y", "-1s", "Next elapse: ", "Normalized form: ", "Mon 2026-10-26 00:00:00 UTC", "\n", "\x00"})
		text := strings.Join(rapid.SliceOf(rapid.OneOf(line, rapid.String())).Draw(t, "text"), "")
		if x, _, err := parseTimer(text); err == nil && (x.every < 0 || x.late < 0) {
			t.Fatalf("%q gives %+v", text, x)
		}
		if _, longest := gaps(parseElapses(text)); longest < 0 {
			t.Fatalf("%q gives a gap of %v", text, longest)
		}
	})
}
