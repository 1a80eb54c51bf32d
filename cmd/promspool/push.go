package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/cmd/promspool/internal/jobrun"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest"
)

// push stores its input in a group, or deletes a group.
type push struct {
	*common
	pushed
	remote remote
}

// pushed are the flags and arguments that push and explain share.
type pushed struct {
	pushLimits
	labels  []string
	file    string
	replace bool
	remove  bool
	empty   bool
	ttl     string
	add     bool
}

func (p *pushed) addFlags(cmd *kingpin.CmdClause) {
	cmd.Flag("allow-empty", "Accept input without samples. With --replace it empties the group, otherwise it sets the push time.").BoolVar(&p.empty)
	cmd.Flag("file", "File to read instead of standard input.").StringVar(&p.file)
	cmd.Flag("replace", "Replace the whole group, as PUT does.").BoolVar(&p.replace)
	cmd.Flag("delete", "Delete the group; the command reads no input.").BoolVar(&p.remove)
	cmd.Flag("ttl", "Lifetime of the group from this push, such as 24h or 7d; 0 for none. After it only the push times are served.").StringVar(&p.ttl)
	cmd.Flag("accumulate", "Add counters and histograms to those of the group.").BoolVar(&p.add)
	p.pushLimits.addFlags(cmd)
	cmd.Arg("label", "LABEL=VALUE, the grouping key: job and the other labels of the group.").Required().StringsVar(&p.labels)
}

// check validates the flags. It returns the group, and the options other than the
// body for the spool and for an agent.
func (p *pushed) check() (g grouping.Key, o record.PushOptions, query url.Values, err error) {
	if g, err = groupOf(p.labels); err == nil {
		err = p.pushLimits.check()
	}
	switch {
	case err != nil:
		return g, o, nil, err
	case p.add && p.replace:
		return g, o, nil, &usageError{errors.New("--accumulate and --replace exclude each other")}
	case p.remove && (p.replace || p.add || p.ttl != "" || p.file != ""):
		return g, o, nil, &usageError{errors.New("--delete takes no input, no --replace, --accumulate or --ttl")}
	}
	o, query, err = p.options()
	return g, o, query, err
}

func addPush(app *kingpin.Application, c *common, commands map[string]func() error) {
	p := &push{common: c}
	cmd := app.Command("push", `Push standard input or a file to a group.

Replaces the metrics named in the input and keeps the others, as POST does, or with --replace the whole group, as PUT does. The push goes to the spool, with or without a running agent, or with --url to an agent or Pushgateway. It is checked as over HTTP, is applied completely or not at all, and is on disk when the command exits with 0. Write permission for the spool is permission to push.

If the agent has other --push flags than the defaults, repeat them here or use --url. A Pushgateway ignores --ttl and --accumulate.

Examples:

  echo 'backup_duration_seconds 1800' | promspool push job=backup instance=db1

  promspool push --replace --file=metrics.txt job=nightly

  promspool push --delete job=nightly

  my-script | promspool push --url=http://localhost:9091 job=my-script`)
	p.remote.addFlags(cmd)
	p.pushed.addFlags(cmd)
	commands[cmd.FullCommand()] = p.run
}

func (p *push) run() error {
	g, opts, query, err := p.check()
	switch {
	case err != nil:
		return err
	case p.remove && p.remote.given:
		_, err := p.remote.do(http.MethodDelete, "/metrics/"+ingest.GroupPath(g), nil, nil)
		return err
	case p.remove:
		return denied(p.spool, p.delete(g), "--url")
	}
	body, err := p.input(p.file, int64(p.maxBytes))
	switch {
	case err != nil:
		return err
	case !p.isResult(body):
		return errNoSamples
	case p.remote.given:
		method := http.MethodPost
		if p.replace {
			method = http.MethodPut
		}
		_, err := p.remote.do(method, "/metrics/"+ingest.GroupPath(g), query, bytes.NewReader(body))
		return err
	}
	return denied(p.spool, p.store(g, body, opts), "--url")
}

// options returns the options other than the body, for the spool and for an agent.
func (p *pushed) options() (o record.PushOptions, query url.Values, err error) {
	query = url.Values{}
	if p.ttl != "" {
		ttl, err := record.ParseTTL(p.ttl)
		if err != nil {
			return o, nil, &usageError{fmt.Errorf("--ttl: %w", err)}
		}
		o.TTL = &ttl
		query.Set("ttl", p.ttl)
	}
	if o.Accumulate = p.add; p.add {
		query.Set("accumulate", "true")
	}
	return o, query, nil
}

// isResult reports whether the input can come from a script that succeeded. HELP and
// TYPE lines alone are a result only if they replace the group: a POST of them would
// keep the old metrics.
func (p *pushed) isResult(body []byte) bool {
	return p.empty || jobrun.HasSamples(body) || p.replace && hasMetadata(body)
}

var errNoSamples = errors.New("the input has no samples: pass --allow-empty if this is intended")

// input reads standard input or a file to its end.
func (c *common) input(file string, limit int64) ([]byte, error) {
	in, name := c.stdin, "standard input"
	if file != "" && file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &usageError{err}
		}
		defer f.Close() //nolint:errcheck // read only
		in, name = f, oneLine(file)
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	switch {
	case err != nil:
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err // the message has the name already
		}
		return nil, fmt.Errorf("reading %s: %w", name, err)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes, the limit of --push.max-bytes", name, limit)
	}
	return data, nil
}

// store pushes like the agent.
func (p *push) store(g grouping.Key, body []byte, opts record.PushOptions) error {
	if err := ingest.CheckGroup(g, p.body()); err != nil {
		return err
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	store, err := p.open(p.pushLimits.store(nil))
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	const client = "promspool-push"
	opts.Client = client
	families, err := ingest.Decode(bytes.NewReader(body), http.Header{}, p.body())
	var bad *exposition.SyntaxError
	switch {
	case errors.As(err, &bad) && bad.Decoded:
		return errors.Join(err, store.FailFor(g, record.RefusalOf(err, "", client)))
	case err != nil:
		store.Refuse(g, record.RefusalOf(err, "request", client))
		return err
	case p.replace:
		return store.Replace(g, families, opts)
	}
	return store.Update(g, families, opts)
}

func (p *push) delete(g grouping.Key) error {
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	store, err := p.open(p.pushLimits.store(nil))
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	return store.Delete(g)
}
