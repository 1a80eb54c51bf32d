// Package jobrun runs a command as a job and records its runs.
//
// # The idea
//
// [Run] is the life of one run: take the lock of the job, record the start, start
// the command, hand signals on, wait for its end, record that. The record is
// written into the spool by package ingest/job, with no agent needed, or over
// HTTP to a promspool or Pushgateway, and then into the spool where that does not
// answer.
//
// # The promise
//
//   - The command runs as it would without: same input, output, signals and exit
//     status, and the same signal ends both. With Strict unset nothing that goes
//     wrong with the record changes that.
//   - Recording delays the command and its end by no more than a few times Patience,
//     whatever the disk or the network does.
//   - The start is on the disk before the command is started. If the end is not
//     recorded, the run is found to be lost later on.
//
// # Limits
//
// A record over HTTP has neither a lock nor what is declared of the job, so a lost
// run is not seen there. Where the kernel is not Linux the command is never the
// parent of what it leaves behind, and its signal does not end this process.
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

// The exit statuses of a run that are not the command's: those of env, nohup and
// timeout.
const (
	exitTimeout    = 124
	exitNotRun     = 125 // promspool's own refusal
	exitNotStarted = 126
	exitNotFound   = 127
)

// An ExitStatus is the error of a run that has said what there is to say.
type ExitStatus int

// Error returns the number.
func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// DefaultPatience is how long a run usually waits for its record.
const DefaultPatience = 2 * time.Second

// Config says what to run and how. Command, Group, Open, Patience and Stderr are
// required.
type Config struct {
	// Command is the command and its arguments.
	Command []string
	// Group is that of the job.
	Group grouping.Key
	// Open opens the spool, with all its files or with that of the group alone. It
	// may be called again while an earlier call still hangs.
	Open func(all bool) (*filestore.Store, error)
	// Explain adds to an error of the spool, or nil, what can be done about it.
	Explain func(error) error
	// Remote has the record in place of the spool; nil for the spool.
	Remote *Remote
	// Expect is what is expected of the job; nil leaves what was declared.
	Expect *job.Expectation
	// Boot identifies this boot of the host, see [BootID].
	Boot string
	// Timeout is how long the command may run before it gets SIGTERM; zero for ever.
	Timeout time.Duration
	// KillAfter is how long after that it gets SIGKILL.
	KillAfter time.Duration
	// Lock says what to do if the job is running already: skip, wait or fail;
	// empty to run beside it.
	Lock string
	// Strict makes what cannot be recorded an error of the run.
	Strict bool
	// StartTime gives the metrics of the command's own the end of the run as their start
	// time. Scrapes during the run have the values of the last one, and Prometheus
	// ignores a start time before its last sample.
	StartTime bool
	// Patience is how long to wait for the record before the command is started.
	Patience time.Duration
	// Stderr gets a line for what cannot be recorded.
	Stderr io.Writer
}

// A Remote is a promspool or Pushgateway.
type Remote struct {
	URL    *url.URL
	Client *http.Client
}

// BootID tells one boot of the host from another. It is empty where the kernel
// has no such thing.
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
	failed = r.complain("what it wrote to $PROMSPOOL_TEXTFILE is refused", err) || failed
	refused, err := rec.finish(end.End)
	failed = r.complain("what it wrote to $PROMSPOOL_TEXTFILE is refused", refused) || failed
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

// locked ends a run that did not start since another goes on.
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
