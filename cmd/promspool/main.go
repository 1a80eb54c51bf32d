// Promspool keeps what batch jobs push, and what scripts drop, as files in one
// directory and serves the merge of them to Prometheus. "promspool --help-man"
// prints the manual.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"

	"github.com/promspool/promspool/cmd/promspool/internal/jobrun"
)

// The exit statuses of every command.
const (
	exitDone    = 0
	exitRefused = 1 // failed, or the check found something
	exitUsage   = 2 // invalid command line
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// A program is the command line and its commands.
type program struct {
	app      *kingpin.Application
	commands map[string]func() error
	manual   *usageWriter
	exited   int // status of --help or --version, else -1
}

func newProgram(args []string, stdin io.Reader, stdout, stderr io.Writer) *program {
	app := kingpin.New("promspool", "A drop-in replacement for the Prometheus Pushgateway that stores every push as a durable text file.")
	p := &program{app: app, commands: map[string]func() error{}, manual: &usageWriter{Writer: plainText{stdout}}, exited: -1}
	app.UsageWriter(p.manual).ErrorWriter(plainLines{stderr}).Terminate(func(code int) {
		p.exited = max(p.exited, code)
		p.manual.mute = p.manual.mute || code != exitDone // after an unknown command print no help
	})
	app.Version(version.Print("promspool"))
	app.HelpFlag.Short('h')
	app.Action(func(context *kingpin.ParseContext) error { return rejectEmpty(app, context) })
	addManual(app)
	addCompletions()

	c := common{stdin: stdin, stdout: plainText{stdout}, stderr: plainLines{stderr}, log: &promslog.Config{Writer: plainLines{stderr}}}
	app.Flag("spool.directory", "The spool: the directory with one file per group, and dropped files.").
		Envar("PROMSPOOL_SPOOL_DIRECTORY").Default(defaultSpool(stateDirectory)).StringVar(&c.spool)
	app.Flag("boot-id", "Identity of this boot of the host, for tests.").Hidden().StringVar(&c.boot)
	promslogflag.AddFlags(app, c.log)

	addServe(app, &c, p.commands)
	addCheck(app, &c, p.commands)
	addWrite(app, &c, p.commands)
	addHealth(app, &c, p.commands)
	addMigrate(app, &c, p.commands)
	addPush(app, &c, p.commands)
	addRm(app, &c, p.commands)
	addLs(app, &c, p.commands)
	addShow(app, &c, p.commands)
	addRun(app, &c, p.commands)
	addJob(app, &c, p.commands)
	addExplain(app, &c, p.commands)
	addDoctor(app, &c, p.commands)
	addExpire(app, &c, p.commands)
	addRestore(app, &c, p.commands)

	if !slices.ContainsFunc(args, func(arg string) bool { return arg != "help" && app.GetCommand(arg) != nil }) {
		app.UsageTemplate(overview)
	}
	if context, _ := app.ParseContext(args); context != nil && context.SelectedCommand != nil && context.SelectedCommand.FullCommand() == "run" {
		app.Interspersed(false) // arguments after a command belong to the command
	}
	return p
}

// run runs one command line and returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 && isTerminal(stdout) {
		args = []string{"help"} // scripts and service managers start the agent this way
	}
	p := newProgram(args, stdin, stdout, stderr)
	command, err := p.app.Parse(args)
	switch {
	case p.manual.err != nil:
		fmt.Fprintf(plainLines{stderr}, "promspool: %v\n", p.manual.err)
		return exitRefused
	case p.exited > 0:
		return exitUsage
	case p.exited == 0:
		return exitDone
	case err != nil:
		fmt.Fprintf(plainLines{stderr}, "promspool: %v, try --help\n", explained(p.app, args, namedFlag(p.app, args, err)))
		return exitUsage
	}
	if err := p.commands[command](); err != nil {
		var status jobrun.ExitStatus
		if errors.As(err, &status) {
			return int(status)
		}
		var found *findings
		if !errors.As(err, &found) {
			printError(stderr, err)
		}
		var usage *usageError
		if errors.As(err, &usage) {
			return exitUsage
		}
		return exitRefused
	}
	return exitDone
}

// printError prints each line of an error once. Joined errors have several, and steps
// that fail for one reason have the same.
func printError(stderr io.Writer, err error) {
	printed := map[string]bool{}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !printed[line] {
			printed[line] = true
			fmt.Fprintf(plainLines{stderr}, "promspool: %s\n", line)
		}
	}
}

// common are the fields that all commands share.
type common struct {
	spool  string
	boot   string // see bootID
	log    *promslog.Config
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// findings is the error of a command that succeeded and printed findings.
type findings struct{ n int }

func (f *findings) Error() string { return fmt.Sprintf("%d findings", f.n) }

// usageError is the error of an invalid command line.
type usageError struct{ error }

// bootID returns an identifier of the current boot of the host. It is empty on
// kernels without one.
func (c *common) bootID() string {
	if c.boot != "" {
		return c.boot
	}
	return jobrun.BootID()
}
