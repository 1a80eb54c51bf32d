package exporter_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore/merge"
)

func TestTextfileCollectorSpeaksAsNodeExporterDoes(t *testing.T) {
	v := merge.Merge(nil, map[string][]byte{"good.prom": []byte("a 1\n"), "bad.prom": []byte("b\n")})
	reg := prometheus.NewRegistry()
	reg.MustRegister(exporter.NewTextfileCollector("/spool", func() *merge.View { return v }))
	mfs, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, mf := range mfs {
		for _, m := range mf.Metric {
			line := mf.GetName()
			for _, l := range m.Label {
				line += " " + l.GetValue()
			}
			if mf.GetName() == "node_textfile_scrape_error" && m.GetGauge().GetValue() == 1 {
				line += " 1"
			}
			got = append(got, line)
		}
	}
	if want := "node_textfile_mtime_seconds /spool/good.prom|node_textfile_scrape_error 1"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", strings.Join(got, "|"), want)
	}
}
