package filestore

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
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
			if r.IntN(8) == 0 {
				l = nastyLabels[r.IntN(len(nastyLabels))]
			}
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

// nastyLabels have values that look like what stands around them.
var nastyLabels = []string{
	`a="b,quantile="`, `a="b,le="`, `a=",le="`, `a="le="`, `a="\",le=\"1"`, `a="\\",b="c"`, `a="{"`, `a="}"`, `a="} 1"`, `a=" 1"`,
	`a="x\ny"`, `a="\n"`, `a="b,instance="`, `a="instance=\"\""`, `a="instance=",instance=""`, `a="#"`, `a="{\"",x="1"`, `"x.\"y"="1,\"z\"="`,
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
	t.Parallel()
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
					checkIdentities(t, u.new.parts)
				}
				updates = append(updates, u)
			}
			m.apply(updates)
			checkRope(t, m.main)
			checkRope(t, m.beside)
			fresh := mergerOf(testOwn, files)
			checkIndex(t, m, fresh)
			got, want := show(m.view()), show(fresh.view())
			if diff := gocmp.Diff(want, got); diff != "" {
				for _, name := range slices.Sorted(maps.Keys(files)) {
					t.Logf("%s:\n%s", name, files[name])
				}
				t.Fatalf("seed %d, step %d: incremental differs from scratch (-scratch +incremental):\n%s", seed, step, diff)
			}
			if len(files) == 0 && (len(m.index.one) > 0 || len(m.index.many) > 0 || len(m.fams) != 3 || len(m.states) > 0) {
				t.Fatalf("an empty merge remembers %d metrics, %d families", len(m.index.one), len(m.fams))
			}
		}
	}
}

// naive is the merge by its definition: files in their order, and of each part what
// contradicts nothing that is in already. It lists what is served of each part, and
// each conflict.
func naive(own map[string]Own, files map[string][]byte) (served map[string]string, conflicts []string) {
	own = newMerger(own).own // with the parts of its histograms and summaries
	var list []*content
	for name, data := range files {
		list = append(list, parseFile(name, data))
	}
	slices.SortFunc(list, func(a, b *content) int { return compareIdent(a.file.id, b.file.id) })
	type metric struct{ by, value string }
	type in struct {
		typed, plain, first string
		typ                 Type
		metrics             map[string]metric
	}
	state := map[string]*in{}
	served = map[string]string{}
	for _, c := range list {
		name := c.file.Name()
		for _, p := range c.parts {
			d := p.desc.Value()
			s := state[d.name]
			if s == nil {
				s = &in{metrics: map[string]metric{}}
				state[d.name] = s
			}
			conflict := func(r Reason, kept string, n int) {
				conflicts = append(conflicts, fmt.Sprintf("%s %s: %s with %q, %d", name, d.name, r, kept, n))
			}
			all := strings.Count(p.text, "\n")
			if IsReserved(d.name) && (d.name != groupExpired || c.file.id.kind != pushedKind) {
				conflict(Reserved, "", all)
				continue
			}
			// The agent's own.
			reserved := 0
			var text strings.Builder
			o, has := own[d.name]
			none := has && (o.part || d.typ != Unstated && d.typ != o.Type || o.Type.composite() && d.typ == Unstated)
			for _, suffix := range compositeSuffixes {
				if o, has := own[d.name+suffix]; has && !o.part && d.typ.reserves(suffix) {
					none = true
				}
			}
			eachMetric(d, p.text, func(base []byte, lines string) bool {
				labels, _ := parseLabelSet(cmp.Or(string(base), "{}"))
				if none || has && !slices.ContainsFunc(labels, func(l Label) bool { return !slices.Contains(o.Labels, l.Name) }) {
					reserved += strings.Count(lines, "\n")
				} else {
					text.WriteString(lines)
				}
				return true
			})
			if text.Len() == 0 {
				conflict(Reserved, "", reserved)
				continue
			}
			// Types and suffixes.
			var blockers []string // in the order of the files that they are of
			reason := map[string]Reason{}
			block := func(by string, r Reason) {
				if by != "" && reason[by] == "" {
					blockers, reason[by] = append(blockers, by), r
				}
			}
			if s.typed != "" && (s.typ != d.typ && d.typ != Unstated || d.typ == Unstated && s.typ.composite()) {
				block(s.typed, TypeConflict)
			}
			if s.plain != "" && d.typ.composite() {
				block(s.plain, TypeConflict)
			}
			for _, suffix := range compositeSuffixes {
				if o := state[d.name+suffix]; o != nil && d.typ.reserves(suffix) {
					block(o.first, Duplicate)
				}
				if base, ok := strings.CutSuffix(d.name, suffix); ok && state[base] != nil && state[base].typ.reserves(suffix) {
					block(state[base].first, Duplicate)
				}
			}
			if len(blockers) > 0 {
				first := blockers[0]
				for _, c := range list {
					if slices.Contains(blockers, c.file.Name()) {
						first = c.file.Name()
						break
					}
				}
				conflict(reason[first], first, all)
				continue
			}
			s.first = cmp.Or(s.first, name)
			if d.typ == Unstated {
				s.plain = cmp.Or(s.plain, name)
			} else {
				s.typed, s.typ = cmp.Or(s.typed, name), d.typ
			}
			// Series.
			lost, kept, firstKept := 0, "", ""
			eachMetric(d, text.String(), func(base []byte, lines string) bool {
				value := lines
				if !d.typ.composite() {
					value = lines[strings.LastIndexByte(lines, ' '):]
				}
				m, ok := s.metrics[string(base)]
				switch {
				case !ok:
					s.metrics[string(base)] = metric{name, value}
					kept += lines
				case m.value != value:
					lost += strings.Count(lines, "\n")
					firstKept = cmp.Or(firstKept, m.by)
				}
				return true
			})
			if lost > 0 {
				conflict(Duplicate, firstKept, lost)
			} else if reserved > 0 {
				conflict(Reserved, "", reserved)
			}
			if kept != "" {
				served[d.name+" "+name] = kept
			}
		}
	}
	return served, conflicts
}

func TestMergeIsAsDefined(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 2))
		files := map[string][]byte{}
		for k := range 1 + r.IntN(6) {
			files[fmt.Sprintf("f%d.prom", k)] = []byte(randomFile(r))
			if k%2 == 1 {
				g, err := NewGroup(Label{"job", fmt.Sprint("j", k)})
				if err != nil {
					t.Fatal(err)
				}
				files[g.FileName()] = []byte("# promspool:group " + g.String() + "\n" + randomFile(r))
			}
		}
		checkMergeIsAsDefined(t, Merge(testOwn, files), files)
	}
}

func checkMergeIsAsDefined(t *testing.T, v *View, files map[string][]byte) {
	t.Helper()
	served, conflicts := naive(testOwn, files)
	got, gotConflicts := map[string]string{}, []string(nil)
	for _, rope := range []rope{v.main, v.beside} {
		rope.from(&family{}, nil, func(f *family, id *ident, text []byte) bool {
			if id != nil && !strings.HasPrefix(f.name, "promspool_file_") {
				got[f.name+" "+id.name] = string(text)
			}
			return true
		})
	}
	for _, c := range v.Conflicts() {
		gotConflicts = append(gotConflicts, fmt.Sprintf("%s %s: %s with %q, %d", c.File, c.Family, c.Reason, c.Kept, c.Series))
	}
	slices.Sort(conflicts)
	slices.Sort(gotConflicts)
	if diff := gocmp.Diff(served, got) + gocmp.Diff(conflicts, gotConflicts); diff != "" {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			t.Logf("%s:\n%q", name, files[name])
		}
		t.Fatalf("the merge differs from its definition (-definition +merge):\n%s", diff)
	}
}

// The identities of the canonical form are those read back from its text.
func checkIdentities(t *testing.T, parts []part) {
	t.Helper()
	for _, p := range parts {
		if back := hashesOf(p.desc.Value(), p.text); !slices.Equal(back, p.hashes) {
			t.Fatalf("family %s has other identities than its text:\n%s", p.desc.Value().name, p.text)
		}
		seen := map[string]bool{}
		eachMetric(p.desc.Value(), p.text, func(base []byte, _ string) bool {
			if seen[string(base)] {
				t.Fatalf("metric %s of family %s is not in one piece:\n%s", base, p.desc.Value().name, p.text)
			}
			seen[string(base)] = true
			return true
		})
	}
}

// What the index knows is what a fresh merge of the same files knows.
func checkIndex(t *testing.T, m, fresh *merger) {
	t.Helper()
	dump := func(m *merger) map[uint64]string {
		out := map[uint64]string{}
		for h, id := range m.index.one {
			out[h] = id.name
		}
		for h, s := range m.index.many {
			if len(s.list) < 2 || s.dead > 0 {
				t.Fatalf("a list of %d sharers, %d of them dead", len(s.list), s.dead)
			}
			for _, e := range s.list {
				out[h] += fmt.Sprintf("%s %s %s %q %v %v; ", e.id.name, e.fam.name, e.base, e.value, e.loses, e.same)
			}
		}
		return out
	}
	if diff := gocmp.Diff(dump(fresh), dump(m)); diff != "" {
		t.Fatalf("the index differs from that of a fresh merge (-fresh +index):\n%s", diff)
	}
	for name, f := range m.fams {
		o := fresh.fams[name]
		if o == nil || f.accepted != o.accepted || f.files != o.files || f.blocked != o.blocked || len(f.partial) != len(o.partial) ||
			f.help != o.help || f.helpBy != o.helpBy && f.helpBy.name != o.helpBy.name || f.texts != o.texts || len(f.others) != len(o.others) {
			t.Fatalf("family %s differs from that of a fresh merge: %+v, %+v", name, f, o)
		}
	}
}
