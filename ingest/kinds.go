package ingest

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/s2"

	"github.com/promspool/promspool/filestore/exposition"
)

// explain names what a body that cannot be read is, where its header says so: a push is
// often sent in another protocol or in the form of an upload. An error that was found in
// what the body says stays as it is.
func explain(err error, body []byte, header http.Header) error {
	var large *http.MaxBytesError
	var bad *exposition.SyntaxError
	switch {
	case err == nil, errors.As(err, &large), wasDecoded(err), errors.As(err, &bad) && bad.Reason == exposition.TooLarge:
		return err
	}
	contentType := header.Get("Content-Type")
	mediaType, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(contentType)), ";")
	mediaType = strings.TrimSpace(mediaType)
	switch {
	case header.Get("X-Prometheus-Remote-Write-Version") != "",
		mediaType == "application/x-protobuf" && strings.EqualFold(contentEncoding(header), "snappy"):
		return refuse(http.StatusBadRequest, "the body is a remote-write request, not a push: send it to a server that accepts remote write, or push the text format")
	case mediaType == "application/x-protobuf":
		return refuse(http.StatusBadRequest, "the Content-Type %s is that of remote write and OTLP, not of a push: push the text format", exposition.Quote(contentType))
	case strings.HasPrefix(mediaType, "application/vnd.google.protobuf") && !isProtobuf(contentType):
		return refuse(http.StatusBadRequest, "the Content-Type %s is not that of a push in protobuf: use application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", exposition.Quote(contentType))
	case mediaType == "multipart/form-data":
		return refuse(http.StatusBadRequest, "the body is a form (multipart/form-data), not the text format: send the text itself as the body")
	case bad != nil && strings.Contains(bad.Msg, exposition.Compressed) && codingOf(contentEncoding(header)) != "":
		return refuse(http.StatusBadRequest, "the decompressed body is compressed data: compress it only once")
	case isURLEncoded(body):
		return refuse(http.StatusBadRequest, "the body %s is URL-encoded, not the text format: send the text as it is", exposition.Quote(string(body)))
	}
	return err
}

// isURLEncoded reports whether a body was written for a form. Such a body has none of the
// blanks and line ends that the text format needs.
func isURLEncoded(body []byte) bool {
	s := strings.TrimRight(string(body[:min(len(body), 4096)]), "\r\n")
	if s == "" || strings.ContainsAny(s, " \t\n\"{") || !strings.Contains(s, "%") {
		return false
	}
	plain, err := url.QueryUnescape(s)
	return err == nil && plain != s && strings.ContainsAny(plain, " \t\n")
}

// isPlainText reports whether a body is text, whatever its header says.
func isPlainText(body []byte) bool {
	if !utf8.Valid(body) {
		return false
	}
	for _, c := range body {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isBlockSnappy reports whether a body is snappy without its frames, as in remote write.
func isBlockSnappy(body []byte, limit int64) bool {
	n, err := s2.DecodedLen(body)
	if err != nil || int64(n) > limit || n > 16*len(body)+1024 {
		return false
	}
	_, err = s2.Decode(nil, body)
	return err == nil
}

// hintFor returns what a client that is known can do about a refusal.
func hintFor(r *http.Request, err error) string {
	if !strings.HasPrefix(r.UserAgent(), "curl/") {
		return ""
	}
	var bad *exposition.SyntaxError
	contentType := strings.ToLower(r.Header.Get("Content-Type"))
	switch {
	case strings.HasPrefix(contentType, "multipart/form-data"):
		return " (with curl use --data-binary @FILE instead of -F)"
	case errors.As(err, &bad) && bad.Reason == exposition.Incomplete:
		return " (with curl use --data-binary: -d removes the newlines)"
	case errors.As(err, &bad) && strings.Contains(bad.Msg, "gzip data"):
		return " (with curl add -H 'Content-Encoding: gzip')"
	}
	return ""
}
