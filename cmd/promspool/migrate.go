package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
	"github.com/promspool/promspool/ingest"
)

// migrate takes over the groups of a running Pushgateway.
type migrate struct {
	*common
	rules
	from      remote
	to        remote
	dryRun    bool
	overwrite bool

	seen map[grouping.Key]bool // of this run
}

func addMigrate(app *kingpin.Application, c *common, commands map[string]func() error) {
	m := &migrate{common: c, seen: map[grouping.Key]bool{}}
	cmd := app.Command("migrate", `Take over the groups of a running Pushgateway, which is only read.

The groups become files of the spool, with their numbers, types and texts, and with the time of their last push; an agent that serves the spool may run or not. Run it as the user that the agent runs as. With --url they are pushed to an agent instead, which takes the time of the migration for the time of the push.

Each group is taken as a whole or not at all, and a line says what was done. A group that the spool has already is left alone: a job has pushed there since. The exit status is 1 if some group could not be taken.

Pushgateway gives instance="" to what was pushed without an instance; here that label is left out, unless --push.empty-instance-label is given. If the agent has other --push flags than their defaults, give them here as well.

Example, with both running until every job pushes to the new one:

  promspool migrate --from http://pushgateway:9091 --dry-run

  promspool migrate --from http://pushgateway:9091`)
	cmd.Flag("from", "The URL of the Pushgateway, with its route prefix if it has one.").Required().StringVar(&m.from.url)
	cmd.Flag("dry-run", "Only say what would be done.").BoolVar(&m.dryRun)
	cmd.Flag("overwrite", "Replace groups that are there already.").BoolVar(&m.overwrite)
	cmd.Flag("url", "Push the groups to the agent at this URL, instead of writing to the spool.").IsSetByUser(&m.to.given).StringVar(&m.to.url)
	cmd.Flag("timeout", "How long one request may take.").Default("1m").DurationVar(&m.from.timeout)
	m.rules.addFlags(cmd)
	commands[cmd.FullCommand()] = m.run
}

func (m *migrate) run() error {
	if err := checkBounds(m.bounds()...); err != nil {
		return err
	}
	if m.to.given {
		if _, _, err := m.to.parse(); err != nil {
			return &usageError{err}
		}
	}
	m.from.flag = "--from"
	m.to.timeout, m.to.contentType = m.from.timeout, "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	groups, err := readGateway(&m.from, m.emptyInstance)
	if err != nil {
		return fmt.Errorf("reading the groups: %w", err)
	}
	take, end, err := m.target()
	if err != nil {
		return err
	}
	defer end()
	// A signal ends it between two groups.
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer release()
	verb := "taken"
	if m.dryRun {
		verb = "would be taken"
	}
	say := func(what string, g *gatewayGroup, more any) {
		fmt.Fprintln(m.stdout, wording.Visible(fmt.Sprintf("%s %s: %v", what, g, more)))
	}
	var taken, left, refused int
	for i := range groups {
		if ctx.Err() != nil {
			return errors.New("stopped by a signal; what was taken stays, and running it again does the rest")
		}
		g := &groups[i]
		switch err := m.take(g, take); {
		case err == nil:
			taken++
			say(verb, g, g.summary())
		case errors.Is(err, filestore.ErrExists):
			left++
			say("left", g, err)
		default:
			refused++
			say("refused", g, err)
		}
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
	families := "1 family"
	if n := len(g.families); n != 1 {
		families = fmt.Sprintf("%d families", n)
	}
	return fmt.Sprintf("%s in %s, %s", wording.Count(g.samples, "metric"), families, when)
}

// take takes one group, or says why not.
func (m *migrate) take(g *gatewayGroup, store func(grouping.Key, *gatewayGroup) error) error {
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
func (m *migrate) target() (store func(grouping.Key, *gatewayGroup) error, end func(), err error) {
	if m.to.given {
		there, err := m.groupsThere()
		return func(group grouping.Key, g *gatewayGroup) error {
			if there[group] && !m.overwrite {
				return filestore.ErrExists
			}
			return m.send(group, g)
		}, func() {}, err
	}
	s, err := m.open(m.rules.store(nil))
	if err != nil {
		return nil, nil, err
	}
	return func(group grouping.Key, g *gatewayGroup) error {
		families, err := m.families(group, g)
		if err != nil {
			return err
		}
		return s.Adopt(group, families, record.Adoption{Pushed: g.pushed, Failed: g.failed, Overwrite: m.overwrite, DryRun: m.dryRun})
	}, func() { _ = s.Close() }, nil
}

// families returns what the group holds, if a push might hold it.
func (m *migrate) families(group grouping.Key, g *gatewayGroup) (*exposition.Families, error) {
	if err := ingest.CheckGroup(group, m.body()); err != nil {
		return nil, err
	}
	return exposition.FromProto(g.families, m.limits, m.utf8Names)
}

// groupsThere returns the groups that the agent has.
func (m *migrate) groupsThere() (map[grouping.Key]bool, error) {
	groups, err := readGateway(&m.to, m.emptyInstance)
	if err != nil {
		return nil, fmt.Errorf("asking the agent what it has: %w", err)
	}
	there := map[grouping.Key]bool{}
	for i := range groups {
		if group, err := groups[i].group(); err == nil {
			there[group] = true
		}
	}
	return there, nil
}

// send pushes a group to the agent.
func (m *migrate) send(group grouping.Key, g *gatewayGroup) error {
	if _, err := m.families(group, g); err != nil || m.dryRun {
		return err
	}
	var body bytes.Buffer
	for _, f := range g.families {
		if _, err := protodelim.MarshalTo(&body, f); err != nil {
			return err
		}
	}
	_, err := m.to.do(http.MethodPut, "/metrics/"+ingest.GroupPath(group), nil, &body)
	return err
}
