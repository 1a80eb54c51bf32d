package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"

	"github.com/promspool/promspool/filestore/wording"
)

// remote is the agent or Pushgateway that a command uses if --url is given.
type remote struct {
	url     string
	given   bool // whether --url is set, even if empty
	timeout time.Duration

	flag        string // that has the URL, for errors; --url if empty
	direct      bool   // do without the proxy that the environment names
	contentType string // of the request body; text if empty
	accept      string // formats of the answer; any if empty
}

func (r *remote) addFlags(cmd *kingpin.CmdClause) {
	cmd.Flag("url", "URL of an agent or Pushgateway to use instead of the spool, such as http://localhost:9091 or unix:///run/promspool/push.sock.").IsSetByUser(&r.given).StringVar(&r.url)
	cmd.Flag("timeout", "Maximum time for the answer.").Default("10s").SetValue((*timeout)(&r.timeout))
}

// maxAnswer is the maximum size of a response in bytes.
const maxAnswer = 256 << 20

// do sends a request to a path of the agent and returns the response body. A status
// other than 2xx is an error with the message of the response.
func (r *remote) do(method, path string, query url.Values, body io.Reader) ([]byte, error) {
	answer, _, err := r.ask(method, path, query, body)
	return answer, err
}

// ask is do that also returns the header of the response; nil without one.
func (r *remote) ask(method, path string, query url.Values, body io.Reader) ([]byte, http.Header, error) {
	u, client, err := r.parse()
	if err != nil {
		return nil, nil, &usageError{err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	target := strings.TrimSuffix(u.String(), "/") + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("User-Agent", "promspool/"+version.Version)
	if body != nil {
		req.Header.Set("Content-Type", cmp.Or(r.contentType, "text/plain; version=0.0.4; charset=utf-8"))
	}
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	resp, err := client.Do(req)
	if err != nil {
		var asked *url.Error
		if errors.As(err, &asked) {
			err = asked.Err // the rest is repeated below, without a password
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no response within --timeout=%s", r.timeout)
		}
		return nil, nil, fmt.Errorf("asking %s: %w", r.name(u), err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no complete response within --timeout=%s", r.timeout)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the response of %s: %w", r.name(u), err)
	}
	if resp.StatusCode/100 != 2 {
		sentence := fmt.Sprintf("%s answers %s", r.name(u), resp.Status)
		if words := firstWords(answer); words != "" {
			sentence += ": " + wording.Visible(words)
		}
		return answer, resp.Header, &refusal{resp.StatusCode, sentence}
	}
	return answer, resp.Header, nil
}

var (
	htmlTitle = regexp.MustCompile(`(?is)<title[^>]*>\s*(.*?)\s*</title>`)
	htmlTag   = regexp.MustCompile(`(?is)<[!/]?[a-z][^>]*>`)
)

// firstWords returns the title of an HTML page, or the first line of other text. It
// has no tags and no line ends.
func firstWords(answer []byte) string {
	text := string(answer[:min(len(answer), 4096)])
	if title := htmlTitle.FindStringSubmatch(text); title != nil {
		text = title[1]
	} else if trimmed := strings.TrimSpace(text); strings.HasPrefix(trimmed, "<") {
		text = htmlTag.ReplaceAllString(trimmed, "")
	}
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(text)
}

// refusal is a response with a status other than 2xx.
type refusal struct {
	code     int
	sentence string
}

func (r *refusal) Error() string { return r.sentence }

// name returns the URL for messages, without a password. u is the result of parse.
func (r *remote) name(u *url.URL) string {
	if strings.HasPrefix(r.url, "unix:") {
		return wording.Visible(r.url)
	}
	return u.Redacted()
}

// parse returns the URL and a client for it.
func (r *remote) parse() (*url.URL, *http.Client, error) {
	u, err := url.Parse(r.url)
	flag := cmp.Or(r.flag, "--url")
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s: invalid URL %q: want e.g. http://localhost:9091", flag, withoutUser(r.url))
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", u.Path)
		}
		return &url.URL{Scheme: "http", Host: "localhost"}, &http.Client{Transport: &http.Transport{DialContext: dial}, CheckRedirect: noRedirect}, nil
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, nil, fmt.Errorf("%s: invalid URL %q: want e.g. http://localhost:9091", flag, withoutUser(r.url))
	case tooHigh(u.Port()):
		return nil, nil, fmt.Errorf("%s: invalid URL %q: use a port of at most 65535", flag, u.Redacted())
	case u.RawQuery != "" || u.Fragment != "":
		return nil, nil, fmt.Errorf("%s: invalid URL %q: remove its query and fragment", flag, u.Redacted())
	}
	client := &http.Client{CheckRedirect: noRedirect}
	if r.direct {
		client.Transport = &http.Transport{}
	}
	return u, client, nil
}

// withoutUser returns an invalid URL without the text before a host, which may be a
// password.
func withoutUser(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "…" + s[i:]
	}
	return s
}

// tooHigh reports whether a port in a URL is above the maximum.
func tooHigh(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return port != "" && err != nil
}

// noRedirect keeps a redirected PUT from becoming a successful GET.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// health checks a running agent. A container image with no program but promspool
// needs it for its health check.
type health struct {
	*common
	remote remote
}

func addHealth(app *kingpin.Application, c *common, commands map[string]func() error) {
	h := &health{common: c, remote: remote{direct: true}} // no proxy: the agent is on this host
	cmd := app.Command("health", `Check that a running agent can write to its spool.

Exits with 0 if it can, otherwise with 1 and the reason. For containers without other programs.

Example:

  promspool health --url=http://localhost:9091`)
	cmd.Flag("url", "URL of the agent with its route prefix, such as http://localhost:9091 or unix:///run/promspool/push.sock.").Default("http://localhost:9091").StringVar(&h.remote.url)
	cmd.Flag("timeout", "Maximum time for the answer.").Default("5s").SetValue((*timeout)(&h.remote.timeout))
	commands[cmd.FullCommand()] = h.run
}

func (h *health) run() error {
	_, err := h.remote.do(http.MethodGet, "/-/healthy", nil, nil)
	return err
}
