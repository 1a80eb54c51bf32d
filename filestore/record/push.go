package record

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
)

// Change computes the new content of a group's file from its old content. It does
// no I/O.
type Change struct {
	Key           grouping.Key
	EmptyInstance bool    // add instance="" to samples without an instance
	Now           float64 // Unix time

	// Own returns the type of a family of the agent itself; nil if it has none.
	Own func(family string) (exposition.Type, bool)
}

// Canonical returns the parts of a push, with the labels of the group.
func (g *Change) Canonical(f *exposition.Families, strip []string) ([]exposition.Part, int, error) {
	for _, name := range [...]string{pushTime, failureTime, GroupExpired} {
		delete(f.ByName, name) // reserved
	}
	f.List = slices.DeleteFunc(f.List, func(f *exposition.RawFamily) bool { return isRecord(f.Name) })
	for _, f := range f.List {
		if f.Typ <= exposition.Untyped {
			f.Typ = g.untyped(f.Name)
		}
	}
	lab := g.labelling()
	lab.Strip = strip
	parts, series, _, err := exposition.Canonical(f, lab, false)
	return parts, series, err
}

// untyped returns the type of a family that is pushed without one. A family that
// the agent has itself gets the agent's type, because both are served as one.
func (g *Change) untyped(family string) exposition.Type {
	if g.Own != nil {
		if t, ok := g.Own(family); ok && !t.Composite() && t != exposition.Unstated {
			return t
		}
	}
	return exposition.Untyped
}

// labelling returns how the group changes the labels of its samples.
func (g *Change) labelling() exposition.Labelling {
	over := g.Key.Labels()
	slices.SortFunc(over, func(a, b exposition.Label) int { return strings.Compare(a.Name, b.Name) })
	return exposition.Labelling{Over: over, EmptyInstance: g.EmptyInstance}
}

// Pushed is the payload of a push.
type Pushed struct {
	Parts  []exposition.Part // in canonical form
	Series int
	Has    func(family string) bool
	Keep   bool // a POST
	Opts   PushOptions
}

// Push returns the content of a group after a push. old is nil if the group does not
// exist; there is then the file that has its name but is not a group's, or nil.
func (g *Change) Push(old *Content, p *Pushed, there *File) (*Content, error) {
	parts, n, failed := p.Parts, p.Series, 0.0
	if old == nil {
		if err := p.Opts.By.MayReplace(there); err != nil {
			return nil, err
		}
		if p.Keep {
			if err := Unreadable(there); err != nil {
				return nil, err
			}
		}
	} else {
		if err := p.Opts.By.MayChange(old.File); err != nil {
			return nil, err
		}
		failed = old.File.failure
	}
	if p.Keep && p.Opts.Accumulate {
		var err error
		if parts, n, err = accumulated(parts, old, g.Key.FileName()); err != nil {
			return nil, err
		}
	}
	parts, n, err := g.keep(old, p.Keep, parts, n, p.Has)
	if err != nil {
		return nil, err
	}
	c, err := g.Content(old, parts, n, g.Now, failed)
	if err != nil {
		return nil, err
	}
	c.DryRun, c.Fresh = p.Opts.DryRun, !p.Opts.DryRun
	c.File.attrs = p.Opts.By.claim(p.Opts.attributes(c.File.attrs, p.Keep))
	return c, nil
}

// Import returns the content of a group that is imported from another program.
func (g *Change) Import(old *Content, p *Pushed, opts ImportOptions) (*Content, error) {
	parts, n, err := g.keep(old, false, p.Parts, p.Series, p.Has)
	if err != nil {
		return nil, err
	}
	c, err := g.Content(old, parts, n, opts.Pushed, opts.Failed)
	if err != nil {
		return nil, err
	}
	c.File.attrs = (&PushOptions{}).attributes(c.File.attrs, false)
	c.DryRun = opts.DryRun
	return c, nil
}

// Amend returns the content of a group after an edit.
func (g *Change) Amend(old *Content, e *Edit) (*Content, error) {
	put := e.Put
	if put == nil {
		put = exposition.NoFamilies()
	}
	parts, n, err := g.Canonical(put, nil)
	if err != nil {
		return nil, err
	}
	failed := 0.0
	if old != nil {
		failed = old.File.failure
		isReplaced := func(family string) bool { return put.Has(family) || slices.Contains(e.Remove, family) }
		parts, n = mergeParts(parts, old.Parts, isReplaced, n)
	}
	if x := suffixConflict(parts, g.Key.FileName()); x != nil {
		return nil, x
	}
	c, err := g.Content(old, parts, n, g.Now, failed)
	if err != nil {
		return nil, err
	}
	c.Fresh = true
	for _, key := range sortedKeys(e.Attributes) {
		c.File.attrs = c.File.attrs.withAll(key, e.Attributes[key]...)
	}
	return c, nil
}

// Fail returns the content of a group after a rejected push, with a new failure time
// and reason.
func (g *Change) Fail(old *Content, r Refusal) (*Content, error) {
	c, err := g.fail(old)
	if err == nil && r.Message != "" {
		c.File.attrs = c.File.attrs.with(refusedAttribute, r.value(g.Now))
	}
	return c, err
}

func (g *Change) fail(old *Content) (*Content, error) {
	if old == nil {
		return g.Content(nil, nil, 0, 0, g.Now)
	}
	parts, n := mergeParts(nil, old.Parts, func(string) bool { return false }, 0)
	if i := slices.IndexFunc(old.Parts, func(p exposition.Part) bool { return p.Desc.Value().Name == GroupExpired }); i >= 0 {
		parts = append(parts, old.Parts[i])
		n++
	}
	c, err := g.Content(old, parts, n, old.File.push, g.Now)
	if err != nil {
		return nil, err
	}
	c.keepState(old.File)
	return c, nil
}

// keep adds the group's parts that the push does not replace.
func (g *Change) keep(old *Content, post bool, parts []exposition.Part, series int, has func(family string) bool) ([]exposition.Part, int, error) {
	if old == nil {
		return parts, series, nil
	}
	kept := partsToKeep(post, old)
	if len(kept) == 0 {
		return parts, series, nil
	}
	parts, series = mergeParts(parts, kept, has, series)
	if x := suffixConflict(parts, g.Key.FileName()); x != nil {
		return nil, 0, x
	}
	return parts, series, nil
}

// Content adds the two times and the old attributes to the parts of a group.
func (g *Change) Content(old *Content, parts []exposition.Part, series int, pushed, failed float64) (*Content, error) {
	times := exposition.Gauges(
		exposition.Single{Name: failureTime, Help: failureTimeHelp, Value: failed},
		exposition.Single{Name: pushTime, Help: pushTimeHelp, Value: pushed},
	)
	own, n, _, err := exposition.Canonical(times, g.labelling(), false)
	if err != nil {
		return nil, err
	}
	parts = append(slices.Clip(parts), own...)
	slices.SortFunc(parts, func(a, b exposition.Part) int { return strings.Compare(a.Desc.Value().Name, b.Desc.Value().Name) })
	c := newContent(&ID{PushedKind, g.Key.FileName()}, parts, series+n)
	c.File.group = g.Key
	if old != nil {
		c.File.attrs = old.File.attrs.without(expiredAttribute).without(refusedAttribute) // a push restarts the lifetime
	}
	return c, nil
}

// Unreadable returns an error if the file with the name of a group is not valid, so
// that the group's content is unknown.
func Unreadable(there *File) error {
	switch {
	case there == nil || !there.group.IsZero():
		return nil
	case there.err != nil:
		return fmt.Errorf("the content of the group is unknown, because its file is invalid (%w): repair or delete the file, or replace the group with PUT", asText(there.err))
	}
	return fmt.Errorf("the file %q of the group was not written by promspool: delete it, or replace it with PUT", there.Name())
}

// asText hides the type of an error about a file, so that errors.As does not find a
// fault of the push.
func asText(err error) error { return errors.New(err.Error()) }

// attributes returns the attributes of a group after a push. Those of other keys are
// kept.
func (o *PushOptions) attributes(a Attributes, keep bool) Attributes {
	switch {
	case o.TTL != nil:
		return a.with(ttlAttribute, model.Duration(*o.TTL).String())
	case keep:
		return a
	}
	return a.without(ttlAttribute)
}

// RecordAttribute is the key of the attribute of a group with the record of a job,
// in families whose names begin with RecordPrefix. Like push_time_seconds these
// belong to promspool: a PUT keeps them, because a recorded job may replace its
// own group when it ends.
const (
	RecordAttribute = "job"
	RecordPrefix    = "promspool_job_"
)

// partsToKeep returns which parts of a group a push keeps unless it has families of the
// same names: all for a POST, the record for a PUT.
func partsToKeep(post bool, old *Content) []exposition.Part {
	if post {
		return old.Parts
	}
	if _, ok := old.File.attrs.get(RecordAttribute); !ok {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(old.Parts), func(p exposition.Part) bool {
		return !strings.HasPrefix(p.Desc.Value().Name, RecordPrefix)
	})
}

// mergeParts adds the parts that the group keeps to those of a change: all except
// the times, which are written anew, and deleted families.
func mergeParts(fresh, old []exposition.Part, isReplaced func(family string) bool, series int) ([]exposition.Part, int) {
	parts := slices.Clone(fresh)
	for _, p := range old {
		if name := p.Desc.Value().Name; isReplaced(name) || isRecord(name) {
			continue
		}
		parts = append(parts, p)
		series += strings.Count(p.Text, "\n")
	}
	return parts, series
}

// suffixConflict returns the family of a group that has the name of a part of a
// histogram or summary in the same group.
func suffixConflict(parts []exposition.Part, file string) *Conflict {
	types := make(map[string]exposition.Type, len(parts))
	for i := range parts {
		d := parts[i].Desc.Value()
		types[d.Name] = d.Typ
	}
	for name, t := range types {
		for _, suffix := range exposition.CompositeSuffixes {
			if _, ok := types[name+suffix]; ok && t.Reserves(suffix) {
				return &Conflict{Family: name + suffix, File: file, Kept: file, Reason: exposition.Duplicate}
			}
		}
	}
	return nil
}

// PushOptions are options of a push. The zero value is a plain push.
type PushOptions struct {
	// Strip lists labels to delete from all samples of the push.
	Strip []string
	// TTL is the lifetime of the group from this push on. Zero means that it
	// does not expire, regardless of the policy. With nil, Update keeps the
	// group's lifetime, and after Replace the policy applies.
	TTL *time.Duration
	// Accumulate adds the counters and histograms of the push to those of the
	// group, expired or not, and replaces all other families. It is for Update
	// only. Quantiles of summaries, other types or buckets than before and sums
	// that are not finite are errors.
	Accumulate bool
	// DryRun checks the push without writing it. The Views of this Store show
	// it until the file is read again. A rejected push is not recorded either.
	DryRun bool
	// Client names the client in the record of a rejected push.
	Client string
	// By is the user for whom the group is changed. A group without an owner
	// gets By as its owner. If another user owns the group, the error wraps
	// ErrNotOwner. With nil owners are not checked.
	By *Writer
}

// Held is the content of a group during [Store.Amend]. It is valid until the edit
// function returns.
type Held struct{ content *Content }

// HeldBy returns the content of a group; c is nil if the group does not exist.
func HeldBy(c *Content) *Held { return &Held{c} }

// Exists reports whether the group exists.
func (h *Held) Exists() bool { return h.content != nil }

// Family returns the stored family of that name. The caller owns it.
func (h *Held) Family(name string) (exposition.Family, bool) {
	if h.content == nil {
		return exposition.Family{}, false
	}
	for _, p := range h.content.Parts {
		if d := p.Desc.Value(); d.Name == name {
			return exposition.DecodeFamily(d, p.Text), true
		}
	}
	return exposition.Family{}, false
}

// Attributes returns the values of the group's attributes of that key, in the
// order of the file; nil if there are none.
func (h *Held) Attributes(key string) []string {
	if h.content == nil {
		return nil
	}
	return h.content.File.Attributes(key)
}

// An Edit is a change of a group by [Store.Amend]. Families in Put replace those of
// the same names, as in a POST; those in Remove are deleted; all others are kept.
// Attributes sets the values of its keys, and an empty list deletes the key.
type Edit struct {
	Put        *exposition.Families // nil for none
	Remove     []string
	Attributes map[string][]string
}

// ImportOptions are the options for importing a group from another program.
type ImportOptions struct {
	// Pushed and Failed are the Unix times in seconds of the last push and the
	// last failed push; 0 is never.
	Pushed, Failed float64
	// Overwrite replaces an existing group, as Replace does.
	Overwrite bool
	// DryRun checks the group without writing it. The Views of this Store show it,
	// so that the next group is checked against it.
	DryRun bool
}
