package filestore

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// TestFilesNeverHaveThreeTexts pushes different texts, and no text, while the files are
// aligned. node_exporter exits if two files have different texts and a third has none.
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
				if err := SettleHelp(s); err != nil {
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
	if err := SettleHelp(s); err != nil {
		t.Fatal(err)
	}
	if n, aligned := s.merge.TextsIn("m"); !aligned {
		t.Errorf("the family has %d texts in the end", n)
	}
	if s.help.IsMixed() {
		t.Error("a family counts as not aligned")
	}
}

// TestOneRewriteForAllFamilies changes the texts of thousands of families in a few
// files. Each file is examined and rewritten once.
func TestOneRewriteForAllFamilies(t *testing.T) {
	s, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var flushes atomic.Int64
	s.Observe(Observers{Flush: func(float64) { flushes.Add(1) }})
	const families = 5000
	push := func(job, text string) {
		t.Helper()
		var b strings.Builder
		for i := range families {
			fmt.Fprintf(&b, "# HELP m%d %s\n# TYPE m%d gauge\nm%d 1\n", i, text, i, i)
		}
		f, err := exposition.Parse([]byte(b.String()), exposition.Limits{}, false)
		if err == nil {
			err = s.Replace(groupOf(t, job), f, record.PushOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	push("a", "A.")
	push("b", "B.")
	push("c", "C.")
	for _, step := range []struct {
		what   string
		change func()
	}{
		{"the first group is deleted", func() {
			if err := s.Delete(groupOf(t, "a")); err != nil {
				t.Fatal(err)
			}
		}},
		{"it is pushed again", func() { push("a", "A.") }},
	} {
		step.change()
		flushes.Store(0)
		s.misfits.taken = 0
		if err := SettleHelp(s); err != nil {
			t.Fatal(err)
		}
		if n, looked := flushes.Load(), s.misfits.taken; n != 2*2 || looked != 2 { // a rewrite syncs the file and the directory
			t.Errorf("%s: %d syncs and %d examined files, want 4 and 2", step.what, n, looked)
		}
		for i := range families {
			if n, aligned := s.merge.TextsIn(fmt.Sprint("m", i)); n != 1 || !aligned {
				t.Fatalf("%s: the files have %d texts for family %d", step.what, n, i)
			}
		}
	}

	// A family that has files in the queue is not searched again.
	for range 2 {
		push("a", fmt.Sprint("Text ", s.misfits.taken))
		s.findMisfits()
		s.misfits.taken++
	}
	if marked, files := len(s.misfits.marked), len(s.misfits.files); marked != families || files != 2 {
		t.Errorf("with files in the queue %d families are left to search and %d files wait, want %d and 2", marked, files, families)
	}
}

// TestHelpQueueIsFair takes files while others are added continuously. A family with few
// files waits for few others, and a family with many for as many as it has.
func TestHelpQueueIsFair(t *testing.T) {
	q := newHelpQueue()
	groups := func(family string, n int) (list []grouping.Key) {
		for i := range n {
			list = append(list, groupOf(t, fmt.Sprint(family, i)))
		}
		return list
	}
	left := map[grouping.Key]bool{}
	many := groups("many", 100)
	for _, g := range many {
		left[g] = true
	}
	q.add("many", many)
	for i := 0; len(left) > 0; i++ {
		if i > 3*len(many) {
			t.Fatalf("%d of %d files still wait after %d others", len(left), len(many), i)
		}
		few := fmt.Sprint("few", i)
		if q.waiting[few] == 0 {
			q.add(few, groups(few, 2))
		}
		for _, g := range q.take(1) {
			if i < 50 && left[g] {
				t.Errorf("take %d is a file of the large family, before the files of a small one", i)
			}
			delete(left, g)
		}
	}
	q.take(math.MaxInt)
	if !q.isEmpty() || len(q.waiting) > 0 {
		t.Errorf("an empty queue has %v", q)
	}

	// A file of two families waits as long as the smaller one, and leaves the queue for
	// both.
	shared := groupOf(t, "many7")
	q.add("many", many)
	q.add("pair", []grouping.Key{shared, groupOf(t, "pair")})
	if got := q.take(2); !slices.Contains(got, shared) || q.waiting["many"] != len(many)-1 || q.waiting["pair"] != 0 {
		t.Errorf("taken %v; %d and %d files wait", got, q.waiting["many"], q.waiting["pair"])
	}
}
