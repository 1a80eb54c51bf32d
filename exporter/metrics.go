package exporter

import (
	"math"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

var (
	groupsDesc     = prometheus.NewDesc("promspool_groups", "Pushed groups in the spool.", nil, nil)
	filesDesc      = prometheus.NewDesc("promspool_files", "Dropped files in the spool.", nil, nil)
	seriesDesc     = prometheus.NewDesc("promspool_series", "Samples in all files of the spool, including those not served.", nil, nil)
	bytesDesc      = prometheus.NewDesc("promspool_spool_bytes", "Total size of the files of the spool.", nil, nil)
	groupBytesDesc = prometheus.NewDesc("promspool_spool_group_bytes", "Total size of the files of pushed groups; the limit is promspool_spool_limit_bytes.", nil, nil)
	faultsDesc     = prometheus.NewDesc("promspool_files_with_errors", "Files that are not, or not completely, served, by reason. promspool_file_error names them.", []string{"reason"}, nil)
	directoryDesc  = prometheus.NewDesc("promspool_directory_error", "1 if a directory cannot be read, with the reason.", []string{"directory", "reason"}, nil)
)

// NewCollector returns metrics about the spool as a whole. They are computed
// from the current view whenever they are collected, so they agree with each
// other and cannot drift. The Collector is safe for concurrent use.
//
// What there is to say about single files is in the view itself.
func NewCollector(view func() *merge.View) prometheus.Collector {
	return collector{view}
}

type collector struct{ view func() *merge.View }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{groupsDesc, filesDesc, seriesDesc, bytesDesc, groupBytesDesc, faultsDesc, directoryDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	v := c.view()
	t := v.Totals()
	gauge(groupsDesc, float64(t.Groups))
	gauge(filesDesc, float64(t.Dropped))
	gauge(seriesDesc, float64(t.Series))
	gauge(bytesDesc, float64(t.Bytes))
	gauge(groupBytesDesc, float64(t.GroupBytes))
	for _, r := range exposition.Reasons {
		gauge(faultsDesc, float64(t.Faults[r]), string(r))
	}
	for _, e := range v.DirectoryErrors() {
		gauge(directoryDesc, 1, record.PrintableName(e.Directory), string(e.Reason))
	}
}

var (
	limitGroupsDesc = prometheus.NewDesc("promspool_spool_limit_groups", "Maximum number of pushed groups; +Inf without a limit.", nil, nil)
	limitBytesDesc  = prometheus.NewDesc("promspool_spool_limit_bytes", "Maximum total size of the files of pushed groups; +Inf without a limit.", nil, nil)
	sizeDesc        = prometheus.NewDesc("promspool_spool_size_bytes", "Size of the file system of the spool.", nil, nil)
	freeDesc        = prometheus.NewDesc("promspool_spool_free_bytes", "Space on the file system of the spool that the agent may use.", nil, nil)
)

// NewRoom returns metrics about how much may still be pushed: the limits, of
// which zero means none, and what space says of the file system. If that does not
// know, the metrics about it are missing. The Collector is safe for concurrent
// use.
func NewRoom(space func() (size, free uint64, err error), maxGroups int, maxBytes int64) prometheus.Collector {
	return room{space, maxGroups, maxBytes}
}

type room struct {
	space     func() (size, free uint64, err error)
	maxGroups int
	maxBytes  int64
}

// Describe implements prometheus.Collector.
func (r room) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{limitGroupsDesc, limitBytesDesc, sizeDesc, freeDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (r room) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	limit := func(n float64) float64 {
		if n <= 0 {
			return math.Inf(1)
		}
		return n
	}
	gauge(limitGroupsDesc, limit(float64(r.maxGroups)))
	gauge(limitBytesDesc, limit(float64(r.maxBytes)))
	if size, free, err := r.space(); err == nil {
		gauge(sizeDesc, float64(size))
		gauge(freeDesc, float64(free))
	}
}

// NewTextfileCollector returns what node_exporter's textfile collector says
// about files, by the same names, for alerts that were written for it:
// node_textfile_mtime_seconds for each dropped file that is served, and
// node_textfile_scrape_error, 1 if any is not or if a directory cannot be read. Each scrape costs in the number
// of dropped files. view may return nil; spool is the directory that the names
// of files in it belong to.
func NewTextfileCollector(spool string, view func() *merge.View) prometheus.Collector {
	return textfileCollector{spool, view}
}

// TextfileFamilies describes the families of that collector for filestore.Options.Own.
// [OwnFamilies] does not find them while there is no file.
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
