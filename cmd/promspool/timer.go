package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/wording"
)

// A timer has the expected starts of a job that a systemd timer starts.
type timer struct {
	job   string        // that the timer starts
	every time.Duration // the longest time between two starts
	late  time.Duration // by which systemd may delay a start
	next  time.Time     // the next start; zero if it is not known
}

// timerProperties are the properties of the unit that readTimer needs.
const timerProperties = "LoadState,Unit,TimersCalendar,TimersMonotonic,AccuracyUSec,RandomizedDelayUSec"

// readTimer asks systemd for a timer. It runs systemctl, and systemd-analyze for the
// times of calendar expressions.
func readTimer(unit string) (t timer, err error) {
	if !strings.Contains(unit, ".") {
		unit += ".timer"
	}
	if !strings.HasSuffix(unit, ".timer") || strings.HasPrefix(unit, "-") {
		return t, &usageError{fmt.Errorf("--from-timer: %q is not the name of a timer, such as backup.timer", unit)}
	}
	shown, err := output("systemctl", "show", "--property="+timerProperties, "--", unit)
	if err != nil {
		return t, fmt.Errorf("--from-timer: %w", err)
	}
	t, calendar, err := parseTimer(shown)
	if err != nil {
		return t, fmt.Errorf("--from-timer: %s %w", unit, err)
	}
	if len(calendar) > 0 {
		elapses, err := output("systemd-analyze", append([]string{"calendar", "--iterations=" + strconv.Itoa(maxElapses), "--"}, calendar...)...)
		if err != nil {
			return t, fmt.Errorf("--from-timer: %w", err)
		}
		next, longest := gaps(parseElapses(elapses))
		if t.next = next; longest > 0 && (t.every == 0 || longest < t.every) {
			t.every = longest
		}
	}
	if t.every == 0 {
		return t, fmt.Errorf("--from-timer: %s does not start its unit repeatedly: give --every instead", unit)
	}
	return t, nil
}

// output runs a program of systemd and returns its output. The time zone is that of the
// host, as for the service manager.
func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TZ=") })
	cmd.Env = append(cmd.Env, "LC_ALL=C", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if line, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n"); err != nil && line != "" {
		return "", fmt.Errorf("%s failed: %s", name, wording.Visible(line))
	} else if err != nil {
		return "", fmt.Errorf("cannot run %s: %w", name, err)
	}
	return string(text), nil
}

// parseTimer reads the properties of a timer, one a line. It returns calendar expressions
// separately, since only systemd can evaluate them.
func parseTimer(shown string) (t timer, calendar []string, err error) {
	found := false
	for line := range strings.Lines(shown) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		// A property of a timer is { OnCalendar=daily ; next_elapse=… }.
		kind, spec, _ := strings.Cut(strings.TrimPrefix(value, "{ "), "=")
		spec, _, _ = strings.Cut(spec, " ; ")
		var span time.Duration
		switch key {
		case "LoadState":
			if found = value == "loaded"; !found {
				return t, nil, fmt.Errorf("is not there or cannot be loaded (%s): systemctl status shows why", wording.Visible(value))
			}
		case "Unit":
			t.job = jobOfUnit(value)
		case "AccuracyUSec", "RandomizedDelayUSec":
			span, err = parseSpan(value)
			t.late += span
		case "TimersCalendar":
			calendar = append(calendar, spec)
		case "TimersMonotonic":
			// The other kinds start the unit once.
			if kind != "OnUnitActiveUSec" && kind != "OnUnitInactiveUSec" {
				continue
			}
			span, err = parseSpan(spec)
			if span > 0 && (t.every == 0 || span < t.every) {
				t.every = span
			}
		}
		if err != nil {
			return t, nil, fmt.Errorf("has a property %s that is not understood: %w", key, err)
		}
	}
	if !found {
		err = errors.New("was not shown by systemctl")
	}
	return t, calendar, err
}

// jobOfUnit returns the job name of a service: backup for backup.service and for
// promspool-run@backup.service.
func jobOfUnit(unit string) string {
	name := strings.TrimSuffix(unit, ".service")
	if _, instance, ok := strings.Cut(name, "@"); ok {
		return instance
	}
	return name
}

// spanUnits are the units in which systemctl shows time spans.
var spanUnits = map[string]time.Duration{
	"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour,
	"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "month": 2629800 * time.Second, "y": 31557600 * time.Second,
}

// parseSpan reads a time span such as 1h 30min, as systemctl shows it.
func parseSpan(text string) (sum time.Duration, err error) {
	if text == "0" {
		return 0, nil
	}
	for word := range strings.FieldsSeq(text) {
		digits := strings.TrimRight(word, "abcdefghijklmnopqrstuvwxyz")
		n, err := strconv.ParseFloat(digits, 64)
		unit, ok := spanUnits[word[len(digits):]]
		if span := n * float64(unit); err != nil || !ok || !(span >= 0 && span <= float64(100*spanUnits["y"])) {
			return 0, fmt.Errorf("invalid time span %q", text)
		}
		sum += time.Duration(n * float64(unit))
	}
	return sum, nil
}

// maxElapses is the number of starts of a calendar expression that are examined. That
// covers the weekend of an expression for each minute of a working day, and leap years.
const maxElapses = 10_000

// parseElapses reads the times of each expression from systemd-analyze calendar.
func parseElapses(text string) (elapses [][]time.Time) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case key == "Normalized form":
			elapses = append(elapses, nil)
			continue
		case len(elapses) == 0, key != "Next elapse" && key != "(in UTC)" && !strings.HasPrefix(key, "Iter. #"):
			continue
		}
		// In other time zones there are lines in both.
		if at, err := time.Parse("Mon 2006-01-02 15:04:05 UTC", value); err == nil {
			elapses[len(elapses)-1] = append(elapses[len(elapses)-1], at)
		}
	}
	return elapses
}

// gaps returns the first of all times and the longest gap between two. It stops where the
// times of one expression end because of [maxElapses].
func gaps(elapses [][]time.Time) (first time.Time, longest time.Duration) {
	var all []time.Time
	var end time.Time
	for _, times := range elapses {
		all = append(all, times...)
		if len(times) >= maxElapses && (end.IsZero() || times[len(times)-1].Before(end)) {
			end = times[len(times)-1]
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	for i, at := range all {
		if !end.IsZero() && at.After(end) {
			break
		}
		if i == 0 {
			first = at
		} else if gap := at.Sub(all[i-1]); gap > longest {
			longest = gap
		}
	}
	return first, longest
}
