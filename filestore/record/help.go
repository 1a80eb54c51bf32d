package record

import (
	"strconv"
	"strings"
	"unique"

	"github.com/promspool/promspool/filestore/exposition"
)

// A family is served with the HELP text of the first dropped file that has one,
// because that file cannot be rewritten, else with that of the first group that
// pushed one. The order is that of the merge.
//
// node_exporter drops a family whose text differs between files or is missing in
// one. So the files of groups hold the text that is served. If the group pushed
// another text, or none, a comment of its file has that:
//
//	# promspool:help 0 NAME TEXT
//
// In memory the description of a part has the pushed text, and [File.stored] has
// those that differ in the file. The merge reads only the first, so the exposition
// does not depend on which files are rewritten already: see [Store.AlignHelp]. The
// number, once a Unix time, is ignored.
const helpDirective = "help"

// askedHelp sets the HELP texts of parts to those that the group pushed, and returns
// the descriptions in the file that differ from them.
func askedHelp(parts []exposition.Part, directives []exposition.Directive) (stored []unique.Handle[exposition.Desc]) {
	var asked map[string]string
	for _, d := range directives {
		if d.Key != helpDirective {
			continue
		}
		if name, text, ok := parseAsked(d.Text); ok {
			if asked == nil {
				asked = make(map[string]string)
			}
			asked[name] = text
		}
	}
	if asked == nil {
		return nil
	}
	for i := range parts {
		d := parts[i].Desc.Value()
		if text, ok := asked[d.Name]; ok && text != d.Help {
			stored = append(stored, parts[i].Desc)
			d.Help = text
			parts[i].Desc = unique.Make(d)
		}
	}
	return stored
}

// parseAsked reads the value of a help directive.
func parseAsked(value string) (name, text string, ok bool) {
	number, rest, _ := strings.Cut(value, " ")
	if _, err := strconv.ParseFloat(number, 64); err != nil || rest == "" {
		return "", "", false
	}
	if name, text, ok = exposition.ParseHelp(rest); !ok {
		return "", "", false
	}
	return name, text, true
}

// appendAsked appends directives with the pushed texts that differ from those in the
// file.
func (f *File) appendAsked(b []byte) []byte {
	for _, h := range f.stored {
		name := h.Value().Name
		asked, _ := f.Has(name)
		b = append(b, exposition.DirectivePrefix+helpDirective+" 0 "...)
		b = exposition.AppendName(b, name)
		if asked.Help != "" {
			b = append(b, ' ')
			b = exposition.AppendHelp(b, asked.Help)
		}
		b = append(b, '\n')
	}
	return b
}

// HelpInFile returns the HELP text that the file has for one of its families.
func (f *File) HelpInFile(d exposition.Desc) string {
	if o, ok := findDesc(f.stored, d.Name); ok {
		return o.Help
	}
	return d.Help
}

// TextOf returns the HELP text of a family in a group's file, and whether the file
// has the family. The file may be nil.
func (f *File) TextOf(name string) (text string, ok bool) {
	if f == nil {
		return "", false
	}
	d, ok := f.Has(name)
	if !ok {
		return "", false
	}
	return f.HelpInFile(d), true
}

// ClearStored sets all texts of the file to the pushed ones.
func (f *File) ClearStored() { f.stored = nil }

// SetStored sets the text of the file for a family that was pushed with d.Help.
func (f *File) SetStored(d exposition.Desc, text string) {
	if text != d.Help {
		d.Help = text
		f.stored = append(f.stored, unique.Make(d))
	}
}
