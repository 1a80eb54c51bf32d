package exporter

import (
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// NewTextfileCollector returns what node_exporter's textfile collector says
// about files, by the same names, for alerts that were written for it:
// node_textfile_mtime_seconds for each dropped file that is served, and
// node_textfile_scrape_error, 1 if any is not or if a directory cannot be read. Each scrape costs in the number
// of dropped files. view may return nil; spool is the directory that the names
// of files in it belong to.
func NewTextfileCollector(spool string, view func() *merge.View) prometheus.Collector {
	return textfileCollector{spool, view}
}

// TextfileFamilies is what a store has to be told of that collector, beside
// what [OwnFamilies] finds: there may be no file yet.
var TextfileFamilies = map[string]merge.Own{"node_textfile_mtime_seconds": {Type: exposition.Gauge, Labels: []string{"file"}}}

type textfileCollector struct {
	spool string
	view  func() *merge.View
}

var (
	textfileMtime = prometheus.NewDesc("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.", []string{"file"}, nil)
	textfileError = prometheus.NewDesc("node_textfile_scrape_error", "1 if there was an error opening or reading a file, 0 otherwise", nil, nil)
)

// Describe implements prometheus.Collector.
func (c textfileCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- textfileMtime
	ch <- textfileError
}

// Collect implements prometheus.Collector.
func (c textfileCollector) Collect(ch chan<- prometheus.Metric) {
	failed := 0.0
	if v := c.view(); v != nil {
		if len(v.DirectoryErrors()) > 0 {
			failed = 1
		}
		for f := range v.Files() {
			switch {
			case f.Err() != nil:
				failed = 1
			case f.Group().IsZero():
				name := f.Name()
				if !filepath.IsAbs(name) {
					name = filepath.Join(c.spool, name)
				}
				ch <- prometheus.MustNewConstMetric(textfileMtime, prometheus.GaugeValue, float64(f.ModTime().UnixNano())/1e9, record.PrintableName(name))
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(textfileError, prometheus.GaugeValue, failed)
}
