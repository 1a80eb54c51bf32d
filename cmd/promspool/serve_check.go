package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
)

// maxSettle is the maximum of --spool.settle and of its line in a file.
const maxSettle = time.Minute

// check validates the flags before anything is opened. Invalid values are usage errors;
// those that depend on the host, such as a missing file, are not.
func (s *serveCommand) check() error {
	if err := s.pushLimits.check(bound{"web.max-connections", int64(s.maxConnections), 0}, bound{"web.read-timeout", int64(s.readTimeout), 1}, bound{"ping.max-slugs", int64(s.maxSlugs), 1}); err != nil {
		return err
	}
	if s.settle > maxSettle {
		return &usageError{fmt.Errorf("--spool.settle: invalid duration %q: must be at most %s", s.settle, maxSettle)}
	}
	if s.resync <= 0 {
		s.resync = 10 * time.Second
	}
	for _, address := range *s.web.WebListenAddresses {
		if err := checkAddress(address); err != nil {
			return &usageError{fmt.Errorf("--web.listen-address: %w", err)}
		}
	}
	if err := checkTelemetryPath(s.telemetryPath); err != nil {
		return &usageError{fmt.Errorf("--web.telemetry-path: %w", err)}
	}
	for _, host := range s.allowedHosts {
		if !isHostName(host) {
			return &usageError{fmt.Errorf("--web.allowed-host: invalid name %q: use the name alone, such as spool.example.org", host)}
		}
	}
	for _, pattern := range s.textfiles {
		if _, err := filepath.Match(pattern, ""); err != nil {
			return &usageError{fmt.Errorf(`--spool.textfile-directory: invalid pattern %q: close the bracket, or use \[ for the character`, pattern)}
		}
	}
	for _, f := range []*socketFlags{&s.readSocket, &s.pushSocket} {
		if _, _, err := f.parse(); err != nil {
			return err
		}
	}
	if s.readSocket.path != "" && sameEntry(s.readSocket.path, s.pushSocket.path) {
		return &usageError{fmt.Errorf("--%s and --%s have the same path %q: use another path for one of them", s.readSocket.flag, s.pushSocket.flag, s.readSocket.path)}
	}
	if err := web.Validate(*s.web.WebConfigFile); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--web.config.file: %w: create the file, or correct the path", err)
	} else if err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	return nil
}

// checkAddress returns an error if no host can listen on the address.
func checkAddress(address string) error {
	if address == "" {
		return nil // no port
	}
	if port, ok := strings.CutPrefix(address, "vsock://:"); ok {
		if _, err := strconv.ParseUint(port, 10, 32); err != nil {
			return fmt.Errorf("invalid address %q: use e.g. vsock://:9091", address)
		}
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("invalid address %q: use HOST:PORT or :PORT, such as :9091", address)
	}
	if n, err := strconv.Atoi(port); err == nil && (n < 0 || n > 65535) {
		return fmt.Errorf("invalid address %q: use a port of at most 65535", address)
	} else if err == nil {
		return nil
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("invalid address %q: use a number as the port, such as :9091", address)
	}
	return nil
}

// otherRoutes are the routes that --web.telemetry-path cannot have. Those with a slash
// at the end include all paths below.
var otherRoutes = []string{"/", "/status", "/-/", "/api/", "/ui/", "/debug/", "/ping/", "/metrics/job/"}

// checkTelemetryPath returns an error if a scrape of the path would not reach the
// scrape, or would replace another route.
func checkTelemetryPath(telemetry string) error {
	p := "/" + strings.TrimPrefix(telemetry, "/")
	if !isPath(p) {
		return fmt.Errorf("invalid path %q: use e.g. /metrics", telemetry)
	}
	for _, route := range otherRoutes {
		if clean := path.Clean(p); clean == path.Clean(route) || route != "/" && strings.HasSuffix(route, "/") && strings.HasPrefix(clean+"/", route) || strings.HasPrefix(clean, "/metrics/job@") {
			return fmt.Errorf("%q is another route of the agent (%s): use e.g. /metrics", telemetry, route)
		}
	}
	return nil
}

// isPath reports whether a request can have the path as it is: each character is one
// that clients do not encode, and no element is "." or "..", which clients remove.
func isPath(p string) bool {
	u, err := url.ParseRequestURI(p)
	if err != nil || u.EscapedPath() != p || !strings.HasPrefix(p, "/") {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	return true
}

// isHostName reports whether s is a name or an address, with or without a port.
func isHostName(s string) bool {
	if name, port, err := net.SplitHostPort(s); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		s = name
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return true
	}
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	})
}

// sameEntry reports whether two paths name one entry of a directory.
func sameEntry(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	dirA, errA := os.Stat(filepath.Dir(a))
	dirB, errB := os.Stat(filepath.Dir(b))
	return errA == nil && errB == nil && os.SameFile(dirA, dirB) && filepath.Base(a) == filepath.Base(b)
}

// prefix returns the prefix of all routes, without a trailing slash.
func (s *serveCommand) prefix() (string, error) {
	external, _, err := parseExternalURL(s.externalURL)
	if err != nil {
		return "", &usageError{fmt.Errorf("--web.external-url: %w", err)}
	}
	p := s.routePrefix
	switch {
	case p == "":
		p = external.EscapedPath()
	case strings.Contains(p, "://") || strings.ContainsAny(p, "?#"):
		return "", &usageError{fmt.Errorf("--web.route-prefix: %q is not a path: give the path alone, such as /promspool, or the URL with --web.external-url", p)}
	case !isPath("/" + strings.TrimPrefix(p, "/")):
		return "", &usageError{fmt.Errorf("--web.route-prefix: invalid path %q: use e.g. /promspool", p)}
	}
	if p = path.Clean("/" + p); p == "/" {
		p = ""
	}
	if !strings.HasPrefix(s.telemetryPath, "/") {
		s.telemetryPath = "/" + s.telemetryPath
	}
	return p, nil
}

// parseExternalURL parses a URL, or its path alone. Other values that Pushgateway accepts
// are accepted too, with the same prefix: "host:9091" has none, "host" is one. The note
// is for the log.
func parseExternalURL(s string) (u *url.URL, note string, err error) {
	const want = "use e.g. http://host.example.org:9091/promspool"
	u, err = url.Parse(s)
	if err != nil || u.Path != "" && !isPath("/"+strings.TrimPrefix(u.EscapedPath(), "/")) {
		return nil, "", fmt.Errorf("invalid URL %q: %s", s, want)
	}
	isURL := (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && !tooHigh(u.Port())
	isPath := s == "" || strings.HasPrefix(s, "/") && u.Host == ""
	if !isURL && !isPath || u.RawQuery != "" || u.Fragment != "" {
		note = want
	}
	return u, note, nil
}

// origins returns the expression of --web.cors.origin, which must match the whole origin;
// nil for none.
func (s *serveCommand) origins() (*regexp.Regexp, error) {
	if s.corsOrigin == "" {
		return nil, nil
	}
	_, err := regexp.Compile(s.corsOrigin) // alone, for the error and for unbalanced parentheses
	var whole *regexp.Regexp
	if err == nil {
		whole, err = regexp.Compile("^(?:" + s.corsOrigin + ")$")
	}
	if err != nil {
		reason := err.Error()
		if wrong := (*syntax.Error)(nil); errors.As(err, &wrong) {
			reason = string(wrong.Code)
		}
		return nil, &usageError{fmt.Errorf(`--web.cors.origin: invalid regular expression %q (%s): use e.g. https://grafana\.example\.org`, s.corsOrigin, reason)}
	}
	return whole, nil
}
