package main

import (
	"fmt"
	"time"

	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// The metrics of a job's record that say how it is.
const (
	jobRunning  = "promspool_job_running"
	jobStart    = "promspool_job_start_timestamp_seconds"
	jobEnd      = "promspool_job_end_timestamp_seconds"
	jobExitCode = "promspool_job_exit_code"
	jobNextDue  = "promspool_job_next_due_timestamp_seconds"
)

// jobState says how the job is whose record the group holds, in a few words;
// nothing if there is none.
func jobState(v *merge.View, f *record.File, now time.Time) string {
	value := map[string]float64{}
	for _, name := range [...]string{jobRunning, jobStart, jobEnd, jobExitCode, jobNextDue} {
		if fam, ok := v.Family(f, name); ok && len(fam.Metrics) == 1 {
			value[name] = fam.Metrics[0].Value
		}
	}
	running, known := value[jobRunning]
	if !known {
		return ""
	}
	since := func(metric string) string { return brief(now.Sub(time.Unix(int64(value[metric]), 0))) }
	due, isDue := value[jobNextDue]
	late := isDue && float64(now.Unix()) > due
	state := ""
	switch code := value[jobExitCode]; {
	case running > 0:
		return "running for " + since(jobStart)
	case value[jobEnd] == 0:
		state = "never ran"
	case code < 0:
		state = "lost " + since(jobEnd) + " ago"
	case code > 0:
		state = fmt.Sprintf("failed with %.0f %s ago", code, since(jobEnd))
	default:
		state = "succeeded " + since(jobEnd) + " ago"
	}
	switch {
	case late:
		state += ", overdue for " + since(jobNextDue)
	case isDue:
		state += ", due in " + brief(time.Unix(int64(due), 0).Sub(now))
	}
	return state
}
