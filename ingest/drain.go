package ingest

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// drainTime bounds how long the rest of a rejected request is read.
const drainTime = time.Second

// drainLeast is the minimum of bytes that are read of it.
const drainLeast = 1 << 20

// Drain reads on for a moment what a request that is going to be rejected still sends.
// Many clients send everything before they read. If the connection is closed meanwhile,
// they get a reset instead of the answer. It reads a few times the limit of a body, for a
// second at most.
func (h *Handler) Drain(w http.ResponseWriter, r *http.Request) { h.drain(w, r, nil) }

// drain is Drain after that error.
func (h *Handler) drain(w http.ResponseWriter, r *http.Request, err error) {
	var large *http.MaxBytesError
	switch {
	case r.ProtoMajor != 1, r.Body == nil, r.Body == http.NoBody:
		return // a stream of HTTP/2 ends without an effect on others
	case errors.Is(err, os.ErrDeadlineExceeded):
		return // it has had its time
	case strings.EqualFold(r.Header.Get("Expect"), "100-continue") && !(errors.As(err, &large) && r.ContentLength < 0):
		return // nothing was asked for, and reading would ask
	}
	if http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, max(4*h.options.MaxBytes, drainLeast)) // the answer is the same
}
