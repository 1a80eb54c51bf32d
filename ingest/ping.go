package ingest

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest/job"
)

// pingID begins the ID of runs that pings tell of, which hold no lock.
const pingID = "ping"

var (
	slugs  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
	number = regexp.MustCompile(`^-?[0-9]+$`)
	runIDs = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// A ping is what one request tells of a job.
type ping struct {
	slug string
	verb string // start, success, fail or log
	code int    // exit code, of success and fail
	run  string // ID of the run
}

// Ping records a ping of a job. The path is the part after "/ping/", still
// percent-encoded.
//
// Here a GET writes. CrossOriginProtection allows a GET from any web page, so
// requests with a browser's header fields are rejected: pings come from programs.
func (h *Handler) Ping(w http.ResponseWriter, r *http.Request, path string) {
	var g grouping.Key
	var err error
	switch {
	case !h.pings:
		err = refuse(http.StatusNotFound, "404 page not found: pings are taken if the agent runs with --ping.enable")
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
		h.otherMethod(w, r, "ping", "GET, HEAD, OPTIONS, POST", "a ping is a GET, HEAD or POST")
		return
	case fromBrowser(r):
		err = refuse(http.StatusForbidden, "a ping comes from a program, not from a browser")
	default:
		if err = h.guard.check(r); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 128<<10)) // output of the job, which is not recorded
			g, err = h.ping(r, path)
		}
	}
	if err != nil {
		h.answer(w, r, "ping", g, 0, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "OK") // the client is gone if this fails
	h.metrics.answered("ping", r.Method, http.StatusOK)
}

func (h *Handler) ping(r *http.Request, path string) (g grouping.Key, err error) {
	p, err := parsePing(path, r.URL.RawQuery)
	if err != nil {
		return g, err
	}
	if g, err = grouping.New(exposition.Label{Name: "job", Value: p.slug}); err != nil {
		return g, refuse(http.StatusBadRequest, "%v", err)
	}
	if p.verb == "log" {
		return g, nil
	}
	if err := h.store.MayChange(g, h.owners.writer(r)); err != nil {
		return g, err
	}
	// A new job counts from here on, so that many at once do not exceed the limit.
	if f := h.store.View().File(g.FileName()); f == nil || f.Attributes(record.RecordAttribute) == nil {
		if !h.reserve(g.FileName()) {
			return g, refuse(http.StatusInsufficientStorage, "%d jobs are on record, the limit of --ping.max-slugs", h.maxSlugs)
		}
		defer h.unreserve(g.FileName())
	}
	now := time.Now()
	if p.verb == "start" {
		boot := ""
		if fromThisHost(r) { // a boot of this host does not end a job on another host
			boot = h.boot
		}
		return g, job.Begin(h.store, g, job.Start{ID: p.run, At: now, Boot: boot})
	}
	end := job.End{ID: p.run, At: now, Took: -1, Outcome: job.Success, ExitCode: p.code}
	if p.verb == "fail" {
		end.Outcome = job.Failure
	}
	return g, job.Finish(h.store, g, end)
}

// reserve counts a new job while a ping adds it, and reports whether there is room
// for it. Only the count is under a lock: a commit may wait for seconds.
func (h *Handler) reserve(name string) bool {
	h.slugsMu.Lock()
	defer h.slugsMu.Unlock()
	n, on := 0, map[string]bool{}
	for f := range h.store.View().Files() {
		if f.Attributes(record.RecordAttribute) != nil {
			n++
			if h.newSlugs[f.Name()] > 0 {
				on[f.Name()] = true // in the view already
			}
		}
	}
	if n += len(h.newSlugs) - len(on); n >= h.maxSlugs && h.newSlugs[name] == 0 && !on[name] {
		return false
	}
	h.newSlugs[name]++
	return true
}

func (h *Handler) unreserve(name string) {
	h.slugsMu.Lock()
	defer h.slugsMu.Unlock()
	if h.newSlugs[name]--; h.newSlugs[name] == 0 {
		delete(h.newSlugs, name)
	}
}

// parsePing reads SLUG[/VERB], or KEY/SLUG[/VERB] as clients send it that have a
// key of their project; such a key is not looked at.
func parsePing(path, query string) (p ping, err error) {
	parts := strings.Split(path, "/")
	for i := range parts {
		if parts[i], err = url.PathUnescape(parts[i]); err != nil {
			return p, refuse(http.StatusBadRequest, "the path has a percent sign without two hexadecimal digits after it")
		}
	}
	p.verb = "success"
	if n := len(parts); n > 1 && p.setVerb(parts[n-1]) {
		parts = parts[:n-1]
	}
	if len(parts) > 2 {
		return p, refuse(http.StatusNotFound, "a ping has the path /ping/SLUG, or that and /start, /success, /fail, /log or an exit code from 0 to 255")
	}
	if last := parts[len(parts)-1]; len(parts) > 1 && number.MatchString(last) {
		// With a key before it that might be a slug, but then every exit code above 255 would be a success of another job.
		return p, refuse(http.StatusBadRequest, "invalid exit code %s: want 0 to 255", grouping.QuoteShort(last))
	}
	for _, part := range parts {
		if !slugs.MatchString(part) {
			return p, refuse(http.StatusBadRequest, "invalid slug %s: want 1 to 128 letters, digits, dots, dashes and underscores", grouping.QuoteShort(part))
		}
	}
	p.slug, p.run = parts[len(parts)-1], pingID
	values, err := grouping.ParseQuery(query, nil)
	if err != nil {
		return p, refuse(http.StatusBadRequest, "%s", err)
	}
	if rid := values.Get("rid"); values.Has("rid") { // an empty one is an unset variable
		if !runIDs.MatchString(rid) {
			return p, refuse(http.StatusBadRequest, "invalid run ID %s: want 1 to 64 letters, digits, dots, dashes and underscores", grouping.QuoteShort(rid))
		}
		p.run += "-" + rid
	}
	return p, nil
}

// setVerb reports whether the word is one that ends a path.
func (p *ping) setVerb(word string) bool {
	switch word {
	case "start", "success", "log":
		p.verb = word
		return true
	case "fail":
		p.verb, p.code = word, 1
		return true
	}
	code, err := strconv.ParseUint(word, 10, 8)
	if err != nil {
		return false
	}
	if p.code = int(code); p.code != 0 {
		p.verb = "fail"
	}
	return true
}
