package ingest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

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
		// What RFC 9659 allows in HTTP bounds the memory, whatever a body
		// announces. With a concurrency of one nothing runs beside Read, and no
		// body is small enough to be decoded as a whole before Read has a say.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecodeBuffersBelow(0))
		if err != nil {
			panic("ingest: " + err.Error()) // the options are wrong
		}
		return d
	}}}
)

// decompress returns a body without the encoding that its header names. What
// comes to more than the limit is an error.
func decompress(body []byte, encoding string, limit int64) ([]byte, error) {
	if encoding == "" { // the usual case
		return body, nil
	}
	coded := ""
	for name := range strings.SplitSeq(strings.ToLower(encoding), ",") {
		if name = strings.TrimSpace(name); !isCoding[name] {
			continue // some clients write the character set or the type there
		}
		if coded != "" {
			return nil, refuse(http.StatusBadRequest, "the Content-Encoding %s names several encodings: use one of gzip, snappy and zstd", quote(encoding))
		}
		coded = name
	}
	switch coded {
	case "":
		return body, nil
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
	return nil, refuse(http.StatusBadRequest, "the Content-Encoding %s is not supported: use gzip, snappy or zstd, or send the body as it is", quote(encoding))
}

// isCoding has the names of encodings. What is not here says nothing of the body.
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
	// Let go of the body. The error is that nothing is no gzip data either.
	_ = d.Reset(bytes.NewReader(nil))
	c.pool.Put(d)
	if _, large := err.(*http.MaxBytesError); err != nil && !large {
		switch {
		case isPlainText(body):
			return nil, refuse(http.StatusBadRequest, "the body is not valid %s data but plain text: leave out the header Content-Encoding", c.name)
		case c == &snappyCodec && isBlockSnappy(body, limit):
			return nil, refuse(http.StatusBadRequest, "the body is snappy without frames, as remote write uses it: use the framed format, gzip or zstd")
		}
		return nil, refuse(http.StatusBadRequest, "the body is not valid %s data: %v; it may be cut off", c.name, err)
	}
	return plain, err
}

// snappyReader gives a reader of framed snappy the Reset of the others.
type snappyReader struct{ *s2.Reader }

func (r snappyReader) Reset(src io.Reader) error {
	r.Reader.Reset(src)
	return nil
}
