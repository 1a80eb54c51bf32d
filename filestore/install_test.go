package filestore

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// pushedTo replaces a group with one gauge.
func pushedTo(t *testing.T, s *Store, g grouping.Key, value int) error {
	t.Helper()
	f, err := exposition.Parse(fmt.Appendf(nil, "# TYPE a gauge\na %d\n", value), exposition.Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	return s.Replace(g, f, record.PushOptions{})
}

// TestInstallAfterPanic panics in installs while others are queued. Each panic is
// recovered, as a server does. The queued commits and later ones must not hang.
func TestInstallAfterPanic(t *testing.T) {
	s, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// panics runs f and reports whether it panicked.
	panics := func(f func()) (did bool) {
		defer func() { did = recover() != nil }()
		f()
		return false
	}
	var work sync.WaitGroup
	for w := range 8 {
		work.Go(func() {
			g := groupOf(t, fmt.Sprint("w", w))
			for i := range 40 {
				if w > 0 {
					push := func() {
						if err := pushedTo(t, s, g, i); err != nil {
							t.Error(err)
						}
					}
					for panics(push) { // its install ran the one that panics
					}
					continue
				}
				panics(func() {
					d, err := s.spool.inUse()
					if err != nil {
						t.Error(err)
						return
					}
					defer d.Release()
					_ = s.install(&pendingCommit{d: d, name: g.FileName(), check: true}) // has no content
				})
			}
		})
	}
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("pushes hang in the queue")
	}
	if n := s.View().Totals().Groups; n != 7 {
		t.Errorf("%d groups, want 7", n)
	}
}

func groupOf(t *testing.T, job string) grouping.Key {
	t.Helper()
	g, err := grouping.New(exposition.Label{Name: "job", Value: job})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestCommitRetries expects that continuous pushes to a group do not starve another
// process, even if they interrupt its commit hundreds of times.
func TestCommitRetries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := groupOf(t, "a")
	f, err := exposition.Parse([]byte("# TYPE b gauge\nb 1\n"), exposition.Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	change := s.changeOf(g)
	parts, series, err := change.Canonical(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	at, err := s.commit(g, true, func(old *record.Content) (*record.Content, error) {
		if tries++; tries <= 200 {
			if err := pushedTo(t, other, g, tries); err != nil {
				return nil, err
			}
		}
		return change.Content(old, parts, series, 1, 0)
	})
	if err != nil {
		t.Fatalf("after %d tries: %v", tries, err)
	}
	if err := s.syncDirectory(at); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.View().File(g.FileName()).Has("b"); !ok {
		t.Error("the commit is not in the view")
	}
}
