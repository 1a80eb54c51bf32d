package merge

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

func TestHasHelp(t *testing.T) {
	v := Merge(map[string]Own{"own_total": {Type: exposition.Counter, Labels: nil}}, map[string][]byte{
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
		if got := v.HasHelp(c.family, c.help); got != c.want {
			t.Errorf("hasHelp(%q, %q) = %v", c.family, c.help, got)
		}
	}
}

// TestALongSearchForHelpHappensOnce changes files of a family in which few have a
// text. The list of the first long search stays correct.
func TestALongSearchForHelpHappensOnce(t *testing.T) {
	const n = 3 * helpWalk
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 5))
		m := New(nil)
		set := func(k int, text string, gone bool) {
			t.Helper()
			name, first := fmt.Sprintf("%03d.prom", k), ""
			if k%3 > 0 {
				g, err := grouping.New(exposition.Label{Name: "job", Value: fmt.Sprintf("%03d", k)})
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
				typ = "counter" // not served
			}
			u := Update{Old: m.File(name)}
			if u.Old != nil {
				u.OldParts = m.View().Parts(u.Old)
			}
			if !gone {
				u.New = record.Parse(name, []byte(first+text+"# TYPE m "+typ+"\nm{x=\""+name+"\"} 1\n"))
			}
			m.Apply([]Update{u})
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
			case 3: // the file whose text is served
				if f := m.fams["m"]; f.helpBy != nil {
					_, err := fmt.Sscanf(f.helpBy.Name[max(0, len(f.helpBy.Name)-8):], "%d.prom", &k)
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
			by, text := (*record.ID)(nil), ""
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
