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
	var c *codec
	switch strings.ToLower(encoding) { // no copy, usually
	case "", "identity", "utf-8", "utf8": // some clients take it for the character set
		return body, nil
	case "gzip":
		c = &gzipCodec
	case "snappy":
		c = &snappyCodec
	case "zstd":
		c = &zstdCodec
	default:
		return nil, refuse(http.StatusBadRequest, "the Content-Encoding %s is none of gzip, snappy, zstd and identity", quote(encoding))
	}
	return c.decompress(body, limit)
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
		return nil, refuse(http.StatusBadRequest, "the body is not valid %s data: %v", c.name, err)
	}
	return plain, err
}

// snappyReader gives a reader of framed snappy the Reset of the others.
type snappyReader struct{ *s2.Reader }

func (r snappyReader) Reset(src io.Reader) error {
	r.Reader.Reset(src)
	return nil
}
