// Package ingest is every way to write over HTTP. It speaks the push API of the
// Pushgateway.
//
// # Routes
//
//	PUT    /metrics/job/JOB{/LABEL/VALUE}   replace the group
//	POST   /metrics/job/JOB{/LABEL/VALUE}   replace the group's families of the names in the body
//	DELETE /metrics/job/JOB{/LABEL/VALUE}   remove the group
//	PUT    /api/v1/admin/wipe               remove all groups (only if offered)
//	DELETE /api/v1/admin/groups             remove the groups that are selected (only if offered)
//
// The selection is made by match[], a selector of grouping keys as in PromQL,
// repeated for further groups; older_than takes of these only groups whose last
// push is that long ago (of a group that never took one, the last that was
// refused). With dry_run nothing is removed. The answer is JSON and lists what
// was, or would be.
//
//	GET    /ping/SLUG[/start|/success|/fail|/log|/CODE]   tell of a run of a job (only if offered; HEAD and POST as well)
//
// The path is percent-decoded once and then split, so an encoded slash
// separates like any other. A value that has to contain one, or that is empty,
// is given in base64 (RFC 4648, the URL-safe alphabet) after a name that ends
// in @base64: /metrics/job@base64/L3Zhci90bXA. A label with an empty value names
// the same group as no label. Nothing is ever answered by a redirect: a path
// that would have to be cleaned is refused.
//
// # Bodies
//
// The Content-Type decides between delimited protobuf and, in every other case,
// the text format 0.0.4; the Content-Encoding may be gzip, snappy (framed) or
// zstd. A body is read to its end before anything is touched: one that breaks
// off, even between two lines, changes nothing.
//
// # Answers
//
//	200  the push is on stable storage and in every later scrape (202 if pushes are not checked),
//	     or the listed groups are deleted
//	202  the group, or all, is deleted, or did not exist
//	400  the path, the body, or a conflict with the rest of the spool
//	403  not from this host, from a page of another origin, or for another user's group
//	404  unknown route
//	405  another method is needed
//	408  the body did not arrive in time
//	413  the body, or something in it, is larger than a limit
//	421  a browser addressed this host by a name that is not its own
//	500  the spool cannot be written, or the outcome of the sync is unknown
//	503  another process holds the lock of the spool; retry
//	507  the disk, a quota or the spool is full
//
// Every rejection has a one-line explanation in plain text. After a 4xx, 503 or 507
// the group is unchanged except for the time of its last failure. A push that is
// rejected for its timestamps or for a conflict sets that time, and creates the
// group if it does not exist, as in Pushgateway.
//
// # Access control
//
// Writes are accepted from this host only, unless Config.AllowRemote is set. A
// proxy on this host counts as this host. Requests from web pages are rejected by
// their origin and, against DNS rebinding, by their host name: see HostRule.
package ingest

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
)

// A Config configures a Handler. Only the Store is required.
type Config struct {
	Store        *filestore.Store
	Limits       exposition.Limits // of a body, and of the labels in a path
	MaxBytes     int64             // of a body, as sent and as decoded; default 16 MiB
	UTF8Names    bool              // names outside of [a-zA-Z_:][a-zA-Z0-9_:]*
	StartTime    bool              // see Options.StartTime
	Unchecked    bool              // answer a push with 202; the Store has to be opened unchecked, too
	AllowRemote  bool              // accept writes from other hosts
	AllowedHosts []string          // further names of this host, see NewHostRule
	Admin        bool              // allow bulk deletions
	Ownership    *Ownership        // nil if every client may change every group
	Logger       *slog.Logger      // nil for none

	Pings    bool   // accept pings of jobs
	MaxSlugs int    // maximum number of recorded jobs for a ping to add one; default 1000
	Boot     string // identifies this boot of the host; empty if unknown

	// Registerer gets the sizes and durations of pushes; may be nil.
	Registerer prometheus.Registerer
	// Requests counts every answer, with the labels handler, code and method;
	// may be nil. It is not registered here.
	Requests *prometheus.CounterVec
}

// defaultMaxBytes is the default of Config.MaxBytes and Options.MaxBytes.
const defaultMaxBytes = 16 << 20

// defaultMaxSlugs is the default of Config.MaxSlugs.
const defaultMaxSlugs = 1000

// bodiesAtOnce is how many bodies of the largest size are decoded at a time.
const bodiesAtOnce = 4

// decodeTimeout is how long a push waits for its turn to be decoded.
const decodeTimeout = 30 * time.Second

// A Handler answers the push API. It is safe for concurrent use.
type Handler struct {
	store   *filestore.Store
	options Options
	success int // the answer to a push
	admin   bool
	guard   *guard
	owners  *Ownership          // nil if groups have no owners
	room    *semaphore.Weighted // bytes of bodies that are being decoded and stored
	log     *slog.Logger
	metrics *metrics
	logged  logLimit

	pings    bool
	maxSlugs int
	boot     string
	slugsMu  sync.Mutex     // guards newSlugs
	newSlugs map[string]int // pings under way that add a job, by the name of its file
}

// New returns the handler of the push API. The only error is that of
// registering its metrics.
func New(cfg Config) (*Handler, error) {
	h := &Handler{
		store:   cfg.Store,
		options: Options{Limits: cfg.Limits, MaxBytes: cfg.MaxBytes, UTF8Names: cfg.UTF8Names, StartTime: cfg.StartTime},
		success: http.StatusOK,
		admin:   cfg.Admin,
		guard:   newGuard(cfg.AllowRemote, NewHostRule(cfg.AllowedHosts...)),
		owners:  cfg.Ownership,
		log:     cfg.Logger,
		metrics: newMetrics(cfg.Requests),
		pings:   cfg.Pings, maxSlugs: cfg.MaxSlugs, boot: cfg.Boot,
		newSlugs: map[string]int{},
	}
	if h.maxSlugs <= 0 {
		h.maxSlugs = defaultMaxSlugs
	}
	if h.options.MaxBytes <= 0 {
		h.options.MaxBytes = defaultMaxBytes
	}
	h.room = semaphore.NewWeighted(bodiesAtOnce * h.options.MaxBytes)
	if cfg.Unchecked {
		h.success = http.StatusAccepted
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(h.metrics); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Serve answers the request if the path is one of the push API and reports
// whether it was. The path is that of the request as it came, still
// percent-encoded and not cleaned, without the route prefix. It must not have
// been through a router that redirects, such as http.ServeMux.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, path string) bool {
	if rest, ok := pushPath(path); ok {
		h.Push(w, r, rest)
		return true
	}
	if rest, ok := strings.CutPrefix(path, "/ping/"); ok {
		h.Ping(w, r, rest)
		return true
	}
	switch path {
	case "/api/v1/admin/wipe":
		h.Wipe(w, r)
	case "/api/v1/admin/groups":
		h.RemoveGroups(w, r)
	default:
		return false
	}
	return true
}

// pushPath returns the part of a push path after "/metrics/", still encoded. It
// begins with job or job@base64 and a slash. ParsePath checks the rest.
func pushPath(path string) (string, bool) {
	const prefix = "/metrics/"
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return "", false
	}
	rest, ok := strings.CutPrefix(decoded, prefix+"job")
	if !ok {
		return "", false
	}
	rest = strings.TrimPrefix(rest, base64Suffix)
	if len(rest) < 2 || rest[0] != '/' {
		return "", false
	}
	// Even the prefix may be encoded.
	i := 0
	for range len(prefix) {
		if path[i] == '%' {
			i += 2
		}
		i++
	}
	return path[i:], true
}
