package main

import (
	"context"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strings"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/ingest"
)

// router dispatches a request by its undecoded path. Unlike http.ServeMux it
// redirects only GET and HEAD: clients turn a redirected PUT into a GET, which loses
// the push.
type router struct {
	prefix    string
	metrics   string // the path of the scrape
	push      *ingest.Handler
	read      *exporter.Exporter
	lifecycle bool
	quit      func()
	profiles  http.Handler // nil unless they are switched on
	readOnly  bool         // nothing that is asked for here changes the spool or the agent
}

// profiles serves the profiles of Go's runtime.
func profiles(prefix string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return http.StripPrefix(prefix, mux)
}

func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rt.readOnly {
		if rt.refuseWrite(w, r) {
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), readOnlyKey{}, true))
	}
	if r.URL.Path == "/-/quit" { // has no prefix, as in Pushgateway
		rt.serveQuit(w, r)
		return
	}
	path, ok := strings.CutPrefix(rawPath(r.URL), rt.prefix)
	if !ok || path != "" && path[0] != '/' {
		rt.push.Drain(w, r)
		notFound(w)
		return
	}
	if !rt.readOnly && rt.push.Serve(w, r, path) {
		return
	}
	if rt.profiles != nil && strings.HasPrefix(path, "/debug/pprof/") {
		if rt.push.Permit(w, r) { // deleting requires the permission to push
			rt.profiles.ServeHTTP(w, r)
		}
		return
	}
	if target, ok := rt.withoutSlash(r, path); ok {
		http.Redirect(w, r, target, http.StatusMovedPermanently)
		return
	}
	switch path {
	case rt.metrics:
		rt.read.Metrics(w, r)
	case "/-/healthy":
		rt.read.Healthy(w, r)
	case "/-/ready":
		rt.read.Ready(w, r)
	case "/-/quit":
		rt.serveQuit(w, r)
	case "/api/v1/status":
		rt.read.APIStatus(w, r)
	case "/api/v1/metrics":
		rt.read.APIMetrics(w, r)
	case "/api/v1/files":
		rt.read.APIFiles(w, r)
	case "/", "/status":
		rt.read.Page(w, r)
	case "":
		// The links on the page are relative. This path accepts no pushes.
		http.Redirect(w, r, rt.prefix+"/", http.StatusFound)
	default:
		if name, ok := strings.CutPrefix(path, "/ui/"); ok && !strings.Contains(name, "/") {
			rt.read.Asset(w, r)
			return
		}
		if r.Method == http.MethodOptions && strings.HasPrefix(path, "/api/v1/") {
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			return
		}
		if r.Method == http.MethodPut || r.Method == http.MethodPost || r.Method == http.MethodDelete {
			rt.push.Drain(w, r)
			http.Error(w, "404 page not found: pushes go to "+rt.prefix+"/metrics/job/JOB", http.StatusNotFound)
			return
		}
		notFound(w)
	}
}

// withoutSlash returns the page's path for a path with a trailing slash, as
// Pushgateway does. Only GET and HEAD are redirected.
func (rt *router) withoutSlash(r *http.Request, path string) (target string, ok bool) {
	page, ok := strings.CutSuffix(path, "/")
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "", false
	}
	switch page {
	case rt.metrics, "/status", "/api/v1/status", "/api/v1/metrics", "/api/v1/files", "/-/healthy", "/-/ready":
	default:
		return "", false
	}
	target = rt.prefix + page
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	return target, true
}

// rawPath returns the path as the client sent it. EscapedPath differs: if a path
// contains an unencoded character that should be encoded, EscapedPath shows an
// encoded slash as a plain one.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

func notFound(w http.ResponseWriter) {
	http.Error(w, "404 page not found", http.StatusNotFound)
}

func (rt *router) serveQuit(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodPut && r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "only PUT and POST are allowed", http.StatusMethodNotAllowed)
	case !rt.lifecycle:
		http.Error(w, "/-/quit is only available on the TCP port, with --web.enable-lifecycle", http.StatusForbidden)
	case !rt.push.Permit(w, r):
	default:
		// The response must be sent first: the shutdown waits for requests in progress.
		_, _ = w.Write([]byte("Stopping.\n"))
		rt.quit()
	}
}

// onlyPushAndRead hides the routes of the operator's address: those that stop or profile
// the agent.
func (rt *router) onlyPushAndRead() http.Handler {
	public := *rt
	public.lifecycle, public.profiles = false, nil
	return &public
}

// onlyRead accepts reads and rejects all other requests.
func (rt *router) onlyRead() http.Handler {
	public := *rt
	public.lifecycle, public.profiles, public.readOnly = false, nil, true
	return &public
}

// refuseWrite rejects requests that write, and reports whether it did. Pings also write
// with GET.
func (rt *router) refuseWrite(w http.ResponseWriter, r *http.Request) bool {
	const message = "this socket is read-only: push to the port of the agent or to --push.socket"
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		path, _ := strings.CutPrefix(rawPath(r.URL), rt.prefix)
		if !strings.HasPrefix(path, "/ping/") {
			return false
		}
		http.Error(w, message, http.StatusForbidden)
	default:
		rt.push.Drain(w, r)
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		http.Error(w, message, http.StatusMethodNotAllowed)
	}
	return true
}

// readOnlyKey is the context key of requests to a read-only router.
type readOnlyKey struct{}

// isReadOnly reports whether the request came to a read-only router.
func isReadOnly(r *http.Request) bool { return r.Context().Value(readOnlyKey{}) != nil }
