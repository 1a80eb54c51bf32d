package exporter_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/promspool/promspool/exporter"
)

const (
	protobuf  = `application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited`
	allowUTF8 = "text/plain;version=0.0.4;escaping=allow-utf-8"
)

// large is a spool with text of several buffers.
func large() files {
	fs := files{}
	for i := range 700 {
		var b strings.Builder
		for j := range 12 {
			fmt.Fprintf(&b, "# TYPE f%d gauge\nf%d{file=\"%d\",x=\"%s\"} %d\n", j, j, i, strings.Repeat("y", i%50), i*j)
		}
		fs[fmt.Sprintf("f%d.prom", i)] = b.String()
	}
	return fs
}

func registry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector())
	return reg
}

// one decompresses a single gzip member and makes sure that nothing follows it.
func one(t testing.TB, body io.Reader) []byte {
	t.Helper()
	r := bufio.NewReader(body)
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false)
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Fatalf("after the gzip member: %v, want the end", err)
	}
	return text
}

func TestScrapeEncodingsAgree(t *testing.T) {
	for name, fs := range map[string]files{"nothing": {}, "little": {"a.prom": "a 1\n"}, "much": large()} {
		t.Run(name, func(t *testing.T) {
			n := prometheus.NewCounter(prometheus.CounterOpts{Name: "own_total"})
			reg := prometheus.NewRegistry()
			reg.MustRegister(n)
			e := serve(t, fs, reg)
			plain := get(e.Metrics, "/")
			want := plain.Body.Bytes()
			mfs := parse(t, want)
			if mfs["own_total"] == nil || len(mfs) < min(2, 1+len(fs)) {
				t.Fatalf("the scrape has %d families", len(mfs))
			}
			zipped := get(e.Metrics, "/", "Accept-Encoding", "gzip")
			for size := 0; size != zipped.Body.Len(); { // until there is nothing more to be won
				size = zipped.Body.Len()
				zipped = get(e.Metrics, "/", "Accept-Encoding", "gzip")
			}
			z, err := zstd.NewReader(nil)
			if err != nil {
				t.Fatal(err)
			}
			packed := get(e.Metrics, "/", "Accept-Encoding", "zstd")
			text, err := z.DecodeAll(packed.Body.Bytes(), nil)
			if err != nil || !bytes.Equal(text, want) {
				t.Errorf("zstd gives %d bytes, %v; want %d bytes", len(text), err, len(want))
			}
			for coding, w := range map[string]*httptest.ResponseRecorder{"": plain, "gzip": zipped, "zstd": packed} {
				h := w.Header()
				if h.Get("Content-Encoding") != coding || h.Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
					t.Errorf("headers of %q and %d bytes are %v", coding, w.Body.Len(), h)
				}
				if h.Get("Vary") != "Accept, Accept-Encoding" || h.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8; escaping=underscores" {
					t.Errorf("headers of %q are %v", coding, h)
				}
				head := do(e.Metrics, "HEAD", "/", "Accept-Encoding", coding)
				if head.Body.Len() > 0 || head.Header().Get("Content-Length") != h.Get("Content-Length") {
					t.Errorf("HEAD of %q: %d bytes, headers %v", coding, head.Body.Len(), head.Header())
				}
			}
			if text := one(t, zipped.Body); !bytes.Equal(text, want) {
				t.Errorf("gzip gives %d bytes, want %d", len(text), len(want))
			}
		})
	}
}

func TestOtherProgramsReadGzip(t *testing.T) {
	e := serve(t, large(), registry())
	s := httptest.NewServer(http.HandlerFunc(e.Metrics))
	defer s.Close()
	want := get(e.Metrics, "/?name[]=f1&name[]=f11").Body.String()
	t.Run("curl", func(t *testing.T) {
		out, err := exec.Command(need(t, "curl"), "-sS", "-g", "--fail", "--compressed", s.URL+"/?name[]=f1&name[]=f11").Output()
		if err != nil || string(out) != want {
			t.Errorf("curl gives %d bytes, %v; want %d", len(out), err, len(want))
		}
	})
	t.Run("python", func(t *testing.T) {
		const script = `
import sys, urllib.request, zlib
r = urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Accept-Encoding": "gzip"}))
assert r.headers["Content-Encoding"] == "gzip"
d = zlib.decompressobj(wbits=31)
text = d.decompress(r.read()) + d.flush()
assert d.eof and not d.unused_data
sys.stdout.buffer.write(text)`
		out, err := exec.Command(need(t, "python3"), "-c", script, s.URL).Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(out), "f11{") || !strings.Contains(string(out), "go_goroutines ") {
			t.Errorf("python reads %d bytes, and not all", len(out))
		}
		parse(t, out)
	})
	t.Run("promtool", func(t *testing.T) {
		fs := files{}
		group(t, fs, "# HELP a_seconds It.\n# TYPE a_seconds gauge\na_seconds{job=\"x\"} 1\n", exposition.Label{Name: "job", Value: "x"})
		fs["d.prom"] = "# HELP h It.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n"
		fs["bad.prom"] = "x"
		v := viewOf(nil, fs)
		reg := registry()
		reg.MustRegister(exporter.NewCollector(func() *merge.View { return v }))
		e := exporter.New(exporter.Config{View: func() *merge.View { return v }, Own: reg})
		cmd := exec.Command(need(t, "promtool"), "check", "metrics")
		cmd.Stdin = get(e.Metrics, "/").Body
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool: %v: %s", err, out)
		}
	})
}

func TestFormats(t *testing.T) {
	e := serve(t, files{"a.prom": "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n"}, registry())
	const text = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
	for accept, want := range map[string]string{
		"": text, "*/*": text, "text/html,*/*;q=0.1": text, "application/json": text, "text/plain": text,
		"application/openmetrics-text;version=1.0.0,text/plain;q=0.1": text,
		protobuf: "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores",
		protobuf + ";q=0.1,text/plain;version=0.0.4": text,
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1": strings.Replace(text, "underscores", "allow-utf-8", 1),
	} {
		w := get(e.Metrics, "/", "Accept", accept)
		if got := w.Header().Get("Content-Type"); w.Code != 200 || got != want {
			t.Errorf("Accept %q gives %d %q, want %q", accept, w.Code, got, want)
		}
		if accept != protobuf {
			parse(t, w.Body.Bytes())
			continue
		}
		mfs := decode(t, w)
		i := slices.IndexFunc(mfs, func(mf *dto.MetricFamily) bool { return mf.GetName() == "h" })
		if i < 0 || mfs[i].GetType() != dto.MetricType_HISTOGRAM || len(mfs[i].Metric[0].Histogram.Bucket) != 2 {
			t.Errorf("protobuf lacks h: %v", mfs)
		}
		seen := map[string]bool{}
		for _, mf := range mfs {
			if seen[mf.GetName()] {
				t.Errorf("protobuf has %s twice", mf.GetName())
			}
			seen[mf.GetName()] = true
		}
	}
}

// decode reads a protobuf answer.
func decode(t testing.TB, w *httptest.ResponseRecorder) (mfs []*dto.MetricFamily) {
	t.Helper()
	d := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header()))
	for {
		mf := new(dto.MetricFamily)
		if err := d.Decode(mf); errors.Is(err, io.EOF) {
			return mfs
		} else if err != nil {
			t.Fatal(err)
		}
		mfs = append(mfs, mf)
	}
}

func TestFilter(t *testing.T) {
	e := serve(t, large(), registry())
	all := parse(t, get(e.Metrics, "/").Body.Bytes())
	w := get(e.Metrics, "/?name[]=f11&name[]=go_goroutines&name[]=nothing&name[]=f2", "Accept-Encoding", "gzip")
	mfs := parse(t, one(t, w.Body))
	if len(mfs) != 3 {
		t.Errorf("the filter gives %d families, want 3", len(mfs))
	}
	for name, mf := range mfs {
		if len(mf.Metric) != len(all[name].Metric) {
			t.Errorf("%s has %d metrics, want %d", name, len(mf.Metric), len(all[name].Metric))
		}
	}
	if w := get(e.Metrics, "/?name[]=nothing"); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("a filter for nothing gives %d %q", w.Code, w.Body)
	}
	if w := get(e.Metrics, "/?name[]=f1", "Accept", protobuf); len(decode(t, w)) != 1 {
		t.Errorf("a filter with protobuf gives not one family")
	}
}
