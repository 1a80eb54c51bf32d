// Package jobrun runs a command as a job and records its runs.
//
// # The idea
//
// [Run] takes the lock of the job, records the start, runs the command, passes on
// signals and records the end. Package ingest/job writes the record into the
// spool, which needs no agent. With a URL the record goes over HTTP to a promspool
// or Pushgateway, and into the spool if the server does not answer.
//
// # The promise
//
//   - The command runs as it would without: same input, output, signals and exit
//     status, and the same signal ends both. Unless Strict is set, a
//     failure to record does not change that.
//   - Recording delays the command and its end by no more than a few times RecordTimeout,
//     whatever the disk or the network does.
//   - The start is on disk before the command starts. If the end is not recorded,
//     the run is later detected as lost.
//
// # Limits
//
// A record over HTTP has no lock and no declaration, so lost runs are not detected
// there. On systems other than Linux, promspool does not become the parent of
// processes that the command leaves behind, and does not end by the signal that
// ended the command.
package jobrun

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/ingest/job"
)

// Exit statuses of promspool run itself, as env, nohup and timeout have them.
const (
	exitTimeout    = 124
	exitNotRun     = 125 // promspool did not start the command
	exitNotStarted = 126
	exitNotFound   = 127
)

// An ExitStatus is the error of a run that has already reported its errors.
type ExitStatus int

// Error returns the number.
func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// DefaultRecordTimeout is the default of Config.RecordTimeout.
const DefaultRecordTimeout = 2 * time.Second

// Config configures [Run]. Command, Group, Open, RecordTimeout and Stderr are
// required.
type Config struct {
	// Command is the command and its arguments.
	Command []string
	// Group is that of the job.
	Group grouping.Key
	// Open opens the spool, with all its files or with that of the group alone. It
	// may be called again while an earlier call still hangs.
	Open func(all bool) (*filestore.Store, error)
	// Explain adds advice to an error of the spool. It returns nil for nil.
	Explain func(error) error
	// Remote stores the record instead of the spool; nil for the spool.
	Remote *Remote
	// Expect is the expectation of the job; nil keeps the declared one.
	Expect *job.Expectation
	// Boot identifies this boot of the host, see [BootID].
	Boot string
	// Timeout is how long the command may run before SIGTERM; zero means any time.
	Timeout time.Duration
	// KillAfter is the delay between SIGTERM and SIGKILL.
	KillAfter time.Duration
	// Lock is the action if the job is running already: skip, wait or fail; empty
	// to run at the same time.
	Lock string
	// Strict makes a failure to record an error of the run.
	Strict bool
	// StartTime sets the start time of the command's own metrics to the end of the run:
	// during the run Prometheus scrapes the values of the last one, and it ignores a
	// start time before its last sample.
	StartTime bool
	// RecordTimeout bounds the wait for the record before the command starts.
	RecordTimeout time.Duration
	// Stderr gets a line for each failure to record.
	Stderr io.Writer
}

// A Remote is a promspool or Pushgateway.
type Remote struct {
	URL    *url.URL
	Client *http.Client
}

// BootID returns an identifier of this boot of the host. It is empty if the kernel
// has none.
func BootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// leanRuntime sets up Go's runtime for a run of a job, which mostly waits. Each
// place for a goroutine can cost a thread, and a limit of processes (ulimit -u)
// counts threads: without one to spare the runtime ends the program.
func leanRuntime() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

// jobRun is one run of a command.
type jobRun struct {
	Config
	complained string // the last
}

// Run runs the command and records that. The error is an [ExitStatus] unless the
// command succeeded; if a signal ended the command, it ends this process.
func Run(c Config) error {
	leanRuntime()
	r := &jobRun{Config: c}
	rec := newRecorder(&r.Config)
	failed := false
	switch err := rec.takeLock(r.Lock); {
	case errors.Is(err, filestore.ErrLocked):
		return r.locked(rec)
	case r.Lock != "":
		failed = r.complain("not locked", r.Explain(err))
	}
	failed = r.complain("its start is not recorded", r.Explain(rec.begin(time.Now()))) || failed
	if failed && r.Strict {
		rec.release(true)
		return ExitStatus(exitNotRun)
	}
	own, err := newTextfile()
	failed = r.complain("it can have no metrics of its own", err) || failed
	defer own.remove()

	start := time.Now()
	end := r.execute(rec.inheritance(), own)
	end.At, end.Took = time.Now(), time.Since(start)
	if end.Own, err = own.read(); r.StartTime && len(end.Own) > 0 {
		end.Own = exposition.WithStart(end.Own, end.At)
	}
	failed = r.complain("$PROMSPOOL_TEXTFILE was rejected", err) || failed
	refused, err := rec.finish(end.End)
	failed = r.complain("$PROMSPOOL_TEXTFILE was rejected", refused) || failed
	failed = r.complain("its end is not recorded", r.Explain(err)) || failed
	rec.release(err == nil)
	own.remove()
	switch {
	case end.signal != 0:
		dieOf(end.signal)
	case end.ExitCode == 0 && failed && r.Strict:
		return ExitStatus(exitNotRun)
	case end.ExitCode == 0:
		return nil
	}
	return ExitStatus(end.ExitCode)
}

// locked ends a run that did not start because another one is running.
func (r *jobRun) locked(rec *recorder) error {
	failed := r.complain("that it was skipped is not recorded", r.Explain(rec.skip(time.Now())))
	switch {
	case r.Lock == "fail":
		fmt.Fprintf(r.Stderr, "promspool: job %s is running already\n", r.Group)
		return ExitStatus(exitNotRun)
	case failed && r.Strict:
		return ExitStatus(exitNotRun)
	}
	return nil
}

// complain says in one line what went wrong, but the same not twice.
func (r *jobRun) complain(what string, err error) bool {
	if err == nil {
		return false
	}
	if text := err.Error(); text != r.complained {
		r.complained = text
		fmt.Fprintf(r.Stderr, "promspool: job %s: %s: %s\n", r.Group, what, text)
	}
	return true
}
