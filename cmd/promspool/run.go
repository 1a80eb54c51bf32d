package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/cmd/promspool/internal/jobrun"
	"github.com/promspool/promspool/filestore"
)

// jobRun runs a command and records that, by package jobrun.
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
	cmd.Flag("patience", "How long to wait for the record, for tests.").Hidden().Default(jobrun.DefaultRecordTimeout.String()).DurationVar(&r.patience)
	cmd.Arg("command", "The command and its arguments. Flags of promspool stand before it.").Required().StringsVar(&r.command)
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
			return &usageError{fmt.Errorf("--push-url: %q is no URL of a promspool or Pushgateway, such as http://localhost:9091", r.pushURL)}
		}
		c.Remote = &jobrun.Remote{URL: u, Client: client}
	}
	return jobrun.Run(c)
}
