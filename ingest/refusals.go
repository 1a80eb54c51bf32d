package ingest

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// reasonsOf maps status codes to the reasons of rejections that are not about the body.
var reasonsOf = map[int]string{
	http.StatusBadRequest:            "request",
	http.StatusForbidden:             "forbidden",
	http.StatusMisdirectedRequest:    "forbidden",
	http.StatusRequestTimeout:        "timeout",
	http.StatusRequestEntityTooLarge: string(exposition.TooLarge),
	http.StatusServiceUnavailable:    "busy",
	http.StatusInsufficientStorage:   "full",
	http.StatusInternalServerError:   "error",
}

// bodyReasons are the reasons that a body can be refused for.
var bodyReasons = []exposition.Reason{
	exposition.Syntax, exposition.Incomplete, exposition.Timestamp, exposition.Encoding,
	exposition.TooLarge, exposition.TypeConflict, exposition.Duplicate, exposition.Reserved,
}

// refusalOf describes why a push was refused.
func refusalOf(r *http.Request, err error) record.Refusal {
	code, sentence := statusOf(err)
	x := record.RefusalOf(err, cmp.Or(reasonsOf[code], "request"), clientOf(r))
	var bad *exposition.SyntaxError
	var conflict *record.Conflict
	if !errors.As(err, &bad) && !errors.As(err, &conflict) {
		x.Message = sentence
	}
	x.Message = printable(x.Message)
	return x
}

// clientOf names who sent a request: a user of the unix socket, or an address without
// its port.
func clientOf(r *http.Request) string {
	if p, ok := r.Context().Value(peerKey{}).(peer); ok {
		return "uid:" + strconv.FormatUint(uint64(p.uid), 10)
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	if r.RemoteAddr == "" || r.RemoteAddr == "@" {
		return "unix"
	}
	return r.RemoteAddr
}

// refused counts and logs a push that was refused.
func (h *Handler) refused(r *http.Request, g grouping.Key, code int, err error) {
	x := refusalOf(r, err)
	h.metrics.refused.WithLabelValues(x.Reason).Inc()
	level := slog.LevelWarn
	if code >= http.StatusInternalServerError || noteFailed(err) != nil {
		level = slog.LevelError
		x.Message = err.Error()
	}
	if !h.log.Enabled(r.Context(), level) {
		return
	}
	leftOut, ok := h.logged.allow(g.FileName()+"\x00"+x.Reason, time.Now())
	if !ok {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("group", g.String()), slog.String("remote", r.RemoteAddr), slog.String("client", x.Client),
		slog.Int("code", code), slog.String("reason", x.Reason), slog.String("err", x.Message),
	}
	if leftOut > 0 {
		attrs = append(attrs, slog.Int("left_out", leftOut))
	}
	h.log.LogAttrs(r.Context(), level, "refused a push", attrs...)
}

// keepRefusal keeps with the group why a push was refused that its writer may make and
// that is at fault itself.
func (h *Handler) keepRefusal(r *http.Request, g grouping.Key, err error) {
	switch code, _ := statusOf(err); {
	case errors.Is(err, record.ErrNotOwner), errors.Is(err, filestore.ErrBusy):
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusRequestTimeout:
		h.store.Refuse(g, refusalOf(r, err))
	}
}

// logEvery is the minimum time between two log lines about one group and reason.
const logEvery = time.Minute

// mostLogged is the maximum number of distinct groups and reasons.
const mostLogged = 1000

// logLimit decides which refusals are logged. Its zero value is ready.
type logLimit struct {
	mu    sync.Mutex
	lines map[string]*logged // guarded by mu
}

type logged struct {
	at      time.Time
	leftOut int
}

// allow reports whether a line is to be logged, and how many were left out since the one
// before. When there are too many keys, all new ones share one.
func (l *logLimit) allow(key string, now time.Time) (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil {
		l.lines = make(map[string]*logged)
	}
	if l.lines[key] == nil && len(l.lines) >= mostLogged {
		for k, x := range l.lines {
			if now.Sub(x.at) >= logEvery && x.leftOut == 0 {
				delete(l.lines, k)
			}
		}
		if len(l.lines) >= mostLogged {
			key = ""
		}
	}
	x := l.lines[key]
	if x == nil {
		l.lines[key] = &logged{at: now}
		return 0, true
	}
	if now.Sub(x.at) < logEvery {
		x.leftOut++
		return 0, false
	}
	leftOut = x.leftOut
	x.at, x.leftOut = now, 0
	return leftOut, true
}
