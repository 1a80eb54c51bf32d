package merge

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// These tests are internal, because every kind of conflict is easier to produce in the
// Merger than through files.

var testOwn = map[string]Own{"go_goroutines": {Type: exposition.Gauge}, "go_gc_seconds": {Type: exposition.Summary, Labels: []string{"quantile"}}, "s_sum": {Type: exposition.Gauge}}

// randomFile returns the text of a file with few families and label values, so
// conflicts are common.
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
		more := ""
		if r.IntN(4) == 0 {
			more = fmt.Sprintf("# UNIT %s unit%d\n", name, r.IntN(2))
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
				if typ == "counter" && r.IntN(2) == 0 {
					more += fmt.Sprintf("# promspool:om2 %s%s %d.0 st@%d\n", name, with(""), v, r.IntN(2))
				}
			}
		}
		b.WriteString(more)
	}
	if r.IntN(12) == 0 {
		b.WriteString("broken line\n")
	}
	return b.String()
}

// nastyLabels have values that look like syntax.
var nastyLabels = []string{
	`a="b,quantile="`, `a="b,le="`, `a=",le="`, `a="le="`, `a="\",le=\"1"`, `a="\\",b="c"`, `a="{"`, `a="}"`, `a="} 1"`, `a=" 1"`,
	`a="x\ny"`, `a="\n"`, `a="b,instance="`, `a="instance=\"\""`, `a="instance=",instance=""`, `a="#"`, `a="{\"",x="1"`, `"x.\"y"="1,\"z\"="`,
}

// show writes everything that a view returns.
func show(v *View) string {
	b := v.AppendTo(nil)
	for _, name := range v.Beside() {
		b = fmt.Appendf(b, "beside %s\n%s", name, v.AppendFamily(nil, name))
	}
	for _, c := range v.Conflicts() {
		b = fmt.Appendf(b, "conflict: %s in %s, %d: %v\n", c.File, c.Family, c.Series, c)
	}
	t := v.Totals()
	if e := protobufOf(v); e != "" {
		b = fmt.Appendf(b, "protobuf:\n%s", e)
	}
	b = fmt.Appendf(b, "%d groups, %d dropped, %d series, %d bytes, plain: %v", t.Groups, t.Dropped, t.Series, t.Bytes, v.PlainNames())
	for _, r := range exposition.Reasons {
		b = fmt.Appendf(b, ", %d %s", t.Faults[r], r)
	}
	return string(b)
}

// protobufOf returns a view as protobuf, each family on a line.
func protobufOf(v *View) string {
	var all []byte
	for _, p := range v.Encoded().Parts {
		all = append(all, p.Raw()...)
	}
	var b strings.Builder
	for r := bytes.NewReader(all); r.Len() > 0; {
		mf := new(dto.MetricFamily)
		if err := protodelim.UnmarshalFrom(r, mf); err != nil {
			panic(err)
		}
		text, err := prototext.MarshalOptions{}.Marshal(mf)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "%s\n", bytes.ReplaceAll(text, []byte("  "), []byte(" "))) // its spaces are random
	}
	return b.String()
}

// checkRope verifies the invariants of the rope's search.
func checkRope(t *testing.T, r rope) {
	t.Helper()
	total, last, lastID := 0, "", (*record.ID)(nil)
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
			s.each(func(f *family, id *record.ID, _ []byte) bool {
				if !first && (last > f.name || last == f.name && record.Compare(lastID, id) >= 0) {
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
		m := New(testOwn)
		files := map[string][]byte{}
		for step := range 60 {
			var updates []Update
			for _, k := range r.Perm(8)[:1+r.IntN(3)] {
				name := fmt.Sprintf("f%d.prom", k)
				text := randomFile(r)
				if k >= 4 { // pushed
					g, err := grouping.New(exposition.Label{Name: "job", Value: fmt.Sprint("j", k)})
					if err != nil {
						t.Fatal(err)
					}
					name = g.FileName()
					text = "# promspool:group " + g.String() + "\n" + text
					if r.IntN(4) == 0 {
						text = text[1:] // the same name without the group line
					}
				}
				u := Update{Old: m.File(name)}
				if u.Old != nil {
					u.OldParts = m.View().Parts(u.Old)
				}
				if r.IntN(4) == 0 {
					delete(files, name)
					if u.Old == nil {
						continue
					}
				} else {
					files[name] = []byte(text)
					u.New = record.Parse(name, files[name])
					checkIdentities(t, u.New.Parts)
				}
				updates = append(updates, u)
			}
			m.Apply(updates)
			checkRope(t, m.main)
			checkRope(t, m.beside)
			fresh := MergerOf(testOwn, files)
			checkIndex(t, m, fresh)
			got, want := show(m.View()), show(fresh.View())
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

// naive is the merge by its definition: files in their order, each part without
// conflicts with earlier ones. It returns the served text of each part and the
// conflicts.
func naive(own map[string]Own, files map[string][]byte) (served map[string]string, conflicts []string) {
	own = New(own).own // with the parts of its histograms and summaries
	var list []*record.Content
	for name, data := range files {
		list = append(list, record.Parse(name, data))
	}
	slices.SortFunc(list, func(a, b *record.Content) int { return record.Compare(a.File.ID(), b.File.ID()) })
	type metric struct{ by, value, extra string }
	type in struct {
		typed, plain, first string
		typ                 exposition.Type
		metrics             map[string]metric
	}
	state := map[string]*in{}
	served = map[string]string{}
	for _, c := range list {
		name := c.File.Name()
		for _, p := range c.Parts {
			d := p.Desc.Value()
			s := state[d.Name]
			if s == nil {
				s = &in{metrics: map[string]metric{}}
				state[d.Name] = s
			}
			conflict := func(r exposition.Reason, kept string, n int) {
				conflicts = append(conflicts, fmt.Sprintf("%s %s: %s with %q, %d", name, d.Name, r, kept, n))
			}
			all := strings.Count(p.Text, "\n")
			if record.IsReserved(d.Name) && (d.Name != record.GroupExpired || c.File.ID().Kind != record.PushedKind) {
				conflict(exposition.Reserved, "", all)
				continue
			}
			// The agent's own.
			reserved := 0
			var text strings.Builder
			o, has := own[d.Name]
			none := has && (o.part || d.Typ != exposition.Unstated && d.Typ != o.Type || o.Type.Composite() && d.Typ == exposition.Unstated)
			for _, suffix := range exposition.CompositeSuffixes {
				if o, has := own[d.Name+suffix]; has && !o.part && d.Typ.Reserves(suffix) {
					none = true
				}
			}
			exposition.EachMetric(d, p.Text, func(base []byte, lines string) bool {
				labels, _ := exposition.ParseLabelSet(cmp.Or(string(base), "{}"))
				if none || has && !slices.ContainsFunc(labels, func(l exposition.Label) bool { return !slices.Contains(o.Labels, l.Name) }) {
					reserved += strings.Count(lines, "\n")
				} else {
					text.WriteString(lines)
				}
				return true
			})
			if text.Len() == 0 {
				conflict(exposition.Reserved, "", reserved)
				continue
			}
			// Types and suffixes.
			var blockers []string // in the order of the files that they are of
			reason := map[string]exposition.Reason{}
			block := func(by string, r exposition.Reason) {
				if by != "" && reason[by] == "" {
					blockers, reason[by] = append(blockers, by), r
				}
			}
			if s.typed != "" && (s.typ != d.Typ && d.Typ != exposition.Unstated || d.Typ == exposition.Unstated && s.typ.Composite()) {
				block(s.typed, exposition.TypeConflict)
			}
			if s.plain != "" && d.Typ.Composite() {
				block(s.plain, exposition.TypeConflict)
			}
			for _, suffix := range exposition.CompositeSuffixes {
				if o := state[d.Name+suffix]; o != nil && d.Typ.Reserves(suffix) {
					block(o.first, exposition.Duplicate)
				}
				if base, ok := strings.CutSuffix(d.Name, suffix); ok && state[base] != nil && state[base].typ.Reserves(suffix) {
					block(state[base].first, exposition.Duplicate)
				}
			}
			if len(blockers) > 0 {
				first := blockers[0]
				for _, c := range list {
					if slices.Contains(blockers, c.File.Name()) {
						first = c.File.Name()
						break
					}
				}
				conflict(reason[first], first, all)
				continue
			}
			s.first = cmp.Or(s.first, name)
			if d.Typ == exposition.Unstated {
				s.plain = cmp.Or(s.plain, name)
			} else {
				s.typed, s.typ = cmp.Or(s.typed, name), d.Typ
			}
			// Series.
			lost, kept, firstKept := 0, "", ""
			more := exposition.ExtraByMetric(p.Extra)
			exposition.EachMetric(d, text.String(), func(base []byte, lines string) bool {
				value := lines
				if !d.Typ.Composite() {
					value = lines[strings.LastIndexByte(lines, ' '):]
				}
				m, ok := s.metrics[string(base)]
				switch {
				case !ok:
					s.metrics[string(base)] = metric{name, value, more[string(base)]}
					kept += lines
				case m.value != value || more[string(base)] != "" && more[string(base)] != m.extra:
					lost += strings.Count(lines, "\n")
					firstKept = cmp.Or(firstKept, m.by)
				}
				return true
			})
			if lost > 0 {
				conflict(exposition.Duplicate, firstKept, lost)
			} else if reserved > 0 {
				conflict(exposition.Reserved, "", reserved)
			}
			if kept != "" {
				served[d.Name+" "+name] = kept
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
				g, err := grouping.New(exposition.Label{Name: "job", Value: fmt.Sprint("j", k)})
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
		rope.from(&family{}, nil, func(f *family, id *record.ID, text []byte) bool {
			if id != nil && !strings.HasPrefix(f.name, "promspool_file_") {
				got[f.name+" "+id.Name] = string(text)
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
func checkIdentities(t *testing.T, parts []exposition.Part) {
	t.Helper()
	for _, p := range parts {
		if back := hashesOf(p.Desc.Value(), p.Text); !slices.Equal(back, p.Hashes) {
			t.Fatalf("family %s has other identities than its text:\n%s", p.Desc.Value().Name, p.Text)
		}
		seen := map[string]bool{}
		exposition.EachMetric(p.Desc.Value(), p.Text, func(base []byte, _ string) bool {
			if seen[string(base)] {
				t.Fatalf("metric %s of family %s is not in one piece:\n%s", base, p.Desc.Value().Name, p.Text)
			}
			seen[string(base)] = true
			return true
		})
	}
}

// The index equals that of a new merge of the same files.
func checkIndex(t *testing.T, m, fresh *Merger) {
	t.Helper()
	dump := func(m *Merger) map[uint64]string {
		out := map[uint64]string{}
		for h, id := range m.index.one {
			out[h] = id.Name
		}
		for h, s := range m.index.many {
			if len(s.list) < 2 || s.dead > 0 {
				t.Fatalf("a list of %d sharers, %d of them dead", len(s.list), s.dead)
			}
			for _, e := range s.list {
				out[h] += fmt.Sprintf("%s %s %s %q %v %v; ", e.id.Name, e.fam.name, e.base, e.value, e.loses, e.same)
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
			f.help != o.help || f.helpBy != o.helpBy && f.helpBy.Name != o.helpBy.Name || f.texts != o.texts || len(f.others) != len(o.others) {
			t.Fatalf("family %s differs from that of a fresh merge: %+v, %+v", name, f, o)
		}
	}
}

// DropEncoded frees the protobuf of scrapes, and the next scrape encodes it again.
func TestDropEncoded(t *testing.T) {
	m := MergerOf(testOwn, map[string][]byte{"a.prom": []byte("# TYPE a counter\na 1\n# promspool:om2 a 1.0 st@5\n"), "b.prom": []byte("b 1\n")})
	v := m.View()
	want := protobufOf(v)
	if v.encoded.Load() == nil || !strings.Contains(want, "created_timestamp") {
		t.Fatalf("nothing is kept of %q", want)
	}
	v.DropEncoded()
	v.main.segments(func(s *segment) bool {
		if s.encoded.Load() != nil || v.encoded.Load() != nil {
			t.Error("it is kept still")
		}
		return true
	})
	if got := protobufOf(m.View()); got != want {
		t.Errorf("made again it is %q, want %q", got, want)
	}
}
