package main

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"

	"github.com/promspool/promspool/filestore/wording"
)

// emptyFlags are the flags whose empty value has a meaning: that of the default.
// Unit files written for Pushgateway may have them.
var emptyFlags = map[string]bool{
	"persistence.file": true, "web.config.file": true, "web.cors.origin": true, "web.external-url": true, "web.listen-address": true, "web.route-prefix": true,
}

// urlFlags are the flags that reject an empty value themselves, like every other
// invalid URL.
var urlFlags = map[string]bool{"url": true, "from": true}

// rejectEmpty rejects a command line with an empty value, and an empty environment
// variable. Such values come from unset shell variables, and the default would be
// another job, file or spool.
//
// Arguments of the command of "promspool run" may be empty.
func rejectEmpty(app *kingpin.Application, context *kingpin.ParseContext) error {
	given := map[string]bool{}
	for _, e := range context.Elements {
		switch clause := e.Clause.(type) {
		case *kingpin.FlagClause:
			name := clause.Model().Name
			if given[name] = true; e.Value != nil && *e.Value == "" && !emptyFlags[name] && !urlFlags[name] {
				return fmt.Errorf("--%s: the value is empty: give one, or leave out the flag", name)
			}
		case *kingpin.ArgClause:
			name := clause.Model().Name
			if e.Value != nil && *e.Value == "" && !(name == "command" && given[name]) {
				return fmt.Errorf("an argument is empty: give a %s", name)
			}
			given[name] = true
		}
	}
	for _, flag := range app.Model().Flags {
		if value, ok := os.LookupEnv(flag.Envar); ok && value == "" && flag.Envar != "" && !given[flag.Name] {
			return fmt.Errorf("%s is empty: set it to a value, or unset it", flag.Envar)
		}
	}
	return nil
}

// overview is the help of the program: a screen with a line for each command.
const overview = `usage: promspool COMMAND [FLAG...] [ARGUMENT...]

{{.App.Help|Wrap 0}}
{{range .App.Commands}}{{if and (not .Hidden) (ne .Name "help")}}{{printf "  %-9s%s" .Name (FirstLine .Help)}}
{{end}}{{end}}
Flags without a command start the agent, as serve does. The flags of all commands
are --spool.directory, --log.level, --log.format, --help and --version.

"promspool help COMMAND" shows the flags and examples of a command,
"promspool --help-long" all of them.
`

// manual is what --help-man prints: the manual page, with the help of every
// command and flag in it, so that there is one text for both.
//
//go:embed manual.1.tmpl
var manual string

// addManual makes --help-man print the manual page.
func addManual(app *kingpin.Application) {
	kingpin.ManPageTemplate = manual
	app.UsageFuncs(template.FuncMap{
		"Roff":    roff,
		"Text":    text,
		"Version": func() string { return version.Version },
		"Date":    date,
		"Value":   value,
		"FirstLine": func(help string) string {
			line, _, _ := strings.Cut(help, "\n")
			return line
		},
	})
}

// date returns the date of the sources, for reproducible builds.
func date() string {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.DateOnly)
}

// roff escapes the special characters of manual pages.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`, `^`, `\(ha`, `~`, `\(ti`, "`", `\(ga`, `'`, `\(aq`).Replace(s)
}

// text formats the paragraphs of a help text. Indented lines are kept.
func text(s string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		example := strings.HasPrefix(paragraph, "  ")
		if example {
			b.WriteString(".nf\n")
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			if line = roff(line); strings.HasPrefix(line, ".") {
				line = `\&` + line
			}
			b.WriteString(line + "\n")
		}
		if example {
			b.WriteString(".fi\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// value returns the default of a flag, or a placeholder. The default of the spool
// depends on the host.
func value(f *kingpin.FlagModel) string {
	if f.Name == "spool.directory" || len(f.Default) == 0 || f.Default[0] == "" {
		return `\fIVALUE\fR`
	}
	return `\fI` + roff(strings.Join(f.Default, ",")) + `\fR`
}

// addCompletions makes --completion-script-bash and --completion-script-zsh print
// scripts that include the commands. kingpin's own scripts ask the program, which
// reads the first word as an argument of the default command.
func addCompletions() {
	kingpin.BashCompletionTemplate = bashCompletion
	kingpin.ZshCompletionTemplate = zshCompletion
}

const completedCommands = `{{range .App.Commands}}{{if not .Hidden}}{{.Name}} {{end}}{{end}}`

const bashCompletion = `# What bash completes for promspool.
_promspool() {
    local cur=${COMP_WORDS[COMP_CWORD]} words
    words=$("${COMP_WORDS[0]}" --completion-bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ $COMP_CWORD == 1 && $cur != -* ]]; then
        words+=" ` + completedCommands + `"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _promspool -o default promspool
`

const zshCompletion = `#compdef promspool
# What zsh completes for promspool.
_promspool() {
    local -a matches
    matches=(${(f)"$(${words[1]} --completion-bash "${(@)words[2,$CURRENT]}" 2>/dev/null)"})
    if [[ $CURRENT == 2 && $words[2] != -* ]]; then
        matches+=(` + completedCommands + `)
    fi
    compadd -a matches
    if [[ $compstate[nmatches] -eq 0 && $words[$CURRENT] != -* ]]; then
        _files
    fi
}
if [[ $funcstack[1] == _promspool ]]; then
    _promspool "$@"
else
    compdef _promspool promspool
fi
`

// usageWriter is the destination of help. The library treats a write error as a bug of
// its own.
type usageWriter struct {
	io.Writer
	err  error // first error
	mute bool
}

func (w *usageWriter) Write(p []byte) (int, error) {
	if w.err == nil && !w.mute {
		_, w.err = w.Writer.Write(p)
	}
	return len(p), nil
}

// namedFlag returns the error of a command line with the name of the flag, which the
// library omits.
func namedFlag(app *kingpin.Application, args []string, err error) error {
	context, parseErr := app.ParseContext(args)
	if parseErr != nil {
		return err
	}
	for _, e := range context.Elements {
		flag, ok := e.Clause.(*kingpin.FlagClause)
		if !ok || e.Value == nil {
			continue
		}
		m := flag.Model()
		if again := m.Value.Set(*e.Value); again != nil && again.Error() == err.Error() {
			return fmt.Errorf("--%s: %w", m.Name, err)
		}
	}
	return err
}

// explained returns the error of a command line with the probable name of an unknown
// command or flag.
func explained(app *kingpin.Application, args []string, err error) error {
	var command *kingpin.CmdModel
	if context, _ := app.ParseContext(args); context != nil && context.SelectedCommand != nil {
		command = context.SelectedCommand.Model()
	}
	if name, value, ok := valueOfSwitch(app, command, args); ok && strings.HasPrefix(err.Error(), "unexpected ") {
		return fmt.Errorf("invalid value %q: use --%s or --no-%s without a value", wording.Visible(value), name, name)
	}
	unknown := func(kind, dashes, word string, names []string) error {
		if near := wording.Nearest(word, names...); near != "" {
			return fmt.Errorf("unknown %s %s (did you mean %s?)", kind, dashes+wording.Visible(word), dashes+near)
		}
		return fmt.Errorf("unknown %s %s", kind, dashes+wording.Visible(word))
	}
	if word, ok := strings.CutPrefix(err.Error(), "unknown long flag '--"); ok {
		flags := app.Model().Flags
		if command != nil {
			flags = slices.Concat(flags, command.Flags)
		}
		return unknown("flag", "--", strings.TrimSuffix(word, "'"), flagNames(flags))
	}
	if word, ok := strings.CutPrefix(err.Error(), "unexpected "); ok && (command == nil || command.Default && !slices.Contains(args, command.Name)) {
		return unknown("command", "", word, commandNames(app.Model().Commands))
	}
	if word, ok := strings.CutPrefix(err.Error(), "expected command but got "); ok && command != nil {
		if bare, err := strconv.Unquote(word); err == nil {
			return unknown("command", "", bare, commandNames(command.Commands))
		}
	}
	return err
}

// valueOfSwitch returns the first flag without values that has one. The library takes
// the value for an argument.
func valueOfSwitch(app *kingpin.Application, command *kingpin.CmdModel, args []string) (name, value string, ok bool) {
	flags := app.Model().Flags
	if command != nil {
		flags = slices.Concat(flags, command.Flags)
	}
	for _, arg := range args {
		if arg == "--" {
			break
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "--"), "no-"), "=")
		if ok && strings.HasPrefix(arg, "--") && slices.ContainsFunc(flags, func(f *kingpin.FlagModel) bool { return f.Name == name && f.IsBoolFlag() }) {
			return name, value, true
		}
	}
	return "", "", false
}

// flagNames returns the names of the visible flags.
func flagNames(flags []*kingpin.FlagModel) []string {
	var names []string
	for _, f := range flags {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	}
	return names
}

// commandNames returns the names of the visible commands.
func commandNames(commands []*kingpin.CmdModel) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}
