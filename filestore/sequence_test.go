package filestore_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// bodies are the texts of pushes and dropped files. Some conflict with others. J stands
// for the labels of the group, V for a value.
var bodies = []struct {
	text  string
	lines map[string][]string // by family, as they are served
}{
	{"", nil},
	{"m V\n", map[string][]string{"m": {"m{J} V"}}},
	{"# TYPE m counter\nm V\n", map[string][]string{"m": {"m{J} V"}}},
	{"# HELP n One text.\n# TYPE n gauge\nn{x=\"1\"} V\nn{x=\"2\"} V\n", map[string][]string{"n": {`n{J,x="1"} V`, `n{J,x="2"} V`}}},
	{"# HELP n Another.\n# TYPE n gauge\nn{x=\"1\"} V\nm 1\n", map[string][]string{"n": {`n{J,x="1"} V`}, "m": {"m{J} 1"}}},
	{"# TYPE h histogram\nh_bucket{le=\"1\"} V\nh_count 9\n", map[string][]string{"h": {`h_bucket{J,le="1"} V`, `h_bucket{J,le="+Inf"} 9`, "h_count{J} 9"}}},
	{"h_count V\nn V\n", map[string][]string{"h_count": {"h_count{J} V"}, "n": {"n{J} V"}}},
	{"# TYPE h summary\nh{quantile=\"0.5\"} V\n", map[string][]string{"h": {`h{J,quantile="0.5"} V`}}},
	{"m V\nm V\n", nil}, // a push of it is rejected
}

// A sequence is a directory with two stores, as of two processes, and its expected
// content.
type sequence struct {
	t      *testing.T
	dir    string
	opts   filestore.Options
	offset time.Duration // of the clock
	stores [2]*filestore.Store
	groups []grouping.Key
	want   map[grouping.Key]map[string][]string // lines of each group, by family
	broken map[grouping.Key]bool                // groups whose file is invalid
	saved  map[grouping.Key][]byte              // copies of files
	was    map[grouping.Key]map[string][]string // want at the time of the copy
	others bool                                 // another process has made changes
	log    []string
}

// do runs the operation that four bytes encode.
func (q *sequence) do(kind, who, what, value byte) {
	s, g := q.stores[who>>7], q.groups[int(who&0x7f)%len(q.groups)]
	body := bodies[int(what)%len(bodies)]
	text := strings.ReplaceAll(body.text, "V", fmt.Sprint(value%4))
	path := filepath.Join(q.dir, g.FileName())
	dropped := fmt.Sprintf("file%d.prom", who%3)
	q.log = append(q.log, fmt.Sprintf("%d by %d on %v: %q", kind%16, who>>7, g, text))
	q.others = q.others || who>>7 == 1 || kind%16 == 11
	switch kind % 16 {
	case 0, 1, 2, 3:
		f, err := exposition.Parse([]byte(text), exposition.Limits{}, false)
		must(q.t, err)
		post := kind%16 >= 2
		if post {
			err = s.Update(g, f, record.PushOptions{})
		} else {
			err = s.Replace(g, f, record.PushOptions{})
		}
		if errors.Is(err, filestore.ErrInDoubt) || errors.Is(err, filestore.ErrBusy) {
			q.t.Fatal(err)
		}
		if err != nil { // the group must be unchanged
			q.checkBroken(g)
			return
		}
		if post && q.broken[g] {
			q.t.Fatalf("%v: POST to an invalid file succeeded", q.log)
		}
		if !post || q.want[g] == nil {
			q.want[g] = map[string][]string{}
		}
		for name, lines := range body.lines {
			q.want[g][name] = nil
			for _, l := range lines {
				l = strings.ReplaceAll(l, "J", strings.Trim(g.String(), "{}"))
				q.want[g][name] = append(q.want[g][name], strings.ReplaceAll(l, "V", fmt.Sprint(value%4)))
			}
		}
		delete(q.broken, g)
	case 4:
		must(q.t, s.Delete(g))
		delete(q.want, g)
		q.checkBroken(g)
	case 5: // changes no group, also if it is rejected
		_ = s.Drop(dropped, []byte(text), value%2 == 0)
	case 6:
		q.put(dropped, []byte(text))
	case 7:
		_ = os.Remove(filepath.Join(q.dir, dropped))
	case 8: // another program deletes the file of a group
		_ = os.Remove(path)
		delete(q.want, g)
		delete(q.broken, g)
	case 9: // makes it invalid
		q.put(g.FileName(), []byte(invalidText))
		delete(q.want, g)
		q.broken[g] = true
	case 10: // copies it
		if data, err := os.ReadFile(path); err == nil && !q.broken[g] {
			q.saved[g], q.was[g] = data, maps.Clone(q.want[g])
		}
	case 11: // restores the copy
		if data := q.saved[g]; data != nil {
			q.put(g.FileName(), data)
			q.want[g] = maps.Clone(q.was[g])
			delete(q.broken, g)
		}
	case 12: // the clock jumps
		q.offset += time.Duration(int8(value)) * []time.Duration{time.Millisecond, time.Second, time.Hour, 1000 * time.Hour}[what%4]
	case 13:
		must(q.t, filestore.SettleHelp(s))
	case 14:
		must(q.t, s.Fail(g))
		q.checkBroken(g)
	case 15:
		must(q.t, s.Close())
		var err error
		q.stores[who>>7], err = filestore.Open(q.dir, &q.opts)
		must(q.t, err)
	}
}

const invalidText = "invalid\n"

// checkBroken fails the test if a rejected or unrelated request has changed an invalid
// file, which a user may want to repair.
func (q *sequence) checkBroken(g grouping.Key) {
	q.t.Helper()
	if data, err := os.ReadFile(filepath.Join(q.dir, g.FileName())); q.broken[g] && string(data) != invalidText {
		q.t.Fatalf("after\n%s\nan invalid file has changed to %q, %v", strings.Join(q.log, "\n"), data, err)
	}
}

// put replaces a file atomically.
func (q *sequence) put(name string, data []byte) {
	aside := filepath.Join(q.dir, ".aside")
	must(q.t, os.WriteFile(aside, data, 0o644))
	must(q.t, os.Rename(aside, filepath.Join(q.dir, name)))
}

// check compares the views of both stores with the expected content.
func (q *sequence) check() {
	q.t.Helper()
	for i, s := range q.stores {
		_, err := s.Rescan()
		must(q.t, err)
		got := map[string]bool{}
		for line := range strings.Lines(samples(s.View())) {
			if strings.Contains(line, `job="`) && !strings.HasPrefix(line, "push_") && !strings.HasPrefix(line, "promspool_") {
				got[strings.TrimSuffix(line, "\n")] = true
			}
		}
		for g, families := range q.want {
			for name, lines := range families {
				for _, line := range lines {
					if !got[line] && !q.isExcluded(s.View(), g, name) {
						q.t.Fatalf("after\n%s\nstore %d does not serve %s", strings.Join(q.log, "\n"), i, line)
					}
					delete(got, line)
				}
			}
		}
		if len(got) > 0 {
			q.t.Fatalf("after\n%s\nstore %d also serves %q", strings.Join(q.log, "\n"), i, slices.Sorted(maps.Keys(got)))
		}
		checkPure(q.t, s, q.dir, &q.opts)
	}
}

// isExcluded reports whether a group's part of a family may be excluded because of a
// conflict. A push is checked against the view of its process, so changes of another
// process can cause one.
func (q *sequence) isExcluded(v *merge.View, g grouping.Key, name string) bool {
	return q.others && slices.ContainsFunc(v.Conflicts(), func(c *record.Conflict) bool {
		return c.File == g.FileName() && c.Family == name
	})
}

func runSequence(t *testing.T, ops []byte) {
	dir := quickDirectory(t)
	q := &sequence{
		t: t, dir: dir,
		want: map[grouping.Key]map[string][]string{}, broken: map[grouping.Key]bool{},
		saved: map[grouping.Key][]byte{}, was: map[grouping.Key]map[string][]string{},
	}
	q.opts = filestore.Options{Hold: time.Nanosecond, Now: func() time.Time { return time.Now().Add(q.offset) }}
	for _, job := range []string{"a", "B", "c/d"} {
		q.groups = append(q.groups, group(t, "job", job))
	}
	for i := range q.stores {
		var err error
		q.stores[i], err = filestore.Open(dir, &q.opts)
		must(t, err)
	}
	defer func() {
		for _, s := range q.stores {
			must(t, s.Close())
		}
	}()
	for op := range slices.Chunk(ops[:min(len(ops), 80)/4*4], 4) {
		q.do(op[0], op[1], op[2], op[3])
		if op[3]&0x80 != 0 {
			q.check()
		}
	}
	q.check()
}

// FuzzSequence runs random operations on a directory: by two processes, by another
// program, and with jumps of the clock. No push may be lost, no deleted group may
// return, and the view must equal that of another start.
func FuzzSequence(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 12, 0, 2, 0x80, 2, 0x80, 3, 2, 12, 0, 3, 1, 4, 0, 0, 0, 15, 0, 0, 0x80})
	f.Add([]byte{0, 1, 3, 1, 0, 2, 4, 1, 12, 0, 2, 1, 0, 1, 4, 1, 13, 0, 0, 0, 10, 1, 0, 0, 4, 1, 0, 0, 11, 1, 0, 0x80})
	f.Add([]byte{0, 0, 5, 1, 0, 1, 6, 1, 5, 0, 6, 0, 6, 1, 5, 1, 9, 0, 0, 0, 2, 0, 1, 1, 0, 0, 1, 1, 14, 2, 0, 0x80})
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		ops := make([]byte, 80)
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		f.Add(ops)
	}
	f.Fuzz(runSequence)
}

// TestClockJumps pushes and deletes with a clock that jumps back and forth by hours and
// years.
func TestClockJumps(t *testing.T) {
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	kinds := []byte{0, 0, 2, 2, 4, 5, 6, 12, 12, 12, 13, 14, 15}
	for range 30 {
		var ops []byte
		for range 20 {
			ops = append(ops, kinds[r.IntN(len(kinds))], byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()))
		}
		runSequence(t, ops)
		if t.Failed() {
			t.Fatalf("with the operations %v", ops)
		}
	}
}

func TestRejectedPushKeepsInvalidFile(t *testing.T) {
	dir := t.TempDir()
	g := group(t, "job", "a")
	path := filepath.Join(dir, g.FileName())
	const broken = "# promspool:group {job=\"a\"}\n# TYPE kept gauge\nkept{job=\"a\"} 1\ntypo{job=\"a\" 1\n"
	must(t, os.WriteFile(path, []byte(broken), 0o644))
	s := open(t, dir, nil)
	twice, err := exposition.Parse([]byte("m 1\nm 1\n"), exposition.Limits{}, false)
	must(t, err)
	if err := s.Replace(g, twice, record.PushOptions{}); err == nil {
		t.Error("a push that conflicts with itself was accepted")
	}
	must(t, s.Fail(g))
	wantContent(t, path, broken)
}
