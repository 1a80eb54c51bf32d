package ingest_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
)

// TestRequestsShareOneWait sends requests of all kinds while another process holds
// the lock of the spool. In the bubble time passes only when all goroutines wait.
func TestRequestsShareOneWait(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store, err := filestore.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		h, err := ingest.New(ingest.Config{Store: store, Pings: true})
		if err != nil {
			t.Fatal(err)
		}
		lock, err := os.OpenFile(filepath.Join(dir, ".promspool.lock"), unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		send := func(method, path string, body []byte, encoding string) int {
			r := httptest.NewRequest(method, path, bytes.NewReader(body))
			r.RemoteAddr = "127.0.0.1:1"
			r.Header.Set("Content-Encoding", encoding)
			w := httptest.NewRecorder()
			if !h.Serve(w, r, path) {
				t.Errorf("%s %s is not a route", method, path)
			}
			return w.Code
		}
		packed := compressed(t, "gzip", []byte("m 1\n"))
		start := time.Now()
		var work sync.WaitGroup
		for i := range 20 {
			for _, send := range []func() int{
				func() int { return send("GET", fmt.Sprintf("/ping/new%d", i), nil, "") },
				func() int { return send("PUT", fmt.Sprintf("/metrics/job/p%d", i%7), packed, "gzip") },
				func() int { return send("POST", fmt.Sprintf("/metrics/job/q%d", i), []byte("m 1\n"), "") },
				func() int { return send("DELETE", fmt.Sprintf("/metrics/job/p%d", i%7), nil, "") },
			} {
				work.Go(func() {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond)
					if code := send(); code != http.StatusServiceUnavailable {
						t.Errorf("request %d = %d, want 503", i, code)
					}
				})
			}
		}
		work.Wait()
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("the requests took %v, want that all share one wait", took)
		}
	})
}

// TestTheLimitOfJobsIsOne has many new jobs ping at once.
func TestTheLimitOfJobsIsOne(t *testing.T) {
	a := start(t, nil, func(cfg *ingest.Config) { cfg.Pings, cfg.MaxSlugs = true, 10 })
	var work sync.WaitGroup
	var taken, refused atomic.Int32
	for i := range 60 {
		work.Go(func() {
			switch code, body := a.request("GET", fmt.Sprintf("/ping/job%d", i/2)); code {
			case http.StatusOK:
				taken.Add(1)
			case http.StatusInsufficientStorage:
				refused.Add(1)
			default:
				t.Errorf("ping = %d %s", code, body)
			}
		})
	}
	work.Wait()
	if n := a.store.View().Totals().Groups; n != 10 || refused.Load() == 0 {
		t.Errorf("%d jobs are on record, %d pings were taken and %d refused; want 10 jobs", n, taken.Load(), refused.Load())
	}
	for i := range 10 { // recorded jobs still get pings
		for f := range a.store.View().Files() {
			if code, body := a.request("GET", "/ping/"+f.Group().Label("job")); code != http.StatusOK {
				t.Errorf("ping %d of a job on record = %d %s", i, code, body)
			}
		}
	}
}
