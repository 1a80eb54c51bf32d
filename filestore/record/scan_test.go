package record

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
)

// These tests are internal because scanPushed has no effect of its own.

// sameContent reports whether two contents are equal.
func sameContent(a, b *Content) bool {
	return *a.File.id == *b.File.id && a.File.group == b.File.group && a.File.series == b.File.series &&
		slices.Equal(a.File.attrs, b.File.attrs) && reflect.DeepEqual(a.File.age, b.File.age) && a.File.push == b.File.push && a.File.failure == b.File.failure && slices.Equal(a.File.parts, b.File.parts) && slices.Equal(a.File.stored, b.File.stored) &&
		slices.EqualFunc(a.Parts, b.Parts, func(p, q exposition.Part) bool {
			return p.Desc == q.Desc && p.Text == q.Text && p.Extra == q.Extra && slices.Equal(p.Hashes, q.Hashes)
		})
}

// FuzzScanPushed compares scanPushed with the parser.
func FuzzScanPushed(f *testing.F) {
	const head = "# promspool:group {job=\"j\"}\n"
	for _, body := range []string{
		"# HELP a x\n# TYPE a gauge\na{job=\"j\"} 1\n",
		"# TYPE a untyped\na 1e+06\na{job=\"j\",x=\"1\"} NaN\n# HELP push_time_seconds y\n# TYPE push_time_seconds gauge\npush_time_seconds{job=\"j\"} 1.5e+09\n",
		"# TYPE a counter\na{a=\"\"} 0\n", "# TYPE b gauge\nb 1\n# TYPE a gauge\na 1\n", "# TYPE a gauge\na 1.0\n", "# TYPE a gauge\na{b=\"1\",a=\"2\"} 1\n",
		"# promspool:help 0 a y\n# HELP a x\n# TYPE a gauge\na 1\n", "# promspool:help 0 a\n# promspool:help 1 a  z\\n \r\n# HELP a x\n# TYPE a gauge\na 1\n", "# promspool:help 0 b y\n# promspool:help x a y\n# TYPE a gauge\na 1\n",
		"# promspool:future x y\n# promspool:owner \\\\ \\n\n# TYPE a gauge\na 1\n", "# promspool:x\n# promspool:x y\n# TYPE a gauge\na 1\n# promspool:a\n",
		"# promspool:expired 1763628000\n# promspool:ttl 1d\n# promspool:withheld # TYPE a gauge\n# promspool:withheld a 1\n# promspool:withheld\n# TYPE promspool_group_expired gauge\npromspool_group_expired{job=\"j\"} 1\n",
		"# promspool:withheld\n# promspool:expired 1\n# TYPE a gauge\na 1\n", "# promspool:expired x\n# TYPE a gauge\na 1\n", "# promspool:ttl x\n# TYPE a gauge\na 1\n", "# promspool:withheld x\n# TYPE a gauge\na 1\n",
		"# TYPE a gauge\na 1\na 2\n", "# TYPE a gauge\na_count 1\n", "# TYPE a gauge\na 1 5\n", "# HELP a \\n\n# TYPE a gauge\na 1\r\n", "# TYPE a counter\na{job=\"j\"} 1\n# promspool:om2 a{job=\"j\"} 1.0 st@5\n", "# promspool:om2 a 1.0 st@5\n# TYPE a counter\na 1\n# UNIT a s\n", "# TYPE a gauge\na{instance=\"\",job=\"j\"} 1\n",
	} {
		f.Add(head + body)
	}
	f.Fuzz(func(t *testing.T, data string) {
		quick, ok := scanPushed("job=j.prom", data)
		if !ok {
			return
		}
		slow, err := parsePushedOrDropped("job=j.prom", []byte(data), false)
		if err != nil {
			t.Fatalf("the parser refuses %q: %v", data, err)
		}
		if slow.File.issue != nil || !sameContent(quick, slow) {
			t.Fatalf("the parser sees another content in %q", data)
		}
	})
}

func TestLooksShortest(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0", "7", "-12", "0.5", "0.0001", "-0.00012", "999999", "123456.789", "1e+06", "1.763627000123e+09", "9.5e+22", "-0"} {
		if !looksShortest(text) {
			t.Errorf("%q is not told by its looks", text)
		}
	}
	for _, text := range []string{"", "-", "+1", "01", "1.", ".5", "1.0", "1.50", "00", "0.00001", "1000000", "1e6", "1e+6", "1e+05", "1e+006", "0e+06", "12e+06", "1.e+06", "1e+06 ", "1 ", "1_0", "NaN", "1.7636270001234567e+09", "0.1234567890123456"} {
		if looksShortest(text) {
			t.Errorf("%q is taken for a shortest form", text)
		}
	}
	// Any string of the characters of numbers.
	const alphabet = "0123456789.e+-00"
	random := rand.New(rand.NewPCG(1, 2))
	told := 0
	for range 2_000_000 {
		b := make([]byte, 1+random.IntN(20))
		for i := range b {
			b[i] = alphabet[random.IntN(min(len(alphabet), 12+random.IntN(8)))]
		}
		if !looksShortest(string(b)) {
			continue
		}
		told++
		if v, err := exposition.ParseFloat(string(b)); err != nil || string(exposition.AppendValue(nil, v)) != string(b) {
			t.Fatalf("%q is not how %v is written: %v", b, v, err)
		}
	}
	if told < 10_000 {
		t.Errorf("only %d were told", told)
	}
}

// scanPushed must accept the files that pushes write.
func TestPushedFilesAreReadQuickly(t *testing.T) {
	g, err := grouping.New(exposition.Label{Name: "job", Value: "j"}, exposition.Label{Name: "path", Value: "/x y"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := exposition.Parse([]byte("# HELP a Some text.\n# TYPE a counter\na{x=\"1\"} 1e6\na 0.25\nb{y=\"é\"} NaN\n"), exposition.Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	change := Change{Key: g, Now: 1e9}
	parts, series, err := change.Canonical(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := change.Push(nil, &Pushed{Parts: parts, Series: series, Has: f.Has}, nil)
	if err != nil {
		t.Fatal(err)
	}
	data := string(c.Encode())
	quick, ok := scanPushed(g.FileName(), data)
	if !ok || !sameContent(quick, c) {
		t.Errorf("not read quickly (%v):\n%s", ok, data)
	}
	if _, ok := scanPushed(g.FileName(), strings.Replace(data, "0.25", "0.250", 1)); ok {
		t.Error("scanPushed accepts text that is not canonical")
	}
}

func TestAttributes(t *testing.T) {
	a := Attributes(nil).with("b", "1\n\\n\r").with("a", "").with("b", "2\n\\n\r").withAll("c", "x", "y")
	if v, ok := a.get("b"); v != "2\n\\n\r" || !ok {
		t.Errorf("get = %q, %v", v, ok)
	}
	if got, want := string(a.appendTo(nil)), "# promspool:a\n# promspool:b 2\\n\\\\n\\r\n# promspool:c x\n# promspool:c y\n"; got != want {
		t.Errorf("written as %q, want %q", got, want)
	}
	if a.size() < len(a.appendTo(nil)) {
		t.Errorf("size = %d, which is too small", a.size())
	}
	if b := a.without("b").without("c").without("none"); !slices.Equal(b, Attributes{{"a", ""}}) || len(a) != 4 {
		t.Errorf("without = %v, leaving %v", b, a)
	}
	if _, ok := a.get("none"); ok {
		t.Error("there is a value of a key that is not there")
	}
}
