package ingest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// A refusal is an error that has its status code with it.
type refusal struct {
	code     int
	sentence string
}

func (e *refusal) Error() string { return e.sentence }

func refuse(code int, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// statusOf returns the status code and the message for an error. An error of the
// client is never a 5xx, and one of the server never a 4xx.
//
// 413 is for all limits of a body, of its size and of its content. The limits of a
// path are a 400.
func statusOf(err error) (code int, sentence string) {
	var (
		refused  *refusal
		bad      *exposition.SyntaxError
		conflict *record.Conflict
		large    *http.MaxBytesError
		broken   *readError
	)
	switch {
	case errors.As(err, &refused):
		return refused.code, refused.sentence
	case errors.As(err, &bad) && bad.Reason == exposition.TooLarge:
		return http.StatusRequestEntityTooLarge, bad.Error()
	case errors.As(err, &bad):
		return http.StatusBadRequest, bad.Error()
	case errors.As(err, &conflict):
		return http.StatusBadRequest, conflict.Error()
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes, the limit of --push.max-bytes: push less at a time, or raise the limit", large.Limit)
	case errors.As(err, &broken) && errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, "the body did not arrive in time"
	case errors.As(err, &broken):
		return http.StatusBadRequest, broken.Error()
	case errors.Is(err, record.ErrNotOwner):
		return http.StatusForbidden, err.Error() + ", over the unix socket (--push.owner-check, --push.admin-group)"
	case errors.Is(err, filestore.ErrInDoubt):
		return http.StatusInternalServerError, err.Error() + "; doing it again is safe"
	case errors.Is(err, filestore.ErrBusy), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return http.StatusServiceUnavailable, err.Error()
	case errors.Is(err, filestore.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return http.StatusInsufficientStorage, err.Error()
	}
	return http.StatusInternalServerError, err.Error()
}

// noteFailed returns the error of recording a rejected push in its group. It is an
// error of the server, although the status blames the client.
func noteFailed(err error) error {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return nil
	}
	if all := joined.Unwrap(); len(all) > 1 {
		return all[1]
	}
	return nil
}

// writeError answers with a sentence.
func writeError(w http.ResponseWriter, code int, sentence string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if code == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, printable(sentence)+"\n") // the client is gone if this fails
}

// printable returns a sentence in one line of bounded length, without anything
// that a terminal would act upon: the names and values of labels may be in it.
func printable(s string) string {
	const most = 2 << 10
	s = strings.ToValidUTF8(s, "\uFFFD")
	rest := ""
	if len(s) > most {
		s, rest = strings.ToValidUTF8(s[:most], ""), "…"
	}
	return wording.Visible(s) + rest
}
