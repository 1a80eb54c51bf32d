// Package nodeexporter simulates the textfile collector of node_exporter: how it
// would read a set of files in its directory.
package nodeexporter

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/exposition"
)

// How node_exporter treats a file, or a part of it.
const (
	Serves      = "serves it"
	nodeReads   = "reads it"
	nodeChanges = "serves other values"
	nodeTwice   = "serves a series twice"
	nodePoisons = "serves a page that Prometheus refuses"
	nodeSeries  = "drops some series"
	nodeDrops   = "drops the family"
	nodeMayDrop = "may drop the family"
	nodeOwn     = "loses metrics of its own"
	nodeRefuses = "refuses the file"
	Dies        = "dies"
	nodeHangs   = "hangs"
)

// A Note describes how node_exporter treats a file or, if there is one, a family in
// it.
type Note struct {
	Does, Family, Why string
	Line              int
}

// File is one file that node_exporter might read.
type File struct {
	Path   string
	Hidden bool // read by node_exporter alone
	Data   []byte
	Read   bool                    // the file was read into data
	Fault  *exposition.SyntaxError // why promspool does not serve it; nil if it does
	fams   *exposition.Families    // made by raw
	Notes  []Note
}

// Raw returns the parsed families of the file.
func (f *File) Raw() *exposition.Families {
	if f.fams == nil {
		var err error
		if f.fams, err = exposition.ParseFile(f.Data); err != nil {
			f.fams = &exposition.Families{}
		}
	}
	return f.fams
}

func (f *File) note(does, family, why string) {
	line := 0
	if family != "" {
		line = f.Raw().LineOf(family, "")
	}
	f.Notes = append(f.Notes, Note{does, family, why, line})
}

// textfile simulates the textfile collector of node_exporter and its registry. After
// a file on which node_exporter dies or hangs it continues without that file, to find
// further problems.
type textfile struct {
	own    func(family string) bool
	list   []nodeFamily
	served map[string]*dto.MetricFamily // families in the registry, without metrics
	series map[string]bool              // series in the registry, with the empty labels
	plain  map[string]bool              // the same without empty labels, as in Prometheus
}

type nodeFamily struct {
	*dto.MetricFamily
	by *File
}

// Imitate adds notes to each file for node_exporter with all of them in one
// directory. The files must be in the order of names.
func Imitate(files []*File, own func(family string) bool) {
	t := textfile{own: own, served: map[string]*dto.MetricFamily{}, series: map[string]bool{}, plain: map[string]bool{}}
	type help struct{ first, other string }
	helps := map[string]help{}
	for _, f := range files {
		if !f.Read {
			f.noteUnread()
			continue
		}
		fams := f.nodeParse(f.Data)
		for _, name := range slices.Sorted(maps.Keys(fams)) {
			mf := fams[name]
			if h, seen := helps[name]; seen && (mf.Help != nil && h.first != *mf.Help || h.other != "") {
				if mf.Help == nil {
					f.note(Dies, name, "two files before this one have different HELP texts for the family and this one has none")
					continue
				}
				f.note(nodeDrops, name, "a file before this one has another HELP text for the family")
				helps[name] = help{h.first, *mf.Help}
				continue
			}
			if mf.Help != nil {
				helps[name] = help{first: *mf.Help}
			}
			t.list = append(t.list, nodeFamily{mf, f})
		}
		if fams != nil && f.Hidden {
			f.note(nodeReads, "", "the name begins with a dot, so it is not meant to be read")
		}
	}
	for _, mf := range t.list {
		t.register(mf)
	}
}

// noteUnread adds the note for a file that is too large or not a regular file.
func (f *File) noteUnread() {
	fi, err := os.Stat(f.Path)
	switch {
	case err == nil && fi.Mode()&os.ModeNamedPipe != 0:
		f.note(nodeHangs, "", "it waits for a writer of the pipe")
	case err == nil && (fi.Mode().IsRegular() || fi.Mode()&os.ModeDevice != 0) && f.Fault.Reason != exposition.Unreadable:
		f.note(nodeReads, "", "it reads to the end, however far that is")
	case err == nil && f.Fault.Reason == exposition.Unreadable:
		f.note(nodeReads+" if its user may", "", f.Fault.Msg)
	default:
		f.note(nodeRefuses, "", f.Fault.Msg)
	}
}

// standIn is a name for a sample that has none.
const standIn = "node_exporter_stand_in"

// nodeParse returns the families that node_exporter parses from a file, nil if it
// rejects the file.
func (f *File) nodeParse(data []byte) (fams map[string]*dto.MetricFamily) {
	defer func() {
		if recover() != nil {
			f.note(Dies, "", "its parser panics")
			fams = nil
		}
	}()
	p := expfmt.NewTextParser(model.LegacyValidation)
	fams, err := p.TextToMetricFamilies(bytes.NewReader(data))
	var bad expfmt.ParseError
	if errors.As(err, &bad) {
		lines := bytes.SplitAfter(data, []byte("\n"))
		at := lines[min(bad.Line, len(lines))-1]
		if text := bytes.TrimLeft(at, " \t"); bad.Msg == "invalid metric name" && len(text) > 0 && text[0] == '{' {
			// Its parser adds the labels to the sample before.
			switch sample, header := before(lines[:bad.Line-1]); {
			case sample && hasLabelOf(lines[:bad.Line-1], text):
				f.Notes = append(f.Notes, Note{Dies, "", "a sample has labels and no name, and a label of the sample before", bad.Line})
				return nil
			case sample:
				lines[bad.Line-1] = append([]byte(standIn), text...)
				if fams = f.nodeParse(bytes.Join(lines, nil)); fams != nil {
					f.Notes = append(f.Notes, Note{nodeChanges, "", "it gives the labels of a sample without a name to the sample before", bad.Line})
					delete(fams, standIn)
				}
				return fams
			case header:
				f.Notes = append(f.Notes, Note{Dies, "", "a sample has labels and no name", bad.Line})
				return nil
			}
		}
		f.Notes = append(f.Notes, Note{nodeRefuses, "", nodeReason(bad.Msg, at), bad.Line})
		return nil
	} else if err != nil {
		f.note(nodeRefuses, "", "it is not what its parser accepts")
		return nil
	}
	for _, mf := range fams {
		for _, m := range mf.Metric {
			if m.TimestampMs != nil {
				f.note(nodeRefuses, "", "a sample carries a timestamp")
				return nil
			}
		}
	}
	if !utf8.ValidString(f.Path) {
		f.note(Dies, "", "the name of the file is not UTF-8")
		return nil
	}
	return fams
}

// before reports whether there is a sample, or a header line, among the lines.
func before(lines [][]byte) (sample, header bool) {
	for _, l := range lines {
		l = bytes.TrimLeft(l, " \t")
		if rest, ok := bytes.CutPrefix(l, []byte("#")); ok {
			words := bytes.Fields(rest)
			header = header || len(words) > 2 && (string(words[0]) == "HELP" || string(words[0]) == "TYPE")
		} else if len(bytes.TrimSpace(l)) > 0 {
			sample = true
		}
	}
	return sample, header
}

// hasLabelOf reports whether a sample without a name has a label of the last sample
// in the lines.
func hasLabelOf(lines [][]byte, text []byte) bool {
	labels := func(text []byte) (all []exposition.Label) {
		if fams, err := exposition.ParseFile(text); err == nil {
			for _, f := range fams.List {
				all = append(all, f.Samples[0].Labels...)
			}
		}
		return all
	}
	mine := labels(append([]byte(standIn), text...))
	for _, l := range slices.Backward(lines) {
		l = bytes.TrimLeft(l, " \t\n")
		if len(l) == 0 || l[0] == '#' {
			continue
		}
		if slices.ContainsFunc(labels(l), func(a exposition.Label) bool {
			return slices.ContainsFunc(mine, func(b exposition.Label) bool { return a.Name == b.Name })
		}) {
			return true
		}
		if !bytes.HasPrefix(l, []byte(standIn)) { // without a name it belongs to the sample before
			return false
		}
	}
	return false
}

// nodeReason returns why its parser rejects a line, without quoting the line.
func nodeReason(msg string, line []byte) string {
	text := bytes.TrimSuffix(line, []byte("\n"))
	switch {
	case len(text) == len(line):
		return "the file does not end in a newline"
	case bytes.HasPrefix(text, []byte(exposition.ByteOrderMark)):
		return "the file begins with a byte order mark"
	case bytes.HasSuffix(text, []byte("\r")):
		return "the line ends in a carriage return"
	case strings.HasPrefix(msg, "second "):
		return "a second HELP or TYPE line for a metric, or one after its samples"
	case bytes.HasSuffix(text, []byte(" ")) || bytes.HasSuffix(text, []byte("\t")):
		return "the line ends in a blank"
	case strings.HasPrefix(msg, "unknown metric type"):
		return "a type that its parser does not know"
	case strings.HasPrefix(msg, "invalid metric name"), strings.HasPrefix(msg, "invalid label name"):
		return "a name is not [a-zA-Z_:][a-zA-Z0-9_:]*"
	}
	return "the line is not what its parser accepts"
}

// register simulates the registry for the metrics of one family.
func (t *textfile) register(mf nodeFamily) {
	f, name, labels := mf.by, mf.GetName(), map[string]bool{}
	for _, m := range mf.Metric {
		for _, l := range m.Label {
			labels[l.GetName()] = true
		}
	}
	names := slices.Sorted(maps.Keys(labels))
	switch {
	case mf.GetType() == dto.MetricType_GAUGE_HISTOGRAM:
		f.note(Dies, name, "the family is a gauge histogram")
		return
	case slices.ContainsFunc(names, func(s string) bool { return strings.HasPrefix(s, "__") }):
		f.note(Dies, name, "a label name begins with two underscores")
		return
	}
	if has := t.served[name]; has != nil {
		switch {
		case (has.Help == nil) != (mf.Help == nil):
			f.note(nodeDrops, name, "of this file and another that has the family only one has a HELP line")
			return
		case has.GetType() != mf.GetType():
			f.note(nodeDrops, name, "another file has the family with another type, or one of the two has no TYPE line")
			return
		}
	} else if t.suffixConflict(name, mf.GetType()) {
		f.note(nodeDrops, name, "the family collides with a histogram or summary, or with a part of one")
		return
	} else {
		t.served[name] = &dto.MetricFamily{Help: mf.Help, Type: mf.Type}
	}
	twice, twiceToPrometheus := 0, 0
	for _, m := range mf.Metric {
		values := map[string]string{}
		for _, l := range m.Label {
			values[l.GetName()] = l.GetValue()
		}
		padded, plain := name, name
		for _, n := range names {
			padded += "\xff" + n + "\xff" + values[n]
			if values[n] != "" {
				plain += "\xff" + n + "\xff" + values[n]
			}
		}
		switch {
		case t.series[padded]:
			twice++
		case t.plain[plain]:
			twiceToPrometheus++
		}
		t.series[padded], t.plain[plain] = true, true
	}
	if twice > 0 {
		f.note(nodeSeries, name, fmt.Sprintf("%d series of the family are there already, and it logs each of them at every scrape", twice))
	}
	if twiceToPrometheus > 0 {
		f.note(nodeTwice, name, fmt.Sprintf("%d series of the family differ from others only in labels with empty values, which Prometheus takes for the same", twiceToPrometheus))
	}
	t.changes(mf, len(names))
}

// suffixConflict reports whether a new family and another one conflict by a reserved
// suffix.
func (t *textfile) suffixConflict(name string, typ dto.MetricType) bool {
	reserves := func(t dto.MetricType, suffix string) bool {
		return t == dto.MetricType_HISTOGRAM || t == dto.MetricType_SUMMARY && suffix != "_bucket"
	}
	for _, suffix := range exposition.CompositeSuffixes {
		if t.served[name+suffix] != nil && reserves(typ, suffix) {
			return true
		}
		base, ok := strings.CutSuffix(name, suffix)
		if has := t.served[base]; ok && has != nil && reserves(has.GetType(), suffix) {
			return true
		}
	}
	return false
}

// manyLabels is the number of labels added to a family from which a note is made.
const manyLabels = 100_000

// changes adds notes about metrics that are served differently from the file.
func (t *textfile) changes(mf nodeFamily, labels int) {
	f, name := mf.by, mf.GetName()
	fractions, missing, cut, own := false, false, false, 0
	if fam := f.Raw().ByName[name]; fam != nil && fam.Typ == exposition.Summary {
		cut = slices.ContainsFunc(fam.Samples, func(s exposition.Sample) bool {
			return s.Name == name+"_count" && s.Value != float64(uint64(s.Value))
		})
	}
	for _, m := range mf.Metric {
		own += len(m.Label)
		if h := m.Histogram; h != nil {
			fractions = fractions || h.SampleCountFloat != nil
			missing = missing || h.SampleCount == nil && h.SampleCountFloat == nil || h.SampleSum == nil
			inf := false
			for _, b := range h.Bucket {
				fractions, inf = fractions || b.CumulativeCountFloat != nil, inf || math.IsInf(b.GetUpperBound(), 1)
			}
			missing = missing || !inf
		}
		if s := m.Summary; s != nil {
			missing = missing || s.SampleCount == nil || s.SampleSum == nil
		}
	}
	ours := t.own(name)
	switch {
	case fractions:
		f.note(nodeChanges, name, "it serves 0 for the counts of a histogram of which one is a fraction")
	case cut:
		f.note(nodeChanges, name, "it serves the count of a summary without its fraction or sign")
	case missing:
		f.note(nodeChanges, name, "it invents the sum, the count or the last bucket that a histogram or summary does not have")
	case !utf8.ValidString(mf.GetHelp()):
		f.note(nodePoisons, name, "the HELP text is not UTF-8")
	case len(mf.Metric)*labels-own > manyLabels:
		f.note(nodeChanges, name, fmt.Sprintf("it gives every series all %d label names of the family, %d labels in all", labels, len(mf.Metric)*labels))
	case name == "node_textfile_mtime_seconds", name == "node_textfile_scrape_error":
		f.note(nodeOwn, name, "the family has the name of one of its own")
	case ours && (strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_")):
		f.note(nodeMayDrop, name, "the family has the name of one of its own; the HELP texts decide")
	}
}
