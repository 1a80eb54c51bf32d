package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
	"github.com/promspool/promspool/ingest"
)

// explain prints the effect of a push without making it.
type explain struct {
	*common
	pushed
	opts record.PushOptions
	json bool
}

func addExplain(app *kingpin.Application, c *common, commands map[string]func() error) {
	e := &explain{common: c}
	cmd := app.Command("explain", `Report the effects of a push without pushing.

Takes the arguments of promspool push. Reports for each metric family of the group whether the push would add, replace, keep or remove it, and the conflicts that would reject it. Nothing is written. Exits with 1 if the push would be rejected.

Examples:

  my-script | promspool explain job=my-script

  promspool explain --replace --file=metrics.txt job=nightly

  promspool explain --delete job=nightly`)
	cmd.Flag("json", "Print a JSON object with group, accepted, refusal, families (each with family, does, type, before and after) and conflicts.").BoolVar(&e.json)
	e.pushed.addFlags(cmd)
	commands[cmd.FullCommand()] = e.run
}

// An explanation is the effect of a push.
type explanation struct {
	Group     string         `json:"group"`
	Accepted  bool           `json:"accepted"`
	Refusal   string         `json:"refusal,omitempty"`
	Families  []familyChange `json:"families"`
	Conflicts []string       `json:"conflicts"`

	delete  bool // a DELETE instead of a push
	missing bool // the group does not exist
}

// A familyChange is the effect on one family of the group.
type familyChange struct {
	Family string `json:"family"`
	Does   string `json:"does"` // adds, replaces, keeps, removes
	Type   string `json:"type"`
	Before int    `json:"before"` // number of metrics
	After  int    `json:"after"`
}

func (e *explain) run() error {
	g, opts, _, err := e.check()
	if err != nil {
		return err
	}
	e.opts, e.opts.DryRun = opts, true
	var body []byte
	if !e.remove {
		if body, err = e.input(e.file, int64(e.maxBytes)); err != nil {
			return err
		}
	}
	x, err := e.explain(g, body)
	if err != nil {
		return err
	}
	if e.json {
		err = printDocument(e.stdout, x)
	} else {
		err = x.print(e.stdout)
	}
	if err == nil && !x.Accepted {
		err = &findings{1}
	}
	return err
}

func (e *explain) explain(g grouping.Key, body []byte) (*explanation, error) {
	x := &explanation{Group: g.Name(), Families: []familyChange{}, Conflicts: []string{}}
	store, err := e.open(e.pushLimits.store(nil))
	if err != nil {
		return nil, err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	if _, err := waitForWriters(store); err != nil {
		return nil, err
	}
	f := store.View().File(g.FileName())
	x.missing = f == nil || f.Group() != g
	before := familiesOf(store.View(), g)
	if e.remove {
		x.Accepted, x.delete = true, true
		x.compare(before, nil)
		return x, nil
	}
	err = e.dryRun(store, g, body)
	if err != nil {
		x.Refusal = wording.Visible(err.Error())
		if store, err = e.openUnchecked(err); store == nil {
			return x, err
		}
		defer store.Close() //nolint:errcheck // nothing to lose
		known := map[string]bool{}
		for _, c := range store.View().Conflicts() {
			known[c.Error()] = true
		}
		if err := e.dryRun(store, g, body); err != nil {
			return x, nil // the first error is enough
		}
		for _, c := range store.View().Conflicts() {
			if text := conflictText(c, g); !known[c.Error()] && !slices.Contains(x.Conflicts, text) {
				x.Conflicts = append(x.Conflicts, text)
			}
		}
	}
	x.Accepted = x.Refusal == ""
	x.compare(before, familiesOf(store.View(), g))
	return x, nil
}

// dryRun pushes like the agent and writes nothing.
func (e *explain) dryRun(store *filestore.Store, g grouping.Key, body []byte) error {
	if err := ingest.CheckGroup(g, e.body()); err != nil {
		return err
	}
	if !e.isResult(body) {
		return errNoSamples
	}
	families, err := ingest.Decode(bytes.NewReader(body), http.Header{}, e.body())
	switch {
	case err != nil:
		return err
	case e.replace:
		return store.Replace(g, families, e.opts)
	}
	return store.Update(g, families, e.opts)
}

// openUnchecked opens the spool without the check for conflicts if a conflict
// caused the refusal. All conflicts can then be listed.
func (e *explain) openUnchecked(refusal error) (*filestore.Store, error) {
	var conflict *record.Conflict
	if !errors.As(refusal, &conflict) {
		return nil, nil
	}
	opts := e.pushLimits.store(nil)
	opts.Unchecked = true
	return e.open(opts)
}

// conflictText describes the conflict from the push's side, whichever file would
// lose series in the merge.
func conflictText(c *record.Conflict, g grouping.Key) string {
	if c.File != g.FileName() {
		other := *c
		other.File, other.Kept, other.Type, other.KeptType = c.Kept, c.File, c.KeptType, c.Type
		c = &other
	}
	return wording.Visible(c.Error())
}

// familiesOf returns the families of the group except its push times.
func familiesOf(v *merge.View, g grouping.Key) map[string]exposition.Family {
	by := map[string]exposition.Family{}
	f := v.File(g.FileName())
	if f == nil || f.Group() != g {
		return by
	}
	for _, fam := range v.Families(f) {
		if fam.Name != "push_time_seconds" && fam.Name != "push_failure_time_seconds" {
			by[fam.Name] = fam
		}
	}
	return by
}

// compare records the change of each family.
func (x *explanation) compare(before, after map[string]exposition.Family) {
	for name, old := range before {
		c := familyChange{Family: name, Does: "removes", Type: old.Type.String(), Before: len(old.Metrics)}
		if now, ok := after[name]; ok {
			c.Does, c.Type, c.After = "replaces", now.Type.String(), len(now.Metrics)
			if reflect.DeepEqual(old, now) {
				c.Does = "keeps"
			}
		}
		x.Families = append(x.Families, c)
	}
	for name, now := range after {
		if _, ok := before[name]; !ok {
			x.Families = append(x.Families, familyChange{Family: name, Does: "adds", Type: now.Type.String(), After: len(now.Metrics)})
		}
	}
	slices.SortFunc(x.Families, func(a, b familyChange) int { return strings.Compare(a.Family, b.Family) })
}

func (x *explanation) print(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, c := range x.Families {
		much := wording.Count(c.After, "metric")
		switch {
		case c.Does == "removes":
			much = wording.Count(c.Before, "metric")
		case c.Does == "replaces" && c.Before != c.After:
			much = fmt.Sprintf("%d by %s", c.Before, much)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", c.Does, wording.Visible(c.Family), c.Type, much)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range x.Conflicts {
		fmt.Fprintf(&b, "conflict: %s\n", c)
	}
	switch {
	case x.delete && x.missing:
		fmt.Fprintf(&b, "the group %s does not exist\n", x.Group)
	case x.delete:
		fmt.Fprintf(&b, "the group %s would be deleted\n", x.Group)
	case x.Accepted:
		fmt.Fprintf(&b, "the push to %s would be accepted\n", x.Group)
	default:
		fmt.Fprintf(&b, "the push to %s would be refused: %s\n", x.Group, x.Refusal)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
