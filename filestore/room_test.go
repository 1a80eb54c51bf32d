package filestore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

func TestMaxBytes(t *testing.T) {
	const limit = 4000
	s, err := filestore.Open(t.TempDir(), &filestore.Options{MaxBytes: limit})
	must(t, err)
	defer s.Close()
	push := func(job string, samples int) error {
		var text strings.Builder
		for i := range samples {
			fmt.Fprintf(&text, "m{i=\"%d\",pad=%q} 1\n", i, strings.Repeat("x", 100))
		}
		f, err := exposition.Parse([]byte(text.String()), exposition.Limits{}, false)
		must(t, err)
		g, err := grouping.New(exposition.Label{Name: "job", Value: job})
		must(t, err)
		return s.Replace(g, f, record.PushOptions{})
	}
	must(t, push("a", 10))
	must(t, push("b", 10))
	full := push("a", 30)
	if !errors.Is(full, filestore.ErrFull) || !strings.Contains(full.Error(), "--spool.max-bytes=4000") {
		t.Errorf("a push beyond the limit gives %v", full)
	}
	if err := push("c", 30); !errors.Is(err, filestore.ErrFull) {
		t.Errorf("a push of a new group beyond the limit gives %v", err)
	}
	must(t, push("a", 10)) // of the same size
	must(t, push("a", 1))
	must(t, push("c", 10)) // in the freed space

	// Concurrent pushes cannot exceed the limit together.
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() { _ = push(fmt.Sprint("n", i), 5) })
	}
	group.Wait()
	if n := s.View().Totals().GroupBytes; n > limit || n < limit/2 {
		t.Errorf("the groups take %d bytes, want some, and %d at most", n, limit)
	}
	if size, free, err := s.Space(); err != nil || size == 0 || free > size {
		t.Errorf("Space() = %d, %d, %v", size, free, err)
	}
}

// TestFullSpoolRecordsNoFailure expects that rejected pushes add no records to a full
// spool.
func TestFullSpoolRecordsNoFailure(t *testing.T) {
	for name, opts := range map[string]*filestore.Options{
		"groups": {MaxGroups: 1}, "bytes": {MaxBytes: 1}, "none": {MaxFailedGroups: -1},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := filestore.Open(t.TempDir(), opts)
			must(t, err)
			defer s.Close()
			for _, job := range []string{"a", "b"} {
				g, err := grouping.New(exposition.Label{Name: "job", Value: job})
				must(t, err)
				must(t, s.Fail(g))
			}
			if n, most := s.View().Totals().Groups, 1; n > most || name == "none" && n > 0 {
				t.Errorf("%d groups have a record", n)
			}
		})
	}
}
