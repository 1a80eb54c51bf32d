package filestore

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
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
	base    string
	content *content
	node    *nodeFile
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
		f.node.hidden = !IsSpoolFile(name)
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
		r := reader{
			opts:    &Options{MaxFileBytes: c.opts.MaxFileBytes, Now: func() time.Time { return time.Now().Add(time.Hour) }},
			waiting: map[string]*wait{base: {}}, // for ever so long
		}
		o := r.look(d, outcome{base: base, key: base})
		switch {
		case o.new == nil && !o.again:
			return nil, os.ErrNotExist
		case o.new == nil, o.new.file.isBusy():
			continue
		}
		f := &checked{base: base, content: o.new, node: &nodeFile{path: filepath.Join(d.path, base), fault: o.new.file.err}}
		if bad := o.new.file.err; bad == nil || bad.Line > 0 || bad.Reason != NotRegular && bad.Reason != Unreadable && bad.Reason != TooLarge {
			data, err := os.ReadFile(f.node.path)
			if err != nil {
				continue
			}
			f.node.data, f.node.read = data, true
		}
		return f, nil
	}
	return nil, errors.New("it changes while it is read")
}

// together merges files and adds what is to be said of them to the report.
func (c *checker) together(files []*checked) {
	slices.SortFunc(files, func(a, b *checked) int {
		return cmp.Or(strings.Compare(a.base, b.base), strings.Compare(a.node.path, b.node.path))
	})
	m := newMerger(c.opts.Own)
	byKey := map[string]*checked{}
	var updates []update
	for _, f := range files {
		if f.node.hidden {
			continue
		}
		c.report.Files++
		c.report.Series += f.content.file.series
		key := f.base
		if byKey[key] != nil { // of several files of one name, as they lie in several directories
			key = filepath.Dir(f.node.path) + string(filepath.Separator) + f.base
			f.content.file.moved(key)
		}
		byKey[key] = f
		updates = append(updates, update{new: f.content})
	}
	nodes := make([]*nodeFile, len(files))
	for i, f := range files {
		nodes[i] = f.node
	}
	imitateNodeExporter(nodes, func(family string) bool {
		_, own := c.opts.Own[family]
		return own
	})
	m.apply(updates)
	found := map[*checked][]Finding{}
	for _, f := range files {
		if p := f.content.file.Problem(); p != nil && !f.node.hidden {
			family := ""
			if f.content.file.err == nil {
				family = f.node.raw().familyAt(p.Line)
			}
			found[f] = append(found[f], Finding{Line: p.Line, Reason: p.Reason, Family: family, Message: p.Msg})
		}
	}
	for _, x := range m.view().Conflicts() {
		kept := "the agent's own metrics"
		if k := byKey[x.Kept]; k != nil {
			kept = fmt.Sprintf("%q", PrintableName(k.node.path))
		}
		f := byKey[x.File]
		found[f] = append(found[f], Finding{Line: f.node.raw().lineOf(x.Family, x.Line), Reason: x.Reason, Family: x.Family, Message: sentence(x, kept)})
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
		for j, n := range f.node.notes {
			if n.family == "" || n.family == x.Family || f.content.file.err != nil {
				told[j] = true
				if x.NodeExporter == nodeServes || n.does == nodeDies {
					x.NodeExporter = n.does
				}
			}
		}
	}
	for j, n := range f.node.notes {
		if nodeExporter && !told[j] && (f.node.hidden || f.content.file.err == nil) {
			found = append(found, Finding{Line: n.line, Reason: NodeExporterOnly, Family: n.family, Message: n.why, NodeExporter: n.does})
		}
	}
	for i := range found {
		found[i].File = PrintableName(f.node.path)
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return found
}
