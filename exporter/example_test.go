package exporter_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore/merge"
)

func Example() {
	view := merge.Merge(nil, map[string][]byte{
		"backup.prom": []byte("# HELP backup_seconds How long it took.\n# TYPE backup_seconds gauge\nbackup_seconds 1800\n"),
		"disk.prom":   []byte("disk_ok 1\n"),
	})
	e := exporter.New(exporter.Config{
		View: func() *merge.View { return view }, // that of a filestore.Store, usually
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", e.Metrics)
	mux.HandleFunc("/-/healthy", e.Healthy)

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/metrics?name[]=backup_seconds", nil))
	fmt.Print(w.Body)
	// Output:
	// # HELP backup_seconds How long it took.
	// # TYPE backup_seconds gauge
	// backup_seconds 1800
}
