package exporter

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

var (
	groupsDesc     = prometheus.NewDesc("promspool_groups", "Pushed groups in the spool.", nil, nil)
	filesDesc      = prometheus.NewDesc("promspool_files", "Dropped files in the spool: those that were not pushed.", nil, nil)
	seriesDesc     = prometheus.NewDesc("promspool_series", "Samples in all files of the spool, whether or not they can be served.", nil, nil)
	bytesDesc      = prometheus.NewDesc("promspool_spool_bytes", "Size of all files of the spool.", nil, nil)
	groupBytesDesc = prometheus.NewDesc("promspool_spool_group_bytes", "Size of the files of pushed groups, for which promspool_spool_limit_bytes is the limit.", nil, nil)
	faultsDesc     = prometheus.NewDesc("promspool_files_with_errors", "Files that are not served, or not all of them, by the reason why. See promspool_file_error for which.", []string{"reason"}, nil)
	directoryDesc  = prometheus.NewDesc("promspool_directory_error", "1 for a directory none of whose files can be read, and why.", []string{"directory", "reason"}, nil)
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
