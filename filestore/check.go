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

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/nodeexporter"
	"github.com/promspool/promspool/filestore/record"
)

// NodeExporterVersion is the version of node_exporter that [Check] simulates.
const NodeExporterVersion = "1.12.1"

// NodeExporterOnly is the reason of a finding about node_exporter's textfile collector
// only. promspool serves the file, or ignores its name.
const NodeExporterOnly exposition.Reason = "node_exporter"

// A Finding is one problem of a file. Except for the name of the family it quotes nothing
// of the content, unless CheckOptions has Quote.
type Finding struct {
	File         string            `json:"file"` // the path, in the form of PrintableName
	Line         int               `json:"line"` // 0 for none
	Reason       exposition.Reason `json:"reason"`
	Family       string            `json:"family"`
	Message      string            `json:"message"`
	NodeExporter string            `json:"node_exporter"` // how its textfile collector treats it, such as "refuses the file"
}

// A Report is the result of [Check].
type Report struct {
	Files    int // number of files
	Series   int // samples in them
	Findings []Finding
}

// CheckOptions are the options of [Check]. The zero value of a field means its default.
type CheckOptions struct {
	Own          map[string]merge.Own // as in Options
	MaxFileBytes int64                // as in Options
	NodeExporter bool                 // also report problems of node_exporter alone
	Quote        bool                 // quote the offending text, for users who may read the files
}

// Check finds files, families and series that a Store on the given paths would not
// serve, and simulates node_exporter for them. A path is a file or a directory with
// spool files. All single files are merged as if in one directory. A file that is
// being written is read as it is. The report has the first fault of each file and all
// conflicts. The error lists paths that cannot be read; the Report has the others.
// opts may be nil. Check does not write, and is safe for concurrent use.
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
			errs = append(errs, disk.Wrap(path, err))
		}
	}
	c.together(files)
	return c.report, errors.Join(errs...)
}

// checker is the state of one call of Check.
type checker struct {
	opts   CheckOptions
	report *Report
}

// checked is one file of a Check.
type checked struct {
	base    string
	content *record.Content
	node    *nodeexporter.File
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
		if !strings.HasSuffix(name, grouping.Suffix) {
			continue
		}
		f, err := c.read(&disk.Dir{Path: path, File: dir}, name)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted just now
		} else if err != nil {
			return err
		}
		f.node.Hidden = !grouping.IsSpoolFile(name)
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
	f, err := c.read(&disk.Dir{Path: filepath.Dir(path), File: dir}, filepath.Base(path))
	if err == nil && f.content.File.Fault() != nil && f.content.File.Fault().Reason == exposition.Unreadable {
		err = errors.New(f.content.File.Fault().Msg)
	}
	return f, err
}

// read reads a file like a Store after the timeout for writers.
func (c *checker) read(d *disk.Dir, base string) (*checked, error) {
	for range 3 {
		r := reader{
			opts:    &Options{MaxFileBytes: c.opts.MaxFileBytes, Now: func() time.Time { return time.Now().Add(time.Hour) }},
			waiting: map[string]*wait{base: {}}, // since the zero time
		}
		o := r.look(d, readResult{base: base, key: base})
		switch {
		case o.new == nil && !o.retry:
			return nil, os.ErrNotExist
		case o.new == nil, o.new.File.IsBusy():
			continue
		}
		f := &checked{base: base, content: o.new, node: &nodeexporter.File{Path: filepath.Join(d.Path, base), Fault: o.new.File.Fault()}}
		if bad := o.new.File.Fault(); bad == nil || bad.Line > 0 || bad.Reason != exposition.NotRegular && bad.Reason != exposition.Unreadable && bad.Reason != exposition.TooLarge {
			data, err := os.ReadFile(f.node.Path)
			if err != nil {
				continue
			}
			f.node.Data, f.node.Read = data, true
		}
		return f, nil
	}
	return nil, errors.New("it changes while it is read")
}

// together merges files and adds findings to the report.
func (c *checker) together(files []*checked) {
	slices.SortFunc(files, func(a, b *checked) int {
		return cmp.Or(strings.Compare(a.base, b.base), strings.Compare(a.node.Path, b.node.Path))
	})
	m := merge.New(c.opts.Own)
	byKey := map[string]*checked{}
	var updates []merge.Update
	for _, f := range files {
		if f.node.Hidden {
			continue
		}
		c.report.Files++
		c.report.Series += f.content.File.Series()
		key := f.base
		if byKey[key] != nil { // files of one name in several directories
			key = filepath.Dir(f.node.Path) + string(filepath.Separator) + f.base
			f.content.File.Moved(key)
		}
		byKey[key] = f
		updates = append(updates, merge.Update{New: f.content})
	}
	nodes := make([]*nodeexporter.File, len(files))
	for i, f := range files {
		nodes[i] = f.node
	}
	nodeexporter.Imitate(nodes, func(family string) bool {
		_, own := c.opts.Own[family]
		return own
	})
	m.Apply(updates)
	found := map[*checked][]Finding{}
	for _, f := range files {
		if p := f.content.File.Problem(); p != nil && !f.node.Hidden {
			family, message := "", p.Msg
			if c.opts.Quote && p.Detail != "" {
				message = p.Detail
			}
			if f.content.File.Fault() == nil {
				family = f.node.Raw().FamilyAt(p.Line)
			}
			found[f] = append(found[f], Finding{Line: p.Line, Reason: p.Reason, Family: family, Message: message})
		}
	}
	for _, x := range m.View().Conflicts() {
		kept := "the agent's own metrics"
		if k := byKey[x.Kept]; k != nil {
			kept = fmt.Sprintf("%q", record.PrintableName(k.node.Path))
		}
		f := byKey[x.File]
		found[f] = append(found[f], Finding{Line: f.node.Raw().LineOf(x.Family, x.Line), Reason: x.Reason, Family: x.Family, Message: sentence(x, kept)})
	}
	for _, f := range files {
		c.report.Findings = append(c.report.Findings, f.findings(found[f], c.opts.NodeExporter)...)
	}
}

// sentence returns the message of the Conflict without the series.
func sentence(x *record.Conflict, kept string) string {
	switch {
	case x.Reason == exposition.TypeConflict:
		return fmt.Sprintf("family %q has another type in %s: its type is %s there and %s here", x.Family, kept, x.KeptType, x.Type)
	case x.Reason == exposition.Reserved && x.Line == "":
		return fmt.Sprintf("family %q belongs to the agent", x.Family)
	case x.Line == "":
		return fmt.Sprintf("family %q collides with a histogram or summary, or with a part of one, in %s", x.Family, kept)
	}
	const other = "start times, exemplars or native histograms (om2 lines)"
	differ := "other values"
	switch {
	case x.Extra == x.Series:
		differ = "equal values but other " + other
	case x.Extra > 0:
		differ = "other values, " + other
	}
	return fmt.Sprintf("%d of the samples of family %q are in %s already, with %s", x.Series, x.Family, kept, differ)
}

// findings adds the behavior of node_exporter for the files.
func (f *checked) findings(found []Finding, nodeExporter bool) []Finding {
	told := map[int]bool{}
	for i := range found {
		x := &found[i]
		x.NodeExporter = nodeexporter.Serves
		for j, n := range f.node.Notes {
			if n.Family == "" || n.Family == x.Family || f.content.File.Fault() != nil {
				told[j] = true
				if x.NodeExporter == nodeexporter.Serves || n.Does == nodeexporter.Dies {
					x.NodeExporter = n.Does
				}
			}
		}
	}
	for j, n := range f.node.Notes {
		if nodeExporter && !told[j] && (f.node.Hidden || f.content.File.Fault() == nil) {
			found = append(found, Finding{Line: n.Line, Reason: NodeExporterOnly, Family: n.Family, Message: n.Why, NodeExporter: n.Does})
		}
	}
	for i := range found {
		found[i].File = record.PrintableName(f.node.Path)
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return found
}
