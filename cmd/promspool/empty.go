package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kingpin/v2"
)

// emptyFlags are the flags whose empty value has a meaning: that of the default.
// Unit files written for Pushgateway may have them.
var emptyFlags = map[string]bool{
	"persistence.file": true, "web.config.file": true, "web.cors.origin": true, "web.external-url": true, "web.route-prefix": true,
}

// urlFlags are the flags that reject an empty value themselves, as they do every
// other value that is no URL.
var urlFlags = map[string]bool{"url": true, "from": true}

// rejectEmpty rejects a command line with an empty value, and an empty environment
// variable. Such a value comes from an unset variable of a shell, and the default
// in its place would be another job, file or spool.
//
// Arguments of a command that run starts may be empty.
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
