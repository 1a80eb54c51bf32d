package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/cmd/promspool/internal/jobrun"
	"github.com/promspool/promspool/filestore"
)

// jobRun runs a command and records the run, using package jobrun.
type jobRun struct {
	*common
	name      string
	labels    []string
	expect    expectFlags
	timeout   duration
	killAfter duration
	lock      string
	strict    bool
	pushURL   string
	startTime bool
	patience  time.Duration
	command   []string
}

func addRun(app *kingpin.Application, c *common, commands map[string]func() error) {
	r := &jobRun{common: c, killAfter: duration(10 * time.Second)}
	cmd := app.Command("run", `Run a command as a job and record its runs.

The start is recorded on disk before the command runs; afterwards its end time, duration, exit code, CPU time and memory, and the number of runs by outcome. No agent needs to run. If promspool is killed or the host fails, the run is later recorded as lost.

The command gets standard input, output and error unchanged, and the signals that promspool gets. promspool exits with its exit status or by its signal. If recording fails, a line on standard error reports it; only --strict changes the exit status.

The command may write metrics to the file $PROMSPOOL_TEXTFILE. They are added to the job's group when it ends.

Exit statuses of promspool itself: 124 if the command was stopped by --timeout, 125 if it was not run (--lock=fail, --strict), 126 if it could not be started, 127 if it was not found.

Examples:

  promspool run -- /usr/local/bin/backup --full

  promspool run --job=backup --every=24h --grace=1h --lock=skip -- sh -c 'pg_dump db | gzip > db.gz'`)
	cmd.Flag("job", "Name of the job, its label job; default is the base name of the command.").StringVar(&r.name)
	cmd.Flag("label", "Further label of the job, as NAME=VALUE; repeatable.").PlaceHolder("NAME=VALUE").StringsVar(&r.labels)
	r.expect.add(cmd)
	cmd.Flag("timeout", "Duration after which the command is stopped with SIGTERM.").SetValue(&r.timeout)
	cmd.Flag("kill-after", "Delay between SIGTERM and SIGKILL.").Default("10s").SetValue(&r.killAfter)
	cmd.Flag("lock", "Action if the job is running already: skip this run and exit with 0, wait for its end, or fail.").EnumVar(&r.lock, "skip", "wait", "fail")
	cmd.Flag("strict", "Do not run the command if its start cannot be recorded, and exit non-zero if its end cannot.").BoolVar(&r.strict)
	cmd.Flag("push.start-time", "Set the start time of counters, histograms and summaries that the command writes to the end of the run.").BoolVar(&r.startTime)
	cmd.Flag("push-url", "Promspool or Pushgateway that records the run instead of the spool; the spool is used if it does not answer.").PlaceHolder("URL").StringVar(&r.pushURL)
	cmd.Flag("patience", "Maximum time for the record, for tests.").Hidden().Default(jobrun.DefaultRecordTimeout.String()).SetValue((*timeout)(&r.patience))
	cmd.Arg("command", "The command and its arguments, after the flags of promspool.").Required().StringsVar(&r.command)
	commands[cmd.FullCommand()] = r.run
}

func (r *jobRun) run() error {
	if r.name == "" {
		r.name = filepath.Base(r.command[0])
	}
	group, err := jobGroup(r.name, r.labels)
	if err != nil {
		return &usageError{err}
	}
	c := jobrun.Config{
		Command: r.command, Group: group, Expect: r.expect.ifGiven(), Boot: r.bootID(),
		Timeout: time.Duration(r.timeout), KillAfter: time.Duration(r.killAfter), Lock: r.lock, Strict: r.strict, StartTime: r.startTime, RecordTimeout: r.patience, Stderr: r.stderr,
		Explain: func(err error) error { return denied(r.spool, err, "--push-url") },
		Open: func(all bool) (*filestore.Store, error) {
			if all {
				return r.open(&filestore.Options{})
			}
			return openJob(r.spool, group)
		},
	}
	if r.pushURL != "" {
		u, client, err := (&remote{url: r.pushURL}).parse()
		if err != nil {
			return &usageError{fmt.Errorf("--push-url: invalid URL %q: want e.g. http://localhost:9091", r.pushURL)}
		}
		c.Remote = &jobrun.Remote{URL: u, Client: client}
	}
	return jobrun.Run(c)
}
