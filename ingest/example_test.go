package ingest_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
)

func ExampleHandler_Serve() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := filestore.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	h, err := ingest.New(ingest.Config{Store: store})
	if err != nil {
		log.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.Serve(w, r, r.URL.EscapedPath()) {
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()

	resp, err := http.Post(srv.URL+"/metrics/job/backup/instance/db1", "", strings.NewReader("backup_bytes 1e9\n"))
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)
	for f := range store.View().Files() {
		fmt.Println(f.Name())
	}
	// Output:
	// 200
	// job=backup,instance=db1.prom
}

func ExampleParsePath() {
	g, strip, err := ingest.ParsePath("job/backup/path@base64/L3Zhci90bXA/shard@base64/=", false)
	fmt.Println(g, strip, err)
	// Output:
	// {job="backup",path="/var/tmp"} [shard] <nil>
}
