package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
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
	opts.Strip, opts.By = strip, h.owners.writer(r)
	if err := h.store.MayChange(g, opts.By); err != nil {
		return g, err // also what only notes a failure would be a change
	}
	opts.Client = clientOf(r)
	return g, h.receive(w, r, g, opts)
}

// receive stores the body in a group that the client may change.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, g grouping.Key, opts record.PushOptions) (err error) {
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
	// What a body comes to in memory is known only when it is decompressed, so
	// few large ones are decoded and stored at a time. The wait is short, as no
	// client is waited for here. That of this request may have closed its end
	// already, as it has sent everything, and still want the answer.
	weight := int64(len(body))
	if r.Header.Get("Content-Encoding") != "" {
		weight = h.options.MaxBytes
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), roomPatience)
	defer cancel()
	if err := h.room.Acquire(patience, weight); err != nil {
		return refuse(http.StatusServiceUnavailable, "pushes under way come to %d times --push.max-bytes=%d, try again", bodiesAtOnce, h.options.MaxBytes)
	}
	defer func() { h.room.Release(weight) }()
	plain, err := decompress(body, r.Header.Get("Content-Encoding"), h.options.MaxBytes)
	if err != nil {
		return explain(err, body, r.Header)
	}
	if spare := weight - int64(len(plain)); spare > 0 { // a commit may wait for seconds
		h.room.Release(spare)
		weight -= spare
	}
	families, err := decode(plain, r.Header, h.options)
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

// MayWrite reports whether whoever sent the request may write. A request to
// read tells less than one to write: it has no origin to be judged by.
func (h *Handler) MayWrite(r *http.Request) bool { return h.guard.check(r) == nil }

// otherMethod answers OPTIONS and refuses what is not allowed.
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

// logRefusal logs what clients did wrong for those who look for it, and what we
// could not do for everybody.
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
