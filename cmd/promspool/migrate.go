package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/promspool/promspool/filestore"
)

// migrate takes over the groups of a running Pushgateway.
type migrate struct {
	*common
	from, to      *url.URL
	dryRun        bool
	overwrite     bool
	emptyInstance bool
	utf8Names     bool
	timeout       time.Duration

	client *http.Client
	seen   map[filestore.Group]bool // of this run
}

func addMigrate(app *kingpin.Application, c *common, commands map[string]func() error) {
	m := &migrate{common: c, seen: map[filestore.Group]bool{}}
	cmd := app.Command("migrate", `Take over the groups of a running Pushgateway, which is only read.

The groups become files of the spool, with their numbers, types and texts, and with the time of their last push; an agent that serves the spool may run or not. Run it as the user that the agent runs as. With --url they are pushed to an agent instead, which takes the time of the migration for the time of the push.

Each group is taken as a whole or not at all, and a line says what was done. A group that the spool has already is left alone: a job has pushed there since. The exit status is 1 if some group could not be taken.

Pushgateway gives instance="" to what was pushed without an instance; here that label is left out, unless --push.empty-instance-label is given, as to the agent.

Example, with both running until every job pushes to the new one:

  promspool migrate --from http://pushgateway:9091 --dry-run

  promspool migrate --from http://pushgateway:9091`)
	cmd.Flag("from", "The URL of the Pushgateway, with its route prefix if it has one.").Required().URLVar(&m.from)
	cmd.Flag("url", "The URL of an agent to push the groups to, in place of writing to the spool.").URLVar(&m.to)
	cmd.Flag("dry-run", "Only say what would be done.").BoolVar(&m.dryRun)
	cmd.Flag("overwrite", "Replace groups that are there already.").BoolVar(&m.overwrite)
	cmd.Flag("push.empty-instance-label", `Keep instance="" in what was pushed without an instance.`).BoolVar(&m.emptyInstance)
	cmd.Flag("push.enable-utf8-names", "Take names outside of [a-zA-Z_:][a-zA-Z0-9_:]*, as the agent does with this flag.").BoolVar(&m.utf8Names)
	cmd.Flag("timeout", "How long one request may take.").Default("1m").DurationVar(&m.timeout)
	commands[cmd.FullCommand()] = m.run
}

// errLeft is why a group is left alone.
var errLeft = filestore.ErrExists

func (m *migrate) run() error {
	for flag, u := range map[string]*url.URL{"--from": m.from, "--url": m.to} {
		if u != nil && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return &usageError{fmt.Errorf("%s: %q is no http:// or https:// URL", flag, u.Redacted())}
		}
	}
	m.client = &http.Client{
		Timeout:       m.timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would turn a PUT into a GET
	}
	// A signal ends it between two groups.
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer release()
	groups, err := readGateway(ctx, m.client, m.from, m.emptyInstance)
	if err != nil {
		return fmt.Errorf("reading the groups: %w", err)
	}
	take, end, err := m.target(ctx)
	if err != nil {
		return err
	}
	defer end()
	var taken, left, refused int
	for i := range groups {
		if ctx.Err() != nil {
			return errors.New("stopped by a signal; what was taken stays, and running it again does the rest")
		}
		g := &groups[i]
		switch err := m.take(g, take); {
		case err == nil:
			taken++
			verb := "taken"
			if m.dryRun {
				verb = "would be taken"
			}
			fmt.Fprintf(m.stdout, "%s %s: %s\n", verb, g, g.summary())
		case errors.Is(err, errLeft):
			left++
			fmt.Fprintf(m.stdout, "left %s: %v\n", g, err)
		default:
			refused++
			fmt.Fprintf(m.stdout, "refused %s: %v\n", g, err)
		}
	}
	verb := "taken"
	if m.dryRun {
		verb = "would be taken"
	}
	fmt.Fprintf(m.stdout, "%d %s, %d left, %d refused\n", taken, verb, left, refused)
	if refused > 0 {
		return &findings{refused}
	}
	return nil
}

// summary says what there is in a group.
func (g *gatewayGroup) summary() string {
	when := "never pushed successfully"
	if g.pushed > 0 {
		when = "pushed " + time.UnixMilli(int64(g.pushed*1000)).UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%d metrics in %d families, %s", g.samples, len(g.families), when)
}

// take takes one group, or says why not.
func (m *migrate) take(g *gatewayGroup, store func(filestore.Group, *gatewayGroup) error) error {
	group, err := g.group()
	switch {
	case g.err != nil:
		return g.err
	case err != nil:
		return err
	case m.seen[group]:
		return errors.New("another group differs from it only in a label with an empty value, which is the same as none")
	}
	m.seen[group] = true
	return store(group, g)
}

// target returns how to store a group, and what to do at the end.
func (m *migrate) target(ctx context.Context) (store func(filestore.Group, *gatewayGroup) error, end func(), err error) {
	if m.to != nil {
		there, err := m.groupsThere(ctx)
		return func(group filestore.Group, g *gatewayGroup) error {
			if there[group] && !m.overwrite {
				return errLeft
			}
			return m.send(ctx, group, g)
		}, func() {}, err
	}
	own, err := ownFamilies()
	if err != nil {
		return nil, nil, err
	}
	s, err := filestore.Open(m.spool, &filestore.Options{Own: own, EmptyInstance: m.emptyInstance, NoSweep: true})
	if err != nil {
		return nil, nil, err
	}
	return func(group filestore.Group, g *gatewayGroup) error {
		families, err := filestore.FromProto(g.families, filestore.Limits{}, m.utf8Names)
		if err != nil {
			return err
		}
		return s.Adopt(group, families, filestore.Adoption{Pushed: g.pushed, Failed: g.failed, Overwrite: m.overwrite, DryRun: m.dryRun})
	}, func() { _ = s.Close() }, nil
}

// groupsThere returns the groups that the agent has.
func (m *migrate) groupsThere(ctx context.Context) (map[filestore.Group]bool, error) {
	groups, err := readGateway(ctx, m.client, m.to, m.emptyInstance)
	if err != nil {
		return nil, fmt.Errorf("asking the agent what it has: %w", err)
	}
	there := map[filestore.Group]bool{}
	for i := range groups {
		if group, err := groups[i].group(); err == nil {
			there[group] = true
		}
	}
	return there, nil
}

// send pushes a group to the agent.
func (m *migrate) send(ctx context.Context, group filestore.Group, g *gatewayGroup) error {
	if _, err := filestore.FromProto(g.families, filestore.Limits{}, m.utf8Names); err != nil || m.dryRun {
		return err
	}
	var body bytes.Buffer
	for _, f := range g.families {
		if _, err := protodelim.MarshalTo(&body, f); err != nil {
			return err
		}
	}
	path := "metrics"
	for _, l := range group.Labels() { // the job is the first
		path += "/" + url.PathEscape(l.Name) + "@base64/" + base64.RawURLEncoding.EncodeToString([]byte(l.Value))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, m.to.JoinPath(path).String(), &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")
	resp, err := m.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // only for the sentence
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(answer)))
	}
	return nil
}
