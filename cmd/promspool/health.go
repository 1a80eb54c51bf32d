package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
)

// health asks an agent how it is, where there is no other program to do so: an
// image of a container that holds nothing but promspool.
type health struct {
	*common
	url     *url.URL
	timeout time.Duration
}

func addHealth(app *kingpin.Application, c *common, commands map[string]func() error) {
	h := &health{common: c}
	cmd := app.Command("health", `Ask a running agent whether it can write to its spool.

Exits with 0 if it says so, and otherwise with 1 and a sentence. For containers, which have no other program to ask with.

Example:

  promspool health --url=http://localhost:9091`)
	cmd.Flag("url", "The URL of the agent, with its route prefix if it has one.").Default("http://localhost:9091").URLVar(&h.url)
	cmd.Flag("timeout", "How long the answer may take.").Default("5s").DurationVar(&h.timeout)
	commands[cmd.FullCommand()] = h.run
}

func (h *health) run() error {
	if (h.url.Scheme != "http" && h.url.Scheme != "https") || h.url.Host == "" {
		return &usageError{fmt.Errorf("--url: %q is not like http://HOST:PORT", h.url)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.timeout)
	defer cancel()
	at := h.url.JoinPath("-/healthy")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	// No proxy: the agent is on this host.
	resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // the status is enough
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", at.Redacted(), resp.Status, strings.TrimSpace(string(said)))
	}
	return nil
}
