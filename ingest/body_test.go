package ingest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/promspool/promspool/ingest"
)

// compressed returns s in an encoding.
func compressed(t testing.TB, encoding string, s []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "snappy":
		w = snappy.NewBufferedWriter(&b)
	case "zstd":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		return s
	}
	if _, err := w.Write(s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEncodings(t *testing.T) {
	text := []byte("a 1\n" + strings.Repeat("# filler\n", 100))
	proto := delimited(t, gaugeFamily("a", 1))
	a := start(t, nil, nil)
	for _, encoding := range []string{"", "identity", "gzip", "GZip", "snappy", "zstd", "ZSTD"} {
		t.Run("in "+encoding, func(t *testing.T) {
			known := strings.ToLower(encoding)
			for _, method := range []string{"PUT", "POST"} {
				a.want(202, "DELETE", "/metrics/job/j", "")
				a.wantBytes(200, method, "/metrics/job/j", compressed(t, known, text), "Content-Encoding", encoding)
				a.wantSamples(`a{job="j"} 1`)
				a.want(202, "DELETE", "/metrics/job/j", "")
				a.wantBytes(200, method, "/metrics/job/j", compressed(t, known, proto), "Content-Encoding", encoding, "Content-Type", protobufType)
				a.wantSamples(`a{job="j"} 1`)
			}
			if known == "" || known == "identity" {
				return
			}
			a.want(202, "DELETE", "/metrics/job/j", "")
			whole := compressed(t, known, text)
			for n := range len(whole) {
				if known == "snappy" && n == 10 {
					continue // the header alone is an empty stream, which has no end mark
				}
				a.wantBytes(400, "PUT", "/metrics/job/j", whole[:n], "Content-Encoding", encoding)
			}
			broken := bytes.Clone(whole)
			broken[len(broken)-1] ^= 1 // in a length, a checksum or the data
			a.wantBytes(400, "PUT", "/metrics/job/j", broken, "Content-Encoding", encoding)
			a.wantBytes(400, "PUT", "/metrics/job/j", append(bytes.Clone(whole), "garbage"...), "Content-Encoding", encoding)
			a.wantBytes(400, "PUT", "/metrics/job/j", text, "Content-Encoding", encoding)
			a.wantBytes(400, "PUT", "/metrics/job/j", compressed(t, known, whole), "Content-Encoding", encoding+", "+encoding)
			a.wantSamples()
			a.wantBytes(200, "PUT", "/metrics/job/j", append(compressed(t, known, []byte("a 1\nb ")), compressed(t, known, []byte("2\n"))...), "Content-Encoding", encoding)
			a.wantSamples(`a{job="j"} 1`, `b{job="j"} 2`)
			nothing := compressed(t, known, nil)
			if known == "snappy" {
				nothing = whole[:10]
			}
			a.wantBytes(200, "PUT", "/metrics/job/j", nothing, "Content-Encoding", encoding)
			a.wantSamples()
		})
	}
}

// TestEncodingsThatAreNone: some clients write the character set, the type or nothing of
// meaning there, and Pushgateway ignores it. Of encodings that are not supported only
// compressed bodies are rejected.
func TestEncodingsThatAreNone(t *testing.T) {
	a := start(t, nil, nil)
	for i, encoding := range []string{"iso-8859-1", "us-ascii", "ASCII", "utf-8", "text/plain", "application/json", "none", "None", "binary", "8bit", "chunked", "identity, utf-8", "deflate", "br", "DEFLATE", "compress", "x"} {
		text := fmt.Sprintf("a %d\n", i+2)
		for _, method := range []string{"PUT", "POST"} {
			a.want(200, method, "/metrics/job/j", text, "Content-Encoding", encoding)
		}
		a.wantSamples(fmt.Sprintf(`a{job="j"} %d`, i+2))
		if _, err := ingest.Decode(strings.NewReader(text), http.Header{"Content-Encoding": {encoding}}, ingest.Options{}); err != nil {
			t.Errorf("%s: %v", encoding, err)
		}
	}
	for _, encoding := range []string{"x-gzip", "X-GZIP", "gzip, utf-8", " gzip "} {
		a.want(202, "DELETE", "/metrics/job/j", "")
		a.wantBytes(200, "PUT", "/metrics/job/j", compressed(t, "gzip", []byte("a 1\n")), "Content-Encoding", encoding)
		a.wantSamples(`a{job="j"} 1`)
	}
	for _, encoding := range []string{"gzip, zstd", "gzip, gzip", "deflate", "br"} {
		a.wantBytes(400, "PUT", "/metrics/job/j", compressed(t, "gzip", []byte("a 2\n")), "Content-Encoding", encoding)
	}
	a.wantSamples(`a{job="j"} 1`)
}

// TestCompressedTwice: several lines of a header are one list.
func TestCompressedTwice(t *testing.T) {
	a := start(t, nil, nil)
	once := compressed(t, "gzip", []byte("a 1\n"))
	twice := compressed(t, "gzip", once)
	const several = `the Content-Encoding "gzip, gzip" names several encodings: use one of gzip, snappy and zstd`
	for _, tt := range []struct {
		body   []byte
		header []string
		want   string
	}{
		{twice, []string{"Content-Encoding", "gzip", "Content-Encoding", "gzip"}, several},
		{twice, []string{"Content-Encoding", "gzip, gzip"}, several},
		{twice, []string{"Content-Encoding", "gzip", "User-Agent", "curl/8.5.0"}, "the decompressed body is compressed data: compress it only once"},
		{compressed(t, "zstd", once), []string{"Content-Encoding", "zstd"}, "the decompressed body is compressed data: compress it only once"},
		{once, []string{"Content-Encoding", "utf-8"}, "line 1: not in the text format, but gzip data: set the header Content-Encoding, or send the text itself"},
	} {
		if got := a.wantBytes(400, "PUT", "/metrics/job/j", tt.body, tt.header...).body; got != tt.want+"\n" {
			t.Errorf("%q: %q, want %q", tt.header, got, tt.want)
		}
	}
	a.wantBytes(200, "PUT", "/metrics/job/j", once, "Content-Encoding", "utf-8", "Content-Encoding", "gzip")
	a.wantSamples(`a{job="j"} 1`)
	header := http.Header{"Content-Encoding": {"gzip", "gzip"}}
	if _, err := ingest.Decode(bytes.NewReader(twice), header, ingest.Options{}); err == nil || err.Error() != several {
		t.Errorf("Decode: %v, want %q", err, several)
	}
}

// TestBytesAfterGzip checks that they are distinguished from data that is cut off.
func TestBytesAfterGzip(t *testing.T) {
	a := start(t, nil, nil)
	whole := compressed(t, "gzip", []byte("a 1\n"))
	cut := append(bytes.Clone(whole), whole[:len(whole)-3]...)
	for want, body := range map[string][]byte{
		"the body has 1 byte after the end of its gzip data: send the gzip data alone":   append(bytes.Clone(whole), '\n'),
		"the body has 20 bytes after the end of its gzip data: send the gzip data alone": append(bytes.Clone(whole), strings.Repeat("x", 20)...),
		"the body has 3 bytes after the end of its gzip data: send the gzip data alone":  slices.Concat(whole, whole, []byte("\x00\x00\x00")),
		"the body is not valid gzip data: unexpected EOF; it may be cut off":             cut,
		"the body is not valid gzip data: gzip: invalid checksum; it may be cut off":     slices.Concat(whole[:len(whole)-8], []byte("12345678")),
	} {
		if got := a.wantBytes(400, "PUT", "/metrics/job/j", body, "Content-Encoding", "gzip").body; got != want+"\n" {
			t.Errorf("%q, want %q", got, want)
		}
	}
	a.wantSamples()
}

// A body with an unknown encoding is rejected, because its text may be misread.
func TestUnknownEncodingIsRefusedByName(t *testing.T) {
	a := start(t, nil, nil)
	a.want(200, "PUT", "/metrics/job/j", "a 1\n", "Content-Encoding", "utf-8")
	a.wantSamples(`a{job="j"} 1`)
	got := a.want(400, "PUT", "/metrics/job/j", "\x0b\x01\x80a 1\n\x03", "Content-Encoding", "br")
	if !strings.Contains(got.body, `"br"`) || !strings.Contains(got.body, "zstd") {
		t.Errorf("the refusal says %q", got.body)
	}
	a.wantSamples(`a{job="j"} 1`)
}

func TestContentTypes(t *testing.T) {
	a := start(t, nil, nil)
	for _, ct := range []string{"", "text/plain; version=0.0.4", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json", "application/openmetrics-text", ";;;", "application/vnd.google.protobuffer"} {
		a.want(200, "PUT", "/metrics/job/j", "a 1\n", "Content-Type", ct)
		a.wantSamples(`a{job="j"} 1`)
		a.want(202, "DELETE", "/metrics/job/j", "")
	}
	body := delimited(t, gaugeFamily("a", 1))
	for _, ct := range []string{
		protobufType,
		" " + protobufType,
		protobufType + "; escaping=underscores",
		`application/vnd.google.protobuf;proto="io.prometheus.client.MetricFamily";encoding="delimited"`,
		"Application/VND.google.protobuf; Encoding=delimited; PROTO=io.prometheus.client.MetricFamily",
	} {
		a.wantBytes(200, "PUT", "/metrics/job/j", body, "Content-Type", ct)
		a.wantSamples(`a{job="j"} 1`)
		a.want(202, "DELETE", "/metrics/job/j", "")
		a.want(400, "PUT", "/metrics/job/j", "a 1\n", "Content-Type", ct)
	}
	for _, ct := range []string{
		"application/vnd.google.protobuf",
		"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily",
		"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text",
		protobufType + "; =",
	} {
		a.wantBytes(400, "PUT", "/metrics/job/j", body, "Content-Type", ct)
	}
	a.wantSamples()
}

func TestDecodeForOtherPrograms(t *testing.T) {
	f, err := ingest.Decode(bytes.NewReader(compressed(t, "gzip", []byte("a 1\nb 2\n"))), http.Header{"Content-Encoding": {"gzip"}}, ingest.Options{})
	if err != nil || f.Series() != 2 {
		t.Errorf("Decode = %v, %v, want two samples", f, err)
	}
	if _, err := ingest.Decode(strings.NewReader("a 1\n"), nil, ingest.Options{MaxBytes: 3}); err == nil {
		t.Error("Decode of more than MaxBytes gave no error")
	}
}
