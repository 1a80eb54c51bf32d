package main

import (
	_ "embed"
	"os"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
)

// manual is what --help-man prints: the manual page, with the help of every
// command and flag in it, so that there is one text for both.
//
//go:embed manual.1.tmpl
var manual string

// addManual makes --help-man print the manual.
func addManual(app *kingpin.Application) {
	kingpin.ManPageTemplate = manual
	app.UsageFuncs(template.FuncMap{
		"Roff":    roff,
		"Text":    text,
		"Version": func() string { return version.Version },
		"Date":    date,
		"Value":   value,
	})
}

// date is that of the sources, in builds that are to be reproduced.
func date() string {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.DateOnly)
}

// roff escapes what has a meaning in the language of manual pages.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`, `^`, `\(ha`, `~`, `\(ti`, "`", `\(ga`, `'`, `\(aq`).Replace(s)
}

// text makes paragraphs of a help text: what is indented stays as it is.
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

// value is the default of a flag, or else a word for its value. The default of
// the spool depends on the host.
func value(f *kingpin.FlagModel) string {
	if f.Name == "spool.directory" || len(f.Default) == 0 || f.Default[0] == "" {
		return `\fIVALUE\fR`
	}
	return `\fI` + roff(strings.Join(f.Default, ",")) + `\fR`
}
