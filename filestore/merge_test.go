package filestore

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// White box: the merger is what a Store is built on, and contradictions of
// every kind are easier to provoke on it than through files.

var testOwn = map[string]Own{"go_goroutines": {Type: Gauge}, "go_gc_seconds": {Type: Summary, Labels: []string{"quantile"}}, "s_sum": {Type: Gauge}}

// randomFile makes the text of a file out of few families and label values, so
// that contradictions are common.
func randomFile(r *rand.Rand) string {
	var b strings.Builder
	for _, name := range []string{"a", "b", "h", "h_count", "h_sum", "s", "go_gc_seconds", "go_gc_seconds_count", "go_goroutines", "go_gc_seconds", "promspool_x", "promspool_job_y"} {
		if r.IntN(3) > 0 {
			continue
		}
		typ := []string{"", "gauge", "gauge", "gauge", "counter", "untyped"}[r.IntN(6)]
		if name == "h" && r.IntN(3) > 0 {
			typ = "histogram"
		}
		if (name == "s" || name == "go_gc_seconds") && r.IntN(3) > 0 {
			typ = "summary"
		}
		if r.IntN(2) == 0 {
			fmt.Fprintf(&b, "# HELP %s text %d\n", name, r.IntN(2))
		}
		if typ != "" {
			fmt.Fprintf(&b, "# TYPE %s %s\n", name, typ)
		}
		for range 1 + r.IntN(3) {
			l := []string{"", `x="1"`, `x="2"`, `x="3"`, `x=""`, `instance=""`, `x="1",instance=""`, ""}[r.IntN(8)]
			if r.IntN(60) == 0 {
				l = `"x.y"="1"`
			}
			with := func(more string) string {
				return "{" + strings.Trim(l+","+more, ",") + "}"
			}
			switch v := r.IntN(3); typ {
			case "histogram":
				fmt.Fprintf(&b, "%s_bucket%s %d\n%s_count%s %d\n", name, with(`le="1.0"`), v, name, with(""), v)
			case "summary":
				fmt.Fprintf(&b, "%s%s %d\n%s_sum%s %d\n", name, with(`quantile="0.5"`), v, name, with(""), v)
			default:
				fmt.Fprintf(&b, "%s%s %d\n", name, strings.Replace(with(""), "{}", "", 1), v)
			}
		}
	}
	if r.IntN(12) == 0 {
		b.WriteString("broken line\n")
	}
	return b.String()
}

// show writes all that a view serves and says.
func show(v *View) string {
	b := v.AppendTo(nil)
	for _, name := range v.Beside() {
		b = fmt.Appendf(b, "beside %s\n%s", name, v.AppendFamily(nil, name))
	}
	for _, c := range v.Conflicts() {
		b = fmt.Appendf(b, "conflict: %s in %s, %d: %v\n", c.File, c.Family, c.Series, c)
	}
	t := v.Totals()
	b = fmt.Appendf(b, "%d groups, %d dropped, %d series, %d bytes, plain: %v", t.Groups, t.Dropped, t.Series, t.Bytes, v.PlainNames())
	for _, r := range Reasons {
		b = fmt.Appendf(b, ", %d %s", t.Faults[r], r)
	}
	return string(b)
}

// checkRope verifies what the rope's search relies on.
func checkRope(t *testing.T, r rope) {
	t.Helper()
	total, last, lastID := 0, "", (*ident)(nil)
	first := true
	for _, b := range r.blocks {
		n := 0
		if len(b.segs) == 0 {
			t.Fatal("an empty block")
		}
		for _, s := range b.segs {
			if len(s.ids) == 0 || len(s.ids) != len(s.ends) || int(s.runs[len(s.runs)-1].end) != len(s.ids) {
				t.Fatal("a segment whose tables do not fit")
			}
			n += len(s.text)
			s.each(func(f *family, id *ident, _ []byte) bool {
				if !first && (last > f.name || last == f.name && compareIdent(lastID, id) >= 0) {
					t.Fatalf("piece of %s out of order", f.name)
				}
				first, last, lastID = false, f.name, id
				return true
			})
		}
		if n != b.bytes {
			t.Fatalf("a block says %d bytes and has %d", b.bytes, n)
		}
		total += n
	}
	if total != r.bytes {
		t.Fatalf("the rope says %d bytes and has %d", r.bytes, total)
	}
}

func TestIncrementalIsFromScratch(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := newMerger(testOwn)
		files := map[string][]byte{}
		for step := range 60 {
			var updates []update
			for _, k := range r.Perm(8)[:1+r.IntN(3)] {
				name := fmt.Sprintf("f%d.prom", k)
				text := randomFile(r)
				if k >= 4 { // pushed
					g, err := NewGroup(Label{"job", fmt.Sprint("j", k)})
					if err != nil {
						t.Fatal(err)
					}
					name = g.FileName()
					text = "# promspool:group " + g.String() + "\n" + text
					if r.IntN(4) == 0 {
						text = text[1:] // the same name, but no longer ours
					}
				}
				u := update{old: m.file(name)}
				if u.old != nil {
					u.oldParts = m.view().parts(u.old)
				}
				if r.IntN(4) == 0 {
					delete(files, name)
					if u.old == nil {
						continue
					}
				} else {
					files[name] = []byte(text)
					u.new = parseFile(name, files[name])
				}
				updates = append(updates, u)
			}
			m.apply(updates)
			checkRope(t, m.main)
			checkRope(t, m.beside)
			got, want := show(m.view()), show(Merge(testOwn, files))
			if diff := cmp.Diff(want, got); diff != "" {
				for _, name := range slices.Sorted(maps.Keys(files)) {
					t.Logf("%s:\n%s", name, files[name])
				}
				t.Fatalf("seed %d, step %d: incremental differs from scratch (-scratch +incremental):\n%s", seed, step, diff)
			}
			if len(files) == 0 && (len(m.seen) > 0 || len(m.more) > 0 || len(m.fams) != 3 || len(m.states) > 0) {
				t.Fatalf("an empty merge remembers %d metrics, %d families", len(m.seen), len(m.fams))
			}
		}
	}
}
