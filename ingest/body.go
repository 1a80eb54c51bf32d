package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// Options bound what Decode accepts.
type Options struct {
	Limits    exposition.Limits
	MaxBytes  int64 // of the body, as sent and as decoded; default 16 MiB
	UTF8Names bool
	// StartTime gives counters, histograms and summaries in text, which seldom state
	// one, the time of their push as their start time.
	StartTime bool
}

// Decode reads the body of a push in the encoding and format of the header. It
// returns an *http.MaxBytesError if the body exceeds MaxBytes, and an
// *exposition.SyntaxError or another error if it is invalid.
func Decode(body io.Reader, header http.Header, o Options) (*exposition.Families, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	sent, err := readAll(body, 0, o.MaxBytes)
	if err != nil {
		return nil, err
	}
	// Compressed bodies are read to the end before they are decompressed, so that slow
	// senders hold no decompressor.
	plain, err := decompress(sent, contentEncoding(header), o.MaxBytes)
	if err != nil {
		return nil, explain(err, sent, header)
	}
	return decode(plain, header, o)
}

// SetStart gives the metrics of a push that state no start time this one. The record of
// a job counts over all its runs, so it gets none.
func SetStart(f *exposition.Families, at time.Time) {
	f.SetStart(at, func(name string) bool { return !strings.HasPrefix(name, record.RecordPrefix) })
}

// decode is Decode for a body that is in memory and decompressed.
func decode(body []byte, header http.Header, o Options) (*exposition.Families, error) {
	f, err := decodeFamilies(body, header, o)
	if err == nil && o.StartTime && !isProtobuf(header.Get("Content-Type")) {
		SetStart(f, time.Now())
	}
	return f, err
}

func decodeFamilies(body []byte, header http.Header, o Options) (*exposition.Families, error) {
	if isProtobuf(header.Get("Content-Type")) {
		return decodeProtobuf(body, o)
	}
	parse := exposition.Parse
	if isOpenMetrics(header.Get("Content-Type")) {
		parse = exposition.ParseOpenMetrics
	}
	f, err := parse(body, o.Limits, o.UTF8Names)
	return f, explain(err, body, header)
}

// wasRead reports whether the Store has rejected the content of a push. The Store
// then has recorded the failure with the group.
func wasRead(err error) bool {
	var conflict *record.Conflict
	return errors.As(err, &conflict) || wasDecoded(err)
}

// wasDecoded reports whether a body was decoded and only its content is invalid.
func wasDecoded(err error) bool {
	var bad *exposition.SyntaxError
	return errors.As(err, &bad) && bad.Decoded
}

// isProtobuf reports whether a Content-Type announces delimited protobuf.
// Everything else is text, above all what curl sends of its own accord,
// application/x-www-form-urlencoded.
func isProtobuf(contentType string) bool {
	const mediaType = "application/vnd.google.protobuf"
	ct := strings.TrimSpace(contentType)
	if len(ct) < len(mediaType) || !strings.EqualFold(ct[:len(mediaType)], mediaType) {
		return false // the usual case, at little cost
	}
	typ, params, err := mime.ParseMediaType(ct)
	return err == nil && typ == mediaType &&
		params["proto"] == "io.prometheus.client.MetricFamily" && params["encoding"] == "delimited"
}

// isOpenMetrics reports whether a Content-Type announces OpenMetrics, of any version.
func isOpenMetrics(contentType string) bool {
	const mediaType = "application/openmetrics-text"
	ct := strings.TrimSpace(contentType)
	if len(ct) < len(mediaType) || !strings.EqualFold(ct[:len(mediaType)], mediaType) {
		return false
	}
	ct = strings.TrimSpace(ct[len(mediaType):])
	return ct == "" || ct[0] == ';'
}

// readBody reads the body of a request to its end, but no more than the limit.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit} // without reading, nor asking a client that waits for our 100
	}
	b, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength, limit)
	var large *http.MaxBytesError
	if err != nil && !errors.As(err, &large) {
		return nil, &readError{err}
	}
	return b, err
}

// A readError reports that a body was cut off.
type readError struct{ err error }

func (e *readError) Error() string { return fmt.Sprintf("the body breaks off: %v", e.err) }
func (e *readError) Unwrap() error { return e.err }

// readAll reads to the end, but no more than the limit. The hint is how much is
// to be expected, or not positive. It may be a lie, so it is followed only so
// far in advance.
func readAll(r io.Reader, hint, limit int64) ([]byte, error) {
	const least, most = 1 << 10, 256 << 10
	if hint <= 0 {
		hint = least
	}
	b := make([]byte, 0, min(hint, most)+1) // one more, so that the end is found without growing
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > limit:
			return nil, &http.MaxBytesError{Limit: limit}
		case err == io.EOF: // and not io.ErrUnexpectedEOF
			return b, nil
		case err != nil:
			return nil, err
		}
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(2*int64(cap(b)), limit+1))
			copy(grown, b)
			b = grown
		}
	}
}

// A codec takes one kind of compression off. Decompressors are heavy to make
// and therefore kept.
type codec struct {
	name string
	pool sync.Pool // of decompressor
}

// A decompressor reads what a reader that is given to it has, decompressed.
type decompressor interface {
	io.Reader
	Reset(r io.Reader) error
}

var (
	gzipCodec = codec{name: "gzip", pool: sync.Pool{New: func() any { return new(gzip.Reader) }}}

	snappyCodec = codec{name: "snappy", pool: sync.Pool{New: func() any { return snappyReader{snappy.NewReader(nil)} }}}

	zstdCodec = codec{name: "zstd", pool: sync.Pool{New: func() any {
		// The window is limited to that of RFC 9659, which bounds the memory. With a
		// concurrency of one and no buffer limit, decoding happens only inside Read.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecodeBuffersBelow(0))
		if err != nil {
			panic("ingest: " + err.Error()) // the options are wrong
		}
		return d
	}}}
)

// decompress decodes a body by its Content-Encoding. It returns an error if the
// result exceeds the limit.
func decompress(body []byte, encoding string, limit int64) ([]byte, error) {
	if encoding == "" { // the usual case
		return body, nil
	}
	coded := codingOf(encoding)
	switch coded {
	case "":
		return body, nil
	case severalCodings:
		return nil, refuse(http.StatusBadRequest, "the Content-Encoding %s names several encodings: use one of gzip, snappy and zstd", exposition.Quote(encoding))
	case "gzip", "x-gzip":
		return gzipCodec.decompress(body, limit)
	case "snappy", "x-snappy-framed":
		return snappyCodec.decompress(body, limit)
	case "zstd":
		return zstdCodec.decompress(body, limit)
	}
	if len(body) > 0 && isPlainText(body) {
		return body, nil // the header is wrong, and Pushgateway ignores it
	}
	return nil, refuse(http.StatusBadRequest, "the Content-Encoding %s is not supported: use gzip, snappy or zstd, or send the body as it is", exposition.Quote(encoding))
}

// contentEncoding returns the value of all lines of the header Content-Encoding. Several
// lines are a list.
func contentEncoding(header http.Header) string {
	return strings.Join(header.Values("Content-Encoding"), ", ")
}

// severalCodings is the result of codingOf for a list with more than one encoding.
const severalCodings = ","

// codingOf returns the encoding in a Content-Encoding, in lower case, "" if there is none.
// Names of other things are ignored, because some clients write the character set or the
// type there.
func codingOf(encoding string) (coded string) {
	for name := range strings.SplitSeq(strings.ToLower(encoding), ",") {
		if name = strings.TrimSpace(name); !isCoding[name] {
			continue
		}
		if coded != "" {
			return severalCodings
		}
		coded = name
	}
	return coded
}

// isCoding has the names of encodings. Other names are ignored.
var isCoding = map[string]bool{
	"gzip": true, "x-gzip": true, "snappy": true, "x-snappy-framed": true, "zstd": true,
	"deflate": true, "br": true, "compress": true, "x-compress": true, "bzip2": true, "x-bzip2": true, "xz": true, "lz4": true, "dcb": true, "dcz": true, "exi": true, "pack200-gzip": true, "aes128gcm": true,
}

func (c *codec) decompress(body []byte, limit int64) ([]byte, error) {
	if len(body) == 0 { // even nothing has a header when it is compressed; cut off, it would empty a group
		return nil, refuse(http.StatusBadRequest, "the body is empty, which is not %s data", c.name)
	}
	d := c.pool.Get().(decompressor)
	err := d.Reset(bytes.NewReader(body))
	var plain []byte
	if err == nil {
		plain, err = readAll(d, 4*int64(len(body)), limit)
	}
	// Release the body. The error is that an empty body is not valid gzip data.
	_ = d.Reset(bytes.NewReader(nil))
	c.pool.Put(d)
	if _, large := err.(*http.MaxBytesError); err != nil && !large {
		switch {
		case isPlainText(body):
			return nil, refuse(http.StatusBadRequest, "the body is not valid %s data but plain text: leave out the header Content-Encoding", c.name)
		case c == &snappyCodec && isBlockSnappy(body, limit):
			return nil, refuse(http.StatusBadRequest, "the body is snappy without frames, as remote write uses it: use the framed format, gzip or zstd")
		case c == &gzipCodec:
			if n := afterGzip(body, limit); n > 0 {
				return nil, refuse(http.StatusBadRequest, "the body has %s after the end of its gzip data: send the gzip data alone", wording.Count(n, "byte"))
			}
		}
		return nil, refuse(http.StatusBadRequest, "the body is not valid %s data: %v; it may be cut off", c.name, err)
	}
	return plain, err
}

// afterGzip returns the number of bytes after complete gzip data. It is 0 if the data is
// invalid or the bytes begin like more of it.
func afterGzip(body []byte, limit int64) int {
	src := bytes.NewReader(body)
	d, err := gzip.NewReader(src)
	for err == nil {
		d.Multistream(false)
		if n, err := io.Copy(io.Discard, io.LimitReader(d, limit+1)); err != nil || n > limit {
			return 0
		}
		rest := body[len(body)-src.Len():]
		if !bytes.HasPrefix(rest, []byte("\x1f\x8b")) {
			return len(rest)
		}
		err = d.Reset(src)
	}
	return 0
}

// snappyReader gives a reader of framed snappy the Reset of the others.
type snappyReader struct{ *s2.Reader }

func (r snappyReader) Reset(src io.Reader) error {
	r.Reader.Reset(src)
	return nil
}
