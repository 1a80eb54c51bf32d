package filestore

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// TestFilesNeverHaveThreeTexts pushes different texts at once, and none, while the
// files are aligned. node_exporter ends where it finds two texts and a file without.
func TestFilesNeverHaveThreeTexts(t *testing.T) {
	s, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var writers, others sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(6, uint64(w)))
			g := groupOf(t, fmt.Sprint("j", w))
			for i := range 40 {
				text := fmt.Sprintf("# HELP m Text %d.\n", r.IntN(4))
				if r.IntN(3) == 0 {
					text = ""
				}
				f, err := exposition.Parse([]byte(text+fmt.Sprintf("# TYPE m gauge\nm %d\n", i)), exposition.Limits{}, false)
				if err == nil {
					err = s.Replace(g, f, record.PushOptions{})
				}
				if err == nil && r.IntN(8) == 0 {
					err = s.Delete(g)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := s.SettleHelp(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
	})
	worst := 0
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				s.mu.Lock()
				n, _ := s.merge.TextsIn("m")
				worst = max(worst, n)
				s.mu.Unlock()
				runtime.Gosched()
			}
		}
	})
	writers.Wait()
	close(done)
	others.Wait()
	if worst != 2 {
		t.Errorf("up to %d texts in files, want 2", worst)
	}
	if err := s.SettleHelp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, aligned := s.merge.TextsIn("m"); !aligned {
		t.Errorf("the family has %d texts at rest", n)
	}
	if s.help.IsMixed() {
		t.Error("a family counts as not aligned")
	}
}
