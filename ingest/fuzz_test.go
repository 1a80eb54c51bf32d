package ingest_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
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
	"github.com/promspool/promspool/ingest"
)

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"job/j", "job/j/x/1/", "job@base64/YQ/x@base64/=", "job/%2e%2e/x/%0a", "job/j/U__a_2e_b/1", "job/a//b", "job/%ff", "job/j/path/%2Fvar%2Ftmp", "job/j/x/", "job/j%2F", "job/a%2fb/c"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, path string, utf8Names bool) {
		g, strip, err := ingest.ParsePath(path, utf8Names)
		if err != nil {
			if !g.IsZero() || strip != nil {
				t.Errorf("ParsePath(%q) = %v, %q with the error %v", path, g, strip, err)
			}
			return
		}
		if decoded, _ := url.PathUnescape(path); emptyComponent(path, decoded) {
			t.Errorf("ParsePath(%q) = %v, want an error for an empty component", path, g)
		}
		name := g.FileName()
		if name != g.FileName() || len(name) > 220 || strings.Contains(name, "/") || !grouping.IsSpoolFile(name) {
			t.Errorf("ParsePath(%q) has the file name %q", path, name)
		}
		again, _, err := ingest.ParsePath(base64Path(g), true)
		if err != nil || again != g || again.FileName() != name {
			t.Errorf("ParsePath(%q) = %v, but ParsePath(%q) = %v, %v", path, g, base64Path(g), again, err)
		}
		if strings.Contains(g.String(), "U__") {
			return // a name as it is or an escaped one: that is for the other end to say
		}
		if again, strip, err := ingest.ParsePath(ingest.GroupPath(g), utf8Names); err != nil || again != g || strip != nil {
			t.Errorf("ParsePath(%q) = %v, but ParsePath(%q) = %v, %q, %v", path, g, ingest.GroupPath(g), again, strip, err)
		}
	})
}

// emptyComponent reports whether a path has one, apart from a plain slash after
// the job.
func emptyComponent(path, decoded string) bool {
	if strings.HasSuffix(path, "/") && strings.Count(decoded, "/") == 2 {
		decoded = decoded[:len(decoded)-1]
	}
	return slices.Contains(strings.Split(decoded, "/"), "")
}

// base64Path returns another path to a group, with the names in the escaping of
// UTF-8 mode.
func base64Path(g grouping.Key) string {
	var parts []string
	for _, l := range g.Labels() {
		name := "job"
		if l.Name != name {
			name = escapeName(l.Name)
		}
		parts = append(parts, name+"@base64", base64.RawURLEncoding.EncodeToString([]byte(l.Value)))
	}
	return strings.Join(parts, "/")
}

func escapeName(name string) string {
	b := []byte("U__")
	for _, r := range name {
		switch {
		case r == '_':
			b = append(b, "__"...)
		case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9':
			b = append(b, byte(r))
		default:
			b = fmt.Appendf(b, "_%x_", r)
		}
	}
	return string(b)
}

func FuzzDecode(f *testing.F) {
	text := []byte("# HELP a h\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 2\n")
	for i, encoding := range []string{"", "gzip", "snappy", "zstd"} {
		f.Add(compressed(f, encoding, text), uint8(i), uint8(0), true)
		f.Add(compressed(f, encoding, delimited(f, gaugeFamily("a", 1, "x", "1"), gaugeFamily("b.c", 2))), uint8(i), uint8(1), true)
	}
	f.Add(delimited(f, javaFamilies()...), uint8(0), uint8(1), false)
	f.Add([]byte("# TYPE q_s gaugehistogram\n# UNIT q_s s\nq_s_bucket{le=\"1\"} 1 # {t=\"u\"} 0.5 1.5e9\nq_s_gcount 2\nq_s_gsum -1\n# TYPE c counter\nc_total 1 # {} 1\nc_created 5\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1 # {t=\"u\"} 1\n# EOF\n"), uint8(0), uint8(2), false)
	for i, count := range []string{"1.5", "0.5", "9007199254740993", "9223372036854775808", "18446744073709551615", "1e300", "-1", "NaN", "+Inf"} {
		text := fmt.Appendf(nil, "# TYPE s summary\ns_count %[1]s\ns_sum 1\n# TYPE h histogram\nh_bucket{le=\"1\"} %[1]s\nh_count %[1]s\n", count)
		f.Add(text, uint8(0), uint8(3*(i%2)), false)
		f.Add(append(text, "s_created 5\nh_created 5\n"...), uint8(0), uint8(2), false)
	}
	dir := f.TempDir()
	store, err := filestore.Open(dir, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { store.Close() })
	g, err := grouping.New(exposition.Label{Name: "job", Value: "j"}, exposition.Label{Name: "x", Value: "\n"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, encoding, format uint8, utf8Names bool) {
		header := http.Header{"Content-Encoding": {[]string{"", "gzip", "snappy", "zstd"}[encoding%4]}}
		switch format % 3 {
		case 1:
			header.Set("Content-Type", protobufType)
		case 2:
			header.Set("Content-Type", "application/openmetrics-text; version=1.0.0")
		}
		o := ingest.Options{MaxBytes: 1 << 20, UTF8Names: utf8Names, Limits: exposition.Limits{Series: 1000, Labels: 30, LabelName: 100, LabelValue: 100}}
		families, err := ingest.Decode(bytes.NewReader(body), header, o)
		if err != nil {
			if families != nil || err.Error() == "" {
				t.Errorf("Decode = %v, %q", families, err)
			}
			return
		}
		if format/3%2 == 1 {
			ingest.SetStart(families, time.Unix(5, 0))
		}
		if err := store.Replace(g, families, record.PushOptions{Strip: []string{"y"}}); err != nil {
			return // the fault shows only in the merge
		}
		if p := store.View().File(g.FileName()).Problem(); p != nil {
			t.Errorf("the push leaves a file with the problem %v", p)
		}
		checkScrape(t, store.View().AppendTo(nil))
		// What is read back from the file is the same by protobuf.
		text, err := os.ReadFile(filepath.Join(dir, g.FileName()))
		if err != nil {
			t.Fatal(err)
		}
		again := encodedOf(merge.Merge(nil, map[string][]byte{g.FileName(): text}))
		if got := encodedOf(store.View()); !bytes.Equal(got, again) {
			t.Errorf("from the push it is\n%q\nand from the file\n%q", got, again)
		}
	})
}

// encodedOf returns a view as protobuf.
func encodedOf(v *merge.View) (b []byte) {
	for _, p := range v.Encoded().Parts {
		b = append(b, p.Raw()...)
	}
	return b
}
