package filestore

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
)

func TestHasHelp(t *testing.T) {
	v := Merge(map[string]Own{"own_total": {Type: Counter, Labels: nil}}, map[string][]byte{
		"a.prom": []byte("# HELP a One \\\\ two\\nthree.\n# TYPE a gauge\na 1\nb 2\n# HELP \"c.d\" In quotes.\n{\"c.d\"} 3\n" +
			"# HELP own_total Theirs.\n# TYPE own_total counter\nown_total{file=\"a\"} 1\n"),
	})
	for _, c := range []struct {
		family, help string
		want         bool
	}{
		{"a", "One \\ two\nthree.", true},
		{"a", "One", false},
		{"a", "", false},
		{"b", "", true},
		{"b", "x", false},
		{"c.d", "In quotes.", true},
		{"c.d", "In quotes", false},
		{"own_total", "Theirs.", true},
		{"nothing", "", false},
	} {
		if got := v.hasHelp(&family{name: c.family}, c.help); got != c.want {
			t.Errorf("hasHelp(%q, %q) = %v", c.family, c.help, got)
		}
	}
}

// TestALongSearchForHelpHappensOnce changes files of a family in which few have a
// text: the list that the first long search has made stays right.
func TestALongSearchForHelpHappensOnce(t *testing.T) {
	const n = 3 * helpWalk
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 5))
		m := newMerger(nil)
		set := func(k int, text string, gone bool) {
			t.Helper()
			name, first := fmt.Sprintf("%03d.prom", k), ""
			if k%3 > 0 {
				g, err := NewGroup(Label{"job", fmt.Sprintf("%03d", k)})
				if err != nil {
					t.Fatal(err)
				}
				name, first = g.FileName(), "# promspool:group "+g.String()+"\n"
			}
			if text != "" {
				text = "# HELP m " + text + "\n"
			}
			typ := "gauge"
			if r.IntN(20) == 0 {
				typ = "counter" // of which nothing is served
			}
			u := update{old: m.file(name)}
			if u.old != nil {
				u.oldParts = m.view().parts(u.old)
			}
			if !gone {
				u.new = parseFile(name, []byte(first+text+"# TYPE m "+typ+"\nm{x=\""+name+"\"} 1\n"))
			}
			m.apply([]update{u})
		}
		for k := range n {
			set(k, "", false)
		}
		made := false
		for step := range 400 {
			k := r.IntN(n)
			switch r.IntN(4) {
			case 0, 1:
				set(k, fmt.Sprintf("Text %d.", r.IntN(5)), false)
			case 2:
				set(k, "", false)
			case 3: // whose text counts now
				if f := m.fams["m"]; f.helpBy != nil {
					_, err := fmt.Sscanf(f.helpBy.name[max(0, len(f.helpBy.name)-8):], "%d.prom", &k)
					if err != nil {
						t.Fatal(err)
					}
				}
				set(k, "", r.IntN(2) == 0)
			}
			f := m.fams["m"]
			want := m.findAskers(f)
			made = made || f.askers != nil
			if f.askers != nil && !slices.Equal(f.askers, want) || f.texts != len(want) {
				t.Fatalf("seed %d, step %d: %d texts and %d in the list, want %d", seed, step, f.texts, len(f.askers), len(want))
			}
			if made && f.askers == nil {
				t.Fatalf("seed %d, step %d: the list is gone", seed, step)
			}
			by, text := (*ident)(nil), ""
			if len(want) > 0 {
				by, text = want[0], m.asked(f, want[0])
			}
			if f.helpBy != by || f.help != text {
				t.Fatalf("seed %d, step %d: the text is %q, want %q", seed, step, f.help, text)
			}
		}
		if !made {
			t.Errorf("seed %d: no search was long", seed)
		}
	}
}

// TestFilesNeverHaveThreeTexts pushes different texts at once, and none, while the
// files are aligned. node_exporter ends where it finds two texts and a file without.
func TestFilesNeverHaveThreeTexts(t *testing.T) {
	t.Parallel()
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
				f, err := Parse([]byte(text+fmt.Sprintf("# TYPE m gauge\nm %d\n", i)), Limits{}, false)
				if err == nil {
					err = s.Replace(g, f, PushOptions{})
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
				if f := s.merge.fams["m"]; f != nil {
					worst = max(worst, 1+len(f.others))
				}
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
	for _, f := range s.merge.fams {
		if !f.aligned() {
			t.Errorf("family %s is not aligned: %q in %d files, %v", f.name, f.inFiles, f.n, f.others)
		}
	}
	if s.merge.mixed.Load() != 0 {
		t.Errorf("%d families count as not aligned", s.merge.mixed.Load())
	}
}
