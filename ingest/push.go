package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// Push answers a request to the group that the path names: what follows
// "/metrics/", still percent-encoded, as for ParsePath.
func (h *Handler) Push(w http.ResponseWriter, r *http.Request, path string) {
	switch r.Method {
	case http.MethodPut, http.MethodPost:
		start := time.Now()
		g, err := h.push(w, r, path)
		h.metrics.pushed(r.Method, time.Since(start))
		h.answer(w, r, "push", g, h.success, err)
	case http.MethodDelete:
		g, err := h.remove(r, path)
		h.answer(w, r, "delete", g, http.StatusAccepted, err)
	default:
		h.otherMethod(w, r, "push", "DELETE, OPTIONS, POST, PUT", "a group is written with PUT or POST and removed with DELETE")
	}
}

// push stores the body. The returned group is for the log and may be zero.
func (h *Handler) push(w http.ResponseWriter, r *http.Request, path string) (g grouping.Key, err error) {
	if err := h.guard.check(r); err != nil {
		return g, err
	}
	g, strip, err := parsePath(path, h.options.UTF8Names, h.options.Limits)
	if err != nil {
		return g, err
	}
	opts, err := pushOptions(r)
	if err != nil {
		return g, err
	}
	start, err := startTime(r)
	if err != nil {
		return g, err
	}
	opts.Strip, opts.By = strip, h.owners.writer(r)
	if err := h.store.MayChange(g, opts.By); err != nil {
		return g, err // also what only notes a failure would be a change
	}
	opts.Client = clientOf(r)
	return g, h.receive(w, r, g, start, opts)
}

// receive stores the body in a group that the client may change. A start time other
// than zero is that of its metrics.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, g grouping.Key, start time.Time, opts record.PushOptions) (err error) {
	kept := false // the refusal, by the Store
	defer func() {
		if err != nil && !kept {
			h.keepRefusal(r, g, err)
		}
	}()
	body, err := readBody(w, r, h.options.MaxBytes)
	if err != nil {
		return err
	}
	h.metrics.received(r.Method, len(body))
	// The size in memory is known only after decompression, so few large bodies are
	// decoded and stored at a time. The wait is short because it does not depend on
	// other clients. This client may have closed its side after the body, and still
	// want the answer.
	weight := int64(len(body))
	encoding := contentEncoding(r.Header)
	if encoding != "" {
		weight = h.options.MaxBytes
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), decodeTimeout)
	defer cancel()
	if err := h.room.Acquire(wait, weight); err != nil {
		return refuse(http.StatusServiceUnavailable, "pushes in progress have %d times --push.max-bytes=%d: retry later", bodiesAtOnce, h.options.MaxBytes)
	}
	defer func() { h.room.Release(weight) }()
	plain, err := decompress(body, encoding, h.options.MaxBytes)
	if err != nil {
		return explain(err, body, r.Header)
	}
	if spare := weight - int64(len(plain)); spare > 0 { // a commit may wait for seconds
		h.room.Release(spare)
		weight -= spare
	}
	families, err := decode(plain, r.Header, h.options)
	if err == nil && !start.IsZero() {
		SetStart(families, start)
	}
	switch {
	case err != nil && wasDecoded(err):
		kept = true
		return errors.Join(err, h.store.FailFor(g, refusalOf(r, err)))
	case err != nil:
		return err
	case r.Method == http.MethodPut:
		err = h.store.Replace(g, families, opts)
	default:
		err = h.store.Update(g, families, opts)
	}
	kept = wasRead(err)
	return err
}

// remove deletes the group. A body is not looked at.
func (h *Handler) remove(r *http.Request, path string) (g grouping.Key, err error) {
	if err := h.guard.check(r); err != nil {
		return g, err
	}
	g, _, err = parsePath(path, h.options.UTF8Names, h.options.Limits)
	if err != nil {
		return g, err
	}
	return g, h.store.DeleteAs(g, h.owners.writer(r))
}

// Wipe answers a request to remove every group. If that is not offered there is
// no such route.
func (h *Handler) Wipe(w http.ResponseWriter, r *http.Request) {
	var none grouping.Key
	switch {
	case !h.admin:
		h.answer(w, r, "wipe", none, 0, refuse(http.StatusNotFound, "404 page not found"))
	case r.Method != http.MethodPut:
		h.otherMethod(w, r, "wipe", "OPTIONS, PUT", "to remove all groups use PUT")
	default:
		err := h.guard.check(r)
		if err == nil {
			err = h.owners.checkAdmin(r)
		}
		if err == nil {
			if err = h.store.Wipe(); err == nil {
				h.log.Info("all groups were removed", "remote", r.RemoteAddr)
			}
		}
		h.answer(w, r, "wipe", none, http.StatusAccepted, err)
	}
}

// Permit reports whether the request may write, by the rules for pushes. If not
// it is answered. It is for what else changes the agent.
func (h *Handler) Permit(w http.ResponseWriter, r *http.Request) bool {
	err := h.guard.check(r)
	if err != nil {
		code, sentence := statusOf(err)
		h.drain(w, r, err)
		writeError(w, code, sentence)
	}
	return err == nil
}

// MayWrite reports whether the client of a request may write. It is a guess for a
// read request, which has no origin to check.
func (h *Handler) MayWrite(r *http.Request) bool { return h.guard.check(r) == nil }

// otherMethod answers OPTIONS, and rejects other methods with 405.
func (h *Handler) otherMethod(w http.ResponseWriter, r *http.Request, handler, allow, hint string) {
	w.Header().Set("Allow", allow)
	var err error
	if r.Method != http.MethodOptions {
		err = refuse(http.StatusMethodNotAllowed, "%s", hint)
	}
	h.answer(w, r, handler, grouping.Key{}, http.StatusOK, err)
}

// answer ends a request: with the code and no body, or with the status and the
// sentence that the error has in the table.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, handler string, g grouping.Key, code int, err error) {
	if err == nil {
		w.WriteHeader(code)
	} else {
		err = h.explainDenied(err)
		var sentence string
		code, sentence = statusOf(err)
		if handler == "push" && (r.Method == http.MethodPut || r.Method == http.MethodPost) {
			h.refused(r, g, code, err)
		} else {
			h.logRefusal(r, handler, g, code, err)
		}
		h.drain(w, r, err)
		writeError(w, code, sentence+hintFor(r, err))
	}
	h.metrics.answered(handler, r.Method, code)
}

// explainDenied adds the spool and a remedy to an error if the agent may not write there.
func (h *Handler) explainDenied(err error) error {
	spool := h.store.Path()
	if !errors.Is(err, unix.EACCES) || unix.Faccessat(unix.AT_FDCWD, spool, unix.W_OK|unix.X_OK, unix.AT_EACCESS) == nil {
		return err
	}
	return fmt.Errorf("%w: the agent lacks permission in the spool %s: let its user write there, or add it to the group of the directory (see ls -ld)", err, wording.Visible(spool))
}

// logRefusal logs an error of the client at debug level, and one of the server as an
// error.
func (h *Handler) logRefusal(r *http.Request, handler string, g grouping.Key, code int, err error) {
	level := slog.LevelDebug
	if code >= http.StatusInternalServerError || noteFailed(err) != nil {
		level = slog.LevelError
	}
	if !h.log.Enabled(r.Context(), level) {
		return
	}
	h.log.LogAttrs(r.Context(), level, "refused a "+handler,
		slog.String("method", r.Method), slog.String("group", g.String()),
		slog.String("remote", r.RemoteAddr), slog.Int("code", code), slog.Any("err", err))
}

// Options of a push are in the query of its URL or in its header, for clients that
// can set only one of them. The query has priority. Other parameters are ignored,
// as in Pushgateway, unless they look like a misspelled name.
const (
	ttlHeader  = "X-Promspool-TTL"
	modeHeader = "X-Promspool-Mode"

	startHeader = "X-Promspool-Start"

	headerPrefix = "X-Promspool-"

	ttlParameter        = "ttl"
	accumulateParameter = "accumulate"
	startParameter      = "start"
)

// parameters are those that a push reads from its query.
var parameters = []string{ttlParameter, accumulateParameter, startParameter}

// checkNames returns an error for a parameter or header that would say nothing although
// it was probably meant to.
func checkNames(query url.Values, header http.Header) error {
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if slices.Contains(parameters, name) {
			continue
		}
		if known := wording.Nearest(name, parameters...); known != "" {
			return refuse(http.StatusBadRequest, "unknown parameter %s: did you mean %s?", exposition.Quote(name), known)
		}
	}
	headers := []string{ttlHeader, modeHeader, startHeader}
	unknown := ""
	for name := range header {
		if len(name) >= len(headerPrefix) && strings.EqualFold(name[:len(headerPrefix)], headerPrefix) &&
			!slices.ContainsFunc(headers, func(h string) bool { return strings.EqualFold(name, h) }) && (unknown == "" || name < unknown) {
			unknown = name
		}
	}
	if unknown == "" {
		return nil
	}
	if known := wording.Nearest(unknown[len(headerPrefix):], "TTL", "Mode", "Start"); known != "" {
		return refuse(http.StatusBadRequest, "unknown header %s: did you mean %s?", exposition.Quote(unknown), headerPrefix+known)
	}
	return refuse(http.StatusBadRequest, "unknown header %s: there are %s, %s and %s", exposition.Quote(unknown), ttlHeader, modeHeader, startHeader)
}

// startTime reads the start time that the request gives its metrics; zero if none.
func startTime(r *http.Request) (time.Time, error) {
	text, where := r.Header.Get(startHeader), "header "+startHeader
	if query := r.URL.Query(); query.Has("start") {
		text, where = query.Get("start"), "parameter start"
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := ParseStart(text)
	if err != nil {
		return at, refuse(http.StatusBadRequest, "%s: %s", where, err)
	}
	return at, nil
}

// ParseStart reads a start time: Unix time in seconds, or as RFC 3339 has it.
func ParseStart(text string) (time.Time, error) {
	if seconds, err := exposition.ParseFloat(text); err == nil && seconds > 0 && seconds < 1e11 {
		return time.UnixMicro(int64(math.Round(seconds * 1e6))), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Year() < 1970 {
		return at, fmt.Errorf("invalid time %s: use Unix time in seconds, or 2006-01-02T15:04:05Z", grouping.QuoteShort(text))
	}
	return at, nil
}

// pushOptions reads what the request asks for.
func pushOptions(r *http.Request) (o record.PushOptions, err error) {
	query, err := grouping.ParseQuery(r.URL.RawQuery, func(name string) bool {
		return slices.Contains(parameters, name) || wording.Nearest(name, parameters...) != ""
	})
	if err != nil {
		return o, refuse(http.StatusBadRequest, "%s", err)
	}
	if err := checkNames(query, r.Header); err != nil {
		return o, err
	}
	ttl, where := r.Header.Get(ttlHeader), "header "+ttlHeader
	if query.Has("ttl") {
		ttl, where = query.Get("ttl"), "parameter ttl"
	}
	if ttl = strings.TrimSpace(ttl); ttl != "" || query.Has("ttl") {
		d, err := record.ParseTTL(ttl)
		if err != nil {
			return o, refuse(http.StatusBadRequest, "%s: %s", where, err)
		}
		o.TTL = &d
	}
	switch mode := r.Header.Get(modeHeader); strings.ToLower(strings.TrimSpace(mode)) {
	case "":
	case "accumulate":
		o.Accumulate = true
	default:
		return o, refuse(http.StatusBadRequest, "header %s: invalid mode %q: use accumulate", modeHeader, mode)
	}
	if query.Has("accumulate") {
		switch v := query.Get("accumulate"); v {
		case "", "1", "true":
			o.Accumulate = true
		case "0", "false":
			o.Accumulate = false
		default:
			return o, refuse(http.StatusBadRequest, "parameter accumulate: %q is neither true nor false", v)
		}
	}
	if o.Accumulate && r.Method != http.MethodPost {
		return o, refuse(http.StatusBadRequest, "to accumulate is to add to what the group holds, and %s replaces it: use POST", r.Method)
	}
	return o, nil
}
