package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
)

// The exit statuses of run that are not the command's: those of env, nohup and
// timeout.
const (
	exitTimeout    = 124
	exitNotRun     = 125 // promspool's own refusal
	exitNotStarted = 126
	exitNotFound   = 127
)

// An exitStatus is the error of a command that has said what there is to say.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// jobRun runs a command and records that.
type jobRun struct {
	*common
	name      string
	labels    []string
	expect    expectFlags
	timeout   model.Duration
	killAfter model.Duration
	lock      string
	strict    bool
	pushURL   string
	startTime bool
	patience  time.Duration
	command   []string

	group      grouping.Key
	complained string // the last
}

func addRun(app *kingpin.Application, c *common, commands map[string]func() error) {
	r := &jobRun{common: c, killAfter: model.Duration(10 * time.Second)}
	cmd := app.Command("run", `Run a command as a job and record its runs.

That it has started is on the disk before the command is, and after it has ended how that was: when, how long it took, its exit code, the CPU time and memory, and how many runs ended in which way, counted over all runs. No agent need be running. If promspool is killed or the host fails, the run is recorded as lost later on.

The command gets standard input, output and error as they are, and the signals that promspool gets; its exit status becomes that of promspool, and if a signal ends it, the same signal ends promspool. What cannot be recorded is told in a line on standard error and changes nothing else, unless --strict is given.

$PROMSPOOL_TEXTFILE names a file to which the command may write metrics of its own. They become part of the job's group when it ends.

Exit statuses of its own: 124 if the command was stopped by --timeout, 125 if it was not run (--lock=fail, --strict), 126 if it could not be started, 127 if it was not found.

Examples:

  promspool run -- /usr/local/bin/backup --full

  promspool run --job=backup --every=24h --grace=1h --lock=skip -- sh -c 'pg_dump db | gzip > db.gz'`)
	cmd.Flag("job", "Name of the job: its label job; default is the base name of the command.").StringVar(&r.name)
	cmd.Flag("label", "A further label that the job is known by, as NAME=VALUE; repeatable.").PlaceHolder("NAME=VALUE").StringsVar(&r.labels)
	r.expect.add(cmd)
	cmd.Flag("timeout", "Stop the command with SIGTERM when it has run for so long.").SetValue(&r.timeout)
	cmd.Flag("kill-after", "How long after that it is stopped with SIGKILL.").Default("10s").SetValue(&r.killAfter)
	cmd.Flag("lock", "What to do if the job is running already: skip this run and exit with 0, wait until the other has ended, or fail.").EnumVar(&r.lock, "skip", "wait", "fail")
	cmd.Flag("strict", "Do not run what cannot be recorded, and fail if that it has ended cannot be recorded.").BoolVar(&r.strict)
	cmd.Flag("push.start-time", "Give counters, histograms and summaries that the command writes the start of the run as start time.").BoolVar(&r.startTime)
	cmd.Flag("push-url", "Record the run at this promspool or Pushgateway instead of in the spool, and in the spool if it does not answer.").PlaceHolder("URL").StringVar(&r.pushURL)
	cmd.Flag("patience", "How long to wait for the record, for tests.").Hidden().Default(patience.String()).DurationVar(&r.patience)
	cmd.Arg("command", "The command and its arguments, after --.").Required().StringsVar(&r.command)
	commands[cmd.FullCommand()] = r.run
}

// run reads like the life of a run.
func (r *jobRun) run() error {
	leanRuntime()
	if r.name == "" {
		r.name = filepath.Base(r.command[0])
	}
	var err error
	if r.group, err = jobGroup(r.name, r.labels); err != nil {
		return &usageError{err}
	}
	rec, err := newRecorder(r)
	if err != nil {
		return &usageError{err}
	}
	failed := false
	switch err := rec.takeLock(r.lock); {
	case errors.Is(err, filestore.ErrLocked):
		return r.locked(rec)
	case r.lock != "":
		failed = r.complain("not locked", err)
	}
	failed = r.complain("its start is not recorded", rec.begin(time.Now())) || failed
	if failed && r.strict {
		rec.release(true)
		return exitStatus(exitNotRun)
	}
	own, err := newTextfile()
	failed = r.complain("it can have no metrics of its own", err) || failed
	defer own.remove()

	start := time.Now()
	end := r.execute(rec.inheritance(), own)
	end.At, end.Took = time.Now(), time.Since(start)
	if end.Own, err = own.read(); r.startTime && len(end.Own) > 0 {
		end.Own = exposition.WithStart(end.Own, start)
	}
	failed = r.complain("what it wrote to $PROMSPOOL_TEXTFILE is refused", err) || failed
	refused, err := rec.finish(end.End)
	failed = r.complain("what it wrote to $PROMSPOOL_TEXTFILE is refused", refused) || failed
	failed = r.complain("its end is not recorded", err) || failed
	rec.release(err == nil)
	own.remove()
	switch {
	case end.signal != 0:
		dieOf(end.signal)
	case end.ExitCode == 0 && failed && r.strict:
		return exitStatus(exitNotRun)
	case end.ExitCode == 0:
		return nil
	}
	return exitStatus(end.ExitCode)
}

// locked ends a run that did not start since another goes on.
func (r *jobRun) locked(rec *recorder) error {
	failed := r.complain("that it was skipped is not recorded", rec.skip(time.Now()))
	switch {
	case r.lock == "fail":
		fmt.Fprintf(r.stderr, "promspool: job %s is running already\n", r.group)
		return exitStatus(exitNotRun)
	case failed && r.strict:
		return exitStatus(exitNotRun)
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
		fmt.Fprintf(r.stderr, "promspool: job %s: %s: %s\n", r.group, what, text)
	}
	return true
}
