package ingest

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// Options bound what Decode accepts.
type Options struct {
	Limits    exposition.Limits
	MaxBytes  int64 // of the body, as sent and as decoded; default 16 MiB
	UTF8Names bool
}

// Decode reads the body of a push in any encoding and format that the header
// says it has. What exceeds MaxBytes gives an *http.MaxBytesError, what is not
// as it should be a *filestore.SyntaxError or an error with a sentence.
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
	plain, err := decompress(sent, header.Get("Content-Encoding"), o.MaxBytes)
	if err != nil {
		return nil, explain(err, sent, header)
	}
	return decode(plain, header, o)
}

// decode is Decode for a body that is in memory and decompressed.
func decode(body []byte, header http.Header, o Options) (*exposition.Families, error) {
	if isProtobuf(header.Get("Content-Type")) {
		return decodeProtobuf(body, o)
	}
	f, err := exposition.Parse(body, o.Limits, o.UTF8Names)
	return f, explain(err, body, header)
}

// wasRead reports whether an error of the Store is about what a push says, so that the Store
// has kept it with the group.
func wasRead(err error) bool {
	var conflict *record.Conflict
	return errors.As(err, &conflict) || wasDecoded(err)
}

// wasDecoded reports whether a body was read and only what it says is wrong.
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

// A readError is why a body did not come to its end.
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
