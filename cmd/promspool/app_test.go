package main

import (
	"io"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
)

// parse parses a command line without running the command.
func parse(args ...string) (command string, err error) {
	return newProgram(args, strings.NewReader(""), io.Discard, io.Discard).app.Parse(args)
}

// A commandLine is a command with its required arguments.
type commandLine struct {
	name  []string
	flags []*kingpin.FlagModel
	args  []*kingpin.ArgModel
}

func allCommands(t *testing.T) (all []commandLine) {
	t.Helper()
	var walk func(*kingpin.CmdGroupModel, []string, []*kingpin.FlagModel)
	walk = func(group *kingpin.CmdGroupModel, before []string, flags []*kingpin.FlagModel) {
		for _, cmd := range group.Commands {
			name := append(before[:len(before):len(before)], cmd.Name)
			flags := append(flags[:len(flags):len(flags)], cmd.Flags...)
			if walk(cmd.CmdGroupModel, name, flags); len(cmd.Commands) == 0 && cmd.Name != "help" {
				all = append(all, commandLine{name, flags, cmd.Args})
			}
		}
	}
	model := newProgram(nil, nil, io.Discard, io.Discard).app.Model()
	walk(model.CmdGroupModel, nil, model.Flags)
	if len(all) < 16 {
		t.Fatalf("only %d commands are found", len(all))
	}
	return all
}

// least returns the shortest valid command line. Arg is the value of the arguments.
func (c commandLine) least(arg string) []string {
	line := append([]string{}, c.name...)
	for _, f := range c.flags {
		if f.Required {
			line = append(line, "--"+f.Name+"=http://localhost:9091")
		}
	}
	for range c.args {
		line = append(line, arg)
	}
	return line
}

// Unset shell variables become empty values. Without a usage error the default would
// be used, which is another job, file or spool.
func TestEmptyValueOfAnyFlagIsAUsageError(t *testing.T) {
	for _, c := range allCommands(t) {
		if _, err := parse(c.least("job=x")...); err != nil {
			t.Fatalf("%q: %v", c.least("job=x"), err)
		}
		for _, f := range c.flags {
			if f.IsBoolFlag() || urlFlags[f.Name] || strings.HasPrefix(f.Name, "completion-") {
				continue
			}
			for _, given := range [][]string{{"--" + f.Name + "="}, {"--" + f.Name, ""}} {
				args := append(given, c.least("job=x")...)
				if len(c.name) > 0 {
					args = append(append(append([]string{}, c.name...), given...), c.least("job=x")[len(c.name):]...)
				}
				_, err := parse(args...)
				if want := emptyFlags[f.Name]; (err == nil) != want {
					t.Errorf("%q: %v, want an error: %t", args, err, !want)
				}
			}
		}
	}
}

func TestEmptyArgumentOfAnyCommandIsAUsageError(t *testing.T) {
	for _, c := range allCommands(t) {
		if len(c.args) == 0 {
			continue
		}
		lines := [][]string{c.least("")}
		if c.args[0].Name != "command" {
			lines = append(lines, append(c.least("job=x"), ""))
		}
		for _, line := range lines {
			if _, err := parse(line...); err == nil {
				t.Errorf("%q is accepted", line)
			}
		}
	}
	if _, err := parse("run", "--", "echo", ""); err != nil {
		t.Errorf("an empty argument of the command that run starts: %v", err)
	}
}

func TestEmptyEnvironmentVariableIsAUsageError(t *testing.T) {
	t.Setenv("PROMSPOOL_SPOOL_DIRECTORY", "")
	for _, c := range allCommands(t) {
		line := c.least("job=x")
		if _, err := parse(line...); err == nil || !strings.Contains(err.Error(), "PROMSPOOL_SPOOL_DIRECTORY is empty") {
			t.Errorf("%q: %v, want an error with the name of the variable", line, err)
		}
		if _, err := parse(append([]string{"--spool.directory=spool"}, line...)...); err != nil {
			t.Errorf("%q with --spool.directory: %v", line, err)
		}
	}
}
