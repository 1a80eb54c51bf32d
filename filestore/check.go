package filestore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// NodeExporterVersion is the version of node_exporter that [Check] imitates.
const NodeExporterVersion = "1.12.1"

// NodeExporterOnly is the reason of a finding that concerns node_exporter's
// textfile collector alone: here the file is served, or not meant to be read.
const NodeExporterOnly Reason = "node_exporter"

// A Finding is one thing that [Check] has to say of a file. Except for the name
// of the family it quotes nothing of the content.
type Finding struct {
	File         string `json:"file"` // the path, as PrintableName has it
	Line         int    `json:"line"` // 0 if it is not about a line
	Reason       Reason `json:"reason"`
	Family       string `json:"family"`
	Message      string `json:"message"`
	NodeExporter string `json:"node_exporter"` // what its textfile collector does, such as "refuses the file"
}

// A Report is what [Check] found.
type Report struct {
	Files    int // that were looked at
	Series   int // samples in them
	Findings []Finding
}

// CheckOptions change what [Check] does. The zero value of a field means its default.
type CheckOptions struct {
	Own          map[string]Own // as in Options
	MaxFileBytes int64          // as in Options
	NodeExporter bool           // also tell what concerns node_exporter alone
}

// Check says what a Store on the given paths would not serve, and what
// node_exporter would do with it. A path is a directory, whose spool files are
// merged, or a file; all files given are merged as if they lay in one directory.
// A file that somebody is writing is taken as it is at the moment. Of each file
// the first fault is told, and all that contradicts other files. The error is
// about paths that cannot be read; the Report, which is the caller's, has the
// others all the same. Nothing is written. opts may be nil; Check may be called
// by many goroutines at once.
func Check(paths []string, opts *CheckOptions) (*Report, error) {
	c := checker{report: &Report{Findings: []Finding{}}}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.MaxFileBytes == 0 {
		c.opts.MaxFileBytes = 16 << 20
	}
	var errs []error
	var files []*checked
	seen := map[string]bool{}
	for _, path := range paths {
		path = filepath.Clean(path)
		if seen[path] {
			continue
		}
		seen[path] = true
		fi, err := os.Stat(path)
		if err == nil && fi.IsDir() {
			err = c.directory(path)
		} else {
			var f *checked
			if f, err = c.file(path); err == nil {
				files = append(files, f)
			}
		}
		if err != nil {
			errs = append(errs, doing(path, err))
		}
	}
	c.together(files)
	return c.report, errors.Join(errs...)
}

// checker is the work of one call of Check.
type checker struct {
	opts   CheckOptions
	report *Report
}

// checked is one file that is looked at.
type checked struct {
	path    string
	base    string
	hidden  bool // read by node_exporter alone
	content *content
	data    []byte
	read    bool      // data is what it holds; else it was not to be read
	fams    *Families // made by raw
	node    []nodeNote
}

func (c *checker) directory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only read
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	var files []*checked
	for _, name := range names {
		if !strings.HasSuffix(name, Suffix) {
			continue
		}
		f, err := c.read(&directory{path: path, dir: dir}, name)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed just now
		} else if err != nil {
			return err
		}
		f.hidden = !IsSpoolFile(name)
		files = append(files, f)
	}
	c.together(files)
	return nil
}

func (c *checker) file(path string) (*checked, error) {
	if _, err := os.Lstat(path); err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // only read
	f, err := c.read(&directory{path: filepath.Dir(path), dir: dir}, filepath.Base(path))
	if err == nil && f.content.file.err != nil && f.content.file.err.Reason == Unreadable {
		err = errors.New(f.content.file.err.Msg)
	}
	return f, err
}

// read reads a file as a Store does that has waited for its writer for long.
func (c *checker) read(d *directory, base string) (*checked, error) {
	for range 3 {
		s := &Store{waiting: map[string]time.Time{base: {}}}
		s.opts = Options{MaxFileBytes: c.opts.MaxFileBytes, Now: func() time.Time { return time.Now().Add(time.Hour) }}
		s.view.Store(newMerger(nil).view())
		o := s.look(d, outcome{base: base, key: base})
		switch {
		case o.new == nil && !o.again:
			return nil, os.ErrNotExist
		case o.new == nil:
			continue
		}
		f := &checked{path: filepath.Join(d.path, base), base: base, content: o.new}
		if bad := o.new.file.err; bad == nil || bad.Line > 0 || bad.Reason != NotRegular && bad.Reason != Unreadable && bad.Reason != TooLarge {
			data, err := os.ReadFile(f.path)
			if err != nil {
				continue
			}
			f.data, f.read = data, true
		}
		return f, nil
	}
	return nil, errors.New("it changes while it is read")
}

// together merges files and adds what is to be said of them to the report.
func (c *checker) together(files []*checked) {
	slices.SortFunc(files, func(a, b *checked) int {
		return cmp.Or(strings.Compare(a.base, b.base), strings.Compare(a.path, b.path))
	})
	m := newMerger(c.opts.Own)
	byKey := map[string]*checked{}
	var updates []update
	for _, f := range files {
		if f.hidden {
			continue
		}
		c.report.Files++
		c.report.Series += f.content.file.series
		key := f.base
		if byKey[key] != nil { // of several files of one name, as they lie in several directories
			key = filepath.Dir(f.path) + string(filepath.Separator) + f.base
			f.content.file.id = droppedIdent(key)
		}
		byKey[key] = f
		updates = append(updates, update{new: f.content})
	}
	imitateNodeExporter(files, c.opts.Own)
	m.apply(updates)
	found := map[*checked][]Finding{}
	for _, f := range files {
		if p := f.content.file.Problem(); p != nil && !f.hidden {
			family := ""
			if f.content.file.err == nil {
				family = f.familyAt(p.Line)
			}
			found[f] = append(found[f], Finding{Line: p.Line, Reason: p.Reason, Family: family, Message: p.Msg})
		}
	}
	for _, x := range m.view().Conflicts() {
		kept := "the agent's own metrics"
		if k := byKey[x.Kept]; k != nil {
			kept = fmt.Sprintf("%q", PrintableName(k.path))
		}
		f := byKey[x.File]
		found[f] = append(found[f], Finding{Line: f.lineOf(x.Family, x.Line), Reason: x.Reason, Family: x.Family, Message: sentence(x, kept)})
	}
	for _, f := range files {
		c.report.Findings = append(c.report.Findings, f.findings(found[f], c.opts.NodeExporter)...)
	}
}

// sentence says what an Error of the Conflict says, without the series.
func sentence(x *Conflict, kept string) string {
	switch {
	case x.Reason == TypeConflict:
		return fmt.Sprintf("family %q has another type in %s", x.Family, kept)
	case x.Reason == Reserved && x.Line == "":
		return fmt.Sprintf("family %q belongs to the agent", x.Family)
	case x.Line == "":
		return fmt.Sprintf("family %q collides with a histogram or summary, or with a part of one, in %s", x.Family, kept)
	}
	return fmt.Sprintf("%d of the samples of family %q are in %s already, with other values", x.Series, x.Family, kept)
}

// findings completes what was found with what node_exporter does.
func (f *checked) findings(found []Finding, nodeExporter bool) []Finding {
	told := map[int]bool{}
	for i := range found {
		x := &found[i]
		x.NodeExporter = nodeServes
		for j, n := range f.node {
			if n.family == "" || n.family == x.Family || f.content.file.err != nil {
				told[j] = true
				if x.NodeExporter == nodeServes || n.does == nodeDies {
					x.NodeExporter = n.does
				}
			}
		}
	}
	for j, n := range f.node {
		if nodeExporter && !told[j] && (f.hidden || f.content.file.err == nil) {
			found = append(found, Finding{Line: n.line, Reason: NodeExporterOnly, Family: n.family, Message: n.why, NodeExporter: n.does})
		}
	}
	for i := range found {
		found[i].File = PrintableName(f.path)
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return found
}

// raw returns the families of the file as they were read.
func (f *checked) raw() *Families {
	if f.fams == nil {
		var err error
		if f.fams, err = parse(f.data, fileLimits, true, true); err != nil {
			f.fams = &Families{}
		}
	}
	return f.fams
}

// familyAt returns the family of the sample in that line.
func (f *checked) familyAt(line int) string {
	for _, fam := range f.raw().list {
		if slices.ContainsFunc(fam.samples, func(s sample) bool { return s.line == line }) {
			return fam.name
		}
	}
	return ""
}

// lineOf returns the line of a series of a family, or the family's first.
func (f *checked) lineOf(family, series string) int {
	fam := f.raw().byName[family]
	if fam == nil {
		return 0
	}
	for i := range fam.samples {
		c := canonicalizer{lenient: true}
		if series != "" && c.add(fam, &fam.samples[i]) == nil {
			if c.write(fam, &c.records[0]); seriesOf(string(c.text)) == series {
				return fam.samples[i].line
			}
		}
	}
	return fam.samples[0].line
}

// What node_exporter does with a file, or with a part of it.
const (
	nodeServes  = "serves it"
	nodeReads   = "reads it"
	nodeChanges = "serves other values"
	nodeTwice   = "serves a series twice"
	nodePoisons = "serves a page that Prometheus refuses"
	nodeSeries  = "drops some series"
	nodeDrops   = "drops the family"
	nodeOwn     = "loses metrics of its own"
	nodeRefuses = "refuses the file"
	nodeDies    = "dies"
	nodeHangs   = "hangs"
)

// nodeNote says what node_exporter does with a file or, if there is one, with a
// family in it.
type nodeNote struct {
	does, family, why string
	line              int
}

func (f *checked) note(does, family, why string) {
	line := 0
	if family != "" {
		line = f.lineOf(family, "")
	}
	f.node = append(f.node, nodeNote{does, family, why, line})
}

// textfile imitates the textfile collector of node_exporter, and what its
// registry makes of what the collector sends. Where that dies or hangs it goes
// on as if the culprit were not there, to have more to say.
type textfile struct {
	own    map[string]Own
	list   []nodeFamily
	served map[string]*dto.MetricFamily // what the registry has, without metrics
	series map[string]bool              // what it has, with the empty labels
	plain  map[string]bool              // what it has to Prometheus' eyes
}

type nodeFamily struct {
	*dto.MetricFamily
	by *checked
}

// imitateNodeExporter notes at each file what node_exporter does with it if it
// has all of them in one directory. The files are in the order of names.
func imitateNodeExporter(files []*checked, own map[string]Own) {
	t := textfile{own: own, served: map[string]*dto.MetricFamily{}, series: map[string]bool{}, plain: map[string]bool{}}
	type help struct{ first, other string }
	helps := map[string]help{}
	for _, f := range files {
		if !f.read {
			f.noteUnread()
			continue
		}
		fams := f.nodeParse(f.data)
		for _, name := range slices.Sorted(maps.Keys(fams)) {
			mf := fams[name]
			if h, seen := helps[name]; seen && (mf.Help != nil && h.first != *mf.Help || h.other != "") {
				if mf.Help == nil {
					f.note(nodeDies, name, "two files before this one have different HELP texts for the family and this one has none")
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
		if fams != nil && f.hidden {
			f.note(nodeReads, "", "the name begins with a dot, so it is not meant to be read")
		}
	}
	for _, mf := range t.list {
		t.register(mf)
	}
}

// noteUnread notes what happens to what is no regular file, or too large.
func (f *checked) noteUnread() {
	fi, err := os.Stat(f.path)
	switch {
	case err == nil && fi.Mode()&os.ModeNamedPipe != 0:
		f.note(nodeHangs, "", "it waits for somebody to write to the pipe")
	case err == nil && (fi.Mode().IsRegular() || fi.Mode()&os.ModeDevice != 0) && f.content.file.err.Reason != Unreadable:
		f.note(nodeReads, "", "it reads to the end, however far that is")
	case err == nil && f.content.file.err.Reason == Unreadable:
		f.note(nodeReads+" if its user may", "", f.content.file.err.Msg)
	default:
		f.note(nodeRefuses, "", f.content.file.err.Msg)
	}
}

// nodeParse returns what node_exporter gets out of a file, nil if it is refused.
func (f *checked) nodeParse(data []byte) (fams map[string]*dto.MetricFamily) {
	defer func() {
		if recover() != nil {
			f.note(nodeDies, "", "its parser panics")
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
			// Its parser takes the labels for those of the sample before.
			switch sample, header := before(lines[:bad.Line-1]); {
			case sample:
				f.node = append(f.node, nodeNote{nodeChanges, "", "it gives the labels of a sample without a name to the sample before", bad.Line})
				lines[bad.Line-1] = []byte("\n")
				return f.nodeParse(bytes.Join(lines, nil))
			case header:
				f.node = append(f.node, nodeNote{nodeDies, "", "a sample has labels and no name", bad.Line})
				return nil
			}
		}
		f.node = append(f.node, nodeNote{nodeRefuses, "", nodeReason(bad.Msg, at), bad.Line})
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
	if !utf8.ValidString(f.path) {
		f.note(nodeDies, "", "the name of the file is not UTF-8")
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

// nodeReason says why its parser refuses a line, without quoting the line.
func nodeReason(msg string, line []byte) string {
	text := bytes.TrimSuffix(line, []byte("\n"))
	switch {
	case len(text) == len(line):
		return "the file does not end in a newline"
	case bytes.HasPrefix(text, []byte(byteOrderMark)):
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

// register does what the registry does with the metrics of one family.
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
		f.note(nodeDies, name, "the family is a gauge histogram")
		return
	case slices.ContainsFunc(names, func(s string) bool { return strings.HasPrefix(s, "__") }):
		f.note(nodeDies, name, "a label name begins with two underscores")
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
	} else if t.collides(name, mf.GetType()) {
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

// collides reports whether a new family meets another one by a reserved suffix.
func (t *textfile) collides(name string, typ dto.MetricType) (hit bool) {
	reserves := func(t dto.MetricType, suffix string) bool {
		return t == dto.MetricType_HISTOGRAM || t == dto.MetricType_SUMMARY && suffix != "_bucket"
	}
	related(name, func(other, suffix string) {
		if has := t.served[other]; has != nil {
			hit = hit || reserves(typ, suffix) && len(other) > len(name) || len(other) < len(name) && reserves(has.GetType(), suffix)
		}
	})
	return hit
}

// manyLabels is how many labels may be added to a family before it is worth a word.
const manyLabels = 100_000

// changes notes what is served otherwise than it was written.
func (t *textfile) changes(mf nodeFamily, labels int) {
	f, name := mf.by, mf.GetName()
	fractions, missing, cut, own := false, false, false, 0
	if fam := f.raw().byName[name]; fam != nil && fam.typ == Summary {
		cut = slices.ContainsFunc(fam.samples, func(s sample) bool {
			return s.name == name+"_count" && s.value != float64(uint64(s.value))
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
	_, ours := t.own[name]
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
		f.note(nodeSeries, name, "the family has the name of one of its own; the HELP texts decide")
	}
}
