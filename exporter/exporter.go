// Package exporter is every way to read a spool over HTTP: the scrape, the JSON
// API, the health of the agent and a page for people.
//
// # The idea
//
// A [filestore.View] is the merge of all files as ready text, and it is
// immutable. A request takes the current one, so it never waits for a writer and never
// sees half a change. A scrape copies ready text, however many groups there are. Only
// the agent's own metrics are rendered each time, and those of its process once a
// second. Whatever a file holds, a scrape is answered with 200 and with text that
// Prometheus accepts: the merge leaves out the rest.
//
// # The pages
//
//	Metrics     /metrics          the scrape: text or protobuf, gzip or zstd
//	APIMetrics  /api/v1/metrics   the pushed groups as Pushgateway shows them
//	APIStatus   /api/v1/status    flags and build information, the same
//	APIFiles    /api/v1/files     every file, its content and its faults
//	Healthy     /-/healthy        200, or 503 and the reason
//	Ready       /-/ready          the same
//	Page        / and /status     for people
//	Asset       /ui/              files of the page
//
// The paths are for the caller to choose; links on the page are relative.
// Every page answers GET and HEAD, OPTIONS with the allowed methods, and any other
// method with 405.
package exporter

import (
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/semaphore"

	"github.com/promspool/promspool/filestore/merge"
)

// Config is what an [Exporter] shows. Its functions are called from many
// goroutines at once. Only View is required.
type Config struct {
	// View returns the current view; usually it is the method of a
	// filestore.Store.
	View func() *merge.View
	// Own gathers the program's own metrics. They must not have the names of
	// the families that the view holds about its files (promspool_file_…).
	Own prometheus.Gatherer
	// Process gathers metrics of the process and of the machine, at most once a
	// second. Nil means none.
	Process prometheus.Gatherer
	// OwnFamilies describes Own and Process, as in filestore.Options.Own: see
	// [OwnFamilies].
	OwnFamilies map[string]merge.Own
	// Health returns why the spool cannot be used; nil if it can.
	Health func() error
	// Ready returns why the first scan is not complete; nil if it is.
	Ready func() error
	// Info describes the program for the status page and the API.
	Info Info
	// CORSOrigin names the origins (such as https://example.org) whose pages
	// may read the JSON API. It must match the whole of an origin. Nil means
	// that no CORS headers are sent.
	CORSOrigin *regexp.Regexp
	// CanWrite reports whether the client may push and delete. The page offers
	// deletion only to those clients; nil means to none.
	CanWrite func(*http.Request) bool
	// Admin states that clients that may write may delete groups in bulk.
	Admin bool
	// OpenMetrics serves OpenMetrics to scrapes that ask for it. Each costs a pass over
	// all families, and series have other labels there, such as le="1.0" for le="1".
	OpenMetrics bool
	// Requests counts the answers by the labels handler, code and method,
	// method in lower case. Answers to other methods are not counted. Nil means
	// that nothing is.
	Requests *prometheus.CounterVec
	// Logger reports errors of Own; may be nil.
	Logger *slog.Logger
}

// Info describes the program.
type Info struct {
	// Build is Pushgateway's build_information: version, revision, branch,
	// buildUser, buildDate and goVersion.
	Build map[string]string
	// Start is when the program was started.
	Start time.Time
	// Flags holds the value of each flag, by name without dashes.
	Flags map[string]string
	// Host is the name of this host.
	Host string
	// Spool is the path of the spool directory.
	Spool string
	// MetricsPath is the path of the scrape, under the same prefix as the page;
	// default /metrics.
	MetricsPath string
	// Watch returns in a word how changes of the spool are detected; may be nil.
	Watch func() string
	// Others describes the other agents that serve the spool, the first of them if there
	// are many, and returns their number; may be nil.
	Others func() (names []string, n int)
}

// An Exporter answers requests to read. It is safe for concurrent use and holds
// no views or files beyond the request that needs them.
type Exporter struct {
	cfg Config

	metrics, apiStatus, apiMetrics, apiFiles, healthy, ready, page, asset http.Handler

	replies   *replies
	ownSize   atomic.Int64 // of the last text of Own
	process   process
	summaries summaries
	encoded   idleDrop                  // encoded view for scrapes by protobuf
	plain     atomic.Pointer[plainView] // of the last view
	turn      *semaphore.Weighted       // one listing at a time: scrapes must not wait for them
}

// New returns an Exporter. It reads nothing before the first request.
func New(cfg Config) *Exporter {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Own == nil {
		cfg.Own = prometheus.Gatherers{}
	}
	if cfg.Info.MetricsPath == "" {
		cfg.Info.MetricsPath = "/metrics"
	}
	if cfg.CORSOrigin != nil {
		cfg.CORSOrigin = regexp.MustCompile("^(?:" + cfg.CORSOrigin.String() + ")$") // it compiled without, so it does with
	}
	e := &Exporter{cfg: cfg, replies: newReplies(), turn: semaphore.NewWeighted(1)}
	e.ownSize.Store(8 << 10)
	e.metrics = e.counted("metrics", e.serveMetrics)
	e.apiStatus = e.counted("api/v1/status", e.serveStatus)
	e.apiMetrics = e.counted("api/v1/metrics", e.serveGroups)
	e.apiFiles = e.counted("api/v1/files", e.serveFiles)
	e.healthy = e.counted("healthy", answer(cfg.Health))
	e.ready = e.counted("ready", answer(cfg.Ready))
	e.page = e.counted("status", e.servePage)
	e.asset = e.counted("static", e.serveAsset)
	return e
}

// Metrics answers a scrape. Accept selects the format, Accept-Encoding the
// compression, and ?name[]= some families. It costs a copy of the answer, and a buffer
// of at most 256 KiB; the view keeps compressed text. Protobuf, zstd, and the escaping
// of names for scrapers that need it cost a pass over the whole text.
func (e *Exporter) Metrics(w http.ResponseWriter, r *http.Request) { read(e.metrics, w, r) }

// Healthy answers 200, or 503 and why the spool cannot be used.
func (e *Exporter) Healthy(w http.ResponseWriter, r *http.Request) { read(e.healthy, w, r) }

// Ready answers 200, or 503 as long as the first scan is not complete.
func (e *Exporter) Ready(w http.ResponseWriter, r *http.Request) { read(e.ready, w, r) }

// APIStatus answers as Pushgateway's /api/v1/status.
func (e *Exporter) APIStatus(w http.ResponseWriter, r *http.Request) { e.api(e.apiStatus, w, r) }

// APIMetrics answers as Pushgateway's /api/v1/metrics, but the groups are in
// the order of their files' names. Dropped files are not in it. It is written
// group by group.
func (e *Exporter) APIMetrics(w http.ResponseWriter, r *http.Request) { e.api(e.apiMetrics, w, r) }

// APIFiles lists the files of the spool with their faults: groups first, then dropped
// files, by name. Parameters select and sort them: kind=group or file; search=WORDS of
// the labels or the name, or matchers in braces; state=faulty, broken, partial, refused
// or expired; sort=name, samples, size or time, after a dash for the largest first;
// limit and offset. The member matched has the number of files before these two.
func (e *Exporter) APIFiles(w http.ResponseWriter, r *http.Request) { e.api(e.apiFiles, w, r) }

// Page shows the state of the spool to people: groups, files, jobs and the agent
// itself, searched, sorted and cut into pages here. Each request costs a look at
// every file. The page requests [Exporter.Asset] below ui/ and itself, and
// nothing of other origins.
func (e *Exporter) Page(w http.ResponseWriter, r *http.Request) { read(e.page, w, r) }

// Asset answers with the style sheet, the script or the icon of the page that
// the last component of the path names.
func (e *Exporter) Asset(w http.ResponseWriter, r *http.Request) { read(e.asset, w, r) }

// inTurn calls list while no other listing runs. It reports false if the client
// is gone before that.
func (e *Exporter) inTurn(r *http.Request, list func()) bool {
	if e.turn.Acquire(r.Context(), 1) != nil {
		return false
	}
	defer e.turn.Release(1)
	list()
	return true
}

// counted wraps a handler so that its answers are counted.
func (e *Exporter) counted(name string, h http.HandlerFunc) http.Handler {
	if e.cfg.Requests == nil {
		return h
	}
	return promhttp.InstrumentHandlerCounter(e.cfg.Requests.MustCurryWith(prometheus.Labels{"handler": name}), h)
}

// read passes on GET and HEAD requests.
func read(h http.Handler, w http.ResponseWriter, r *http.Request) {
	const methods = "GET, HEAD, OPTIONS"
	w.Header().Set("X-Content-Type-Options", "nosniff") // most of the content is foreign text
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.ServeHTTP(w, r)
	case http.MethodOptions:
		w.Header().Set("Allow", methods)
		w.WriteHeader(http.StatusOK)
	default:
		w.Header().Set("Allow", methods)
		http.Error(w, "use GET here; pushes go to /metrics/job/JOB", http.StatusMethodNotAllowed)
	}
}

// answer returns a handler that answers OK, or the error of the check.
func answer(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", noCache)
		if check != nil {
			if err := check(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "OK") // Pushgateway's words
	}
}
