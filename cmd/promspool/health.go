package main

import (
	"net/http"

	"github.com/alecthomas/kingpin/v2"
)

// health asks an agent how it is, where there is no other program to do so: an
// image of a container that holds nothing but promspool.
type health struct {
	*common
	remote remote
}

func addHealth(app *kingpin.Application, c *common, commands map[string]func() error) {
	h := &health{common: c, remote: remote{direct: true}} // no proxy: the agent is on this host
	cmd := app.Command("health", `Ask a running agent whether it can write to its spool.

Exits with 0 if it says so, and otherwise with 1 and a sentence. For containers, which have no other program to ask with.

Example:

  promspool health --url=http://localhost:9091`)
	cmd.Flag("url", "The URL of the agent, with its route prefix if it has one, such as http://localhost:9091 or unix:///run/promspool/push.sock.").Default("http://localhost:9091").StringVar(&h.remote.url)
	cmd.Flag("timeout", "How long the answer may take.").Default("5s").DurationVar(&h.remote.timeout)
	commands[cmd.FullCommand()] = h.run
}

func (h *health) run() error {
	_, err := h.remote.do(http.MethodGet, "/-/healthy", nil, nil)
	return err
}
