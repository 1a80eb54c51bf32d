package ingest

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// guard decides who may write.
type guard struct {
	remote bool
	origin *http.CrossOriginProtection
	hosts  *HostRule
}

func newGuard(remote bool, hosts *HostRule) *guard {
	return &guard{remote: remote, origin: http.NewCrossOriginProtection(), hosts: hosts}
}

// check returns why a request may not write, or nil.
func (g *guard) check(r *http.Request) error {
	if !g.remote && !fromThisHost(r) {
		return refuse(http.StatusForbidden, "writing is allowed from this host only, unless the agent runs with --push.allow-remote")
	}
	if err := g.origin.Check(r); err != nil {
		return refuse(http.StatusForbidden, "pages of other origins may not write: %v", err)
	}
	if !g.hosts.Allowed(r) {
		return errHost
	}
	return nil
}

// fromThisHost reports whether the other end of the connection is on this host:
// on a unix socket, at a loopback address, or at the very address that it is
// connected to. Headers that tell of a client behind a proxy are not asked.
func fromThisHost(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if _, ok := local.(*net.UnixAddr); ok {
		return true
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr := remote.Addr().Unmap()
	if addr.IsLoopback() {
		return true
	}
	tcp, ok := local.(*net.TCPAddr)
	return ok && tcp.AddrPort().Addr().Unmap() == addr
}

// A HostRule keeps pages in browsers from reaching this host under a name that
// is not its own. A page of attacker.example can have that name resolved to
// 127.0.0.1 and then is of one origin with us; only the Host header tells.
// So requests with the marks of a browser (an Origin, a Sec-Fetch- header, a user
// agent that calls itself Mozilla) have to be addressed to an IP address,
// localhost, the name of this host, or a name that was allowed. Other programs may use
// any name. Nothing is looked up in the DNS.
//
// It is immutable and safe for concurrent use.
type HostRule struct {
	names map[string]bool
}

var errHost = refuse(http.StatusMisdirectedRequest, "this host does not go by that name for browsers, unless the agent runs with --web.allowed-host and the name")

// NewHostRule returns the rule for this host. Its names are the host name of the
// system, with and without the domain, and the given ones. Ports are ignored.
func NewHostRule(allowed ...string) *HostRule {
	rule := &HostRule{names: map[string]bool{"localhost": true}}
	if name, err := os.Hostname(); err == nil {
		allowed = append(allowed[:len(allowed):len(allowed)], name)
		if short, _, ok := strings.Cut(name, "."); ok {
			allowed = append(allowed, short)
		}
	}
	for _, name := range allowed {
		if name = hostName(name); name != "" {
			rule.names[name] = true
		}
	}
	return rule
}

// Allowed reports whether the request may be answered.
func (rule *HostRule) Allowed(r *http.Request) bool {
	if !fromBrowser(r) {
		return true
	}
	name := hostName(r.Host)
	if rule.names[name] || strings.HasSuffix(name, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// Handler returns a handler that answers 421 to requests that are not allowed and
// passes on the others.
func (rule *HostRule) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !rule.Allowed(r) {
			code, sentence := statusOf(errHost)
			writeError(w, code, sentence)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fromBrowser reports whether a request has the marks of a browser.
func fromBrowser(r *http.Request) bool {
	for name := range r.Header {
		if name == "Origin" || strings.HasPrefix(name, "Sec-Fetch-") {
			return true
		}
	}
	return strings.Contains(r.UserAgent(), "Mozilla")
}

// hostName returns the name in a Host header or in a setting, without port,
// brackets and final dot, in lower case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
