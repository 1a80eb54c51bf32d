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

// Change makes the content of a group's file from what it was. It reads and
// writes no file: what it needs to know of the directory it is given.
type Change struct {
	Key           grouping.Key
	EmptyInstance bool    // spell out instance="" in samples without an instance
	Now           float64 // Unix time

	// Own returns the type of a family that the program serves itself; nil if it
	// serves none.
	Own func(family string) (exposition.Type, bool)
}

// Canonical returns the parts of a push, with the labels of the group.
func (g *Change) Canonical(f *exposition.Families, strip []string) ([]exposition.Part, int, error) {
	for _, name := range [...]string{pushTime, failureTime, GroupExpired} {
		delete(f.ByName, name) // ours, whatever was pushed
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

// untyped returns the type of a family that is pushed without one. A group's file
// states what it has. Series beside the agent's own get the agent's type, as there
// can be only one.
func (g *Change) untyped(family string) exposition.Type {
	if g.Own != nil {
		if t, ok := g.Own(family); ok && !t.Composite() && t != exposition.Unstated {
			return t
		}
	}
	return exposition.Untyped
}

// labelling is what the group does to the labels of its samples.
func (g *Change) labelling() exposition.Labelling {
	over := g.Key.Labels()
	slices.SortFunc(over, func(a, b exposition.Label) int { return strings.Compare(a.Name, b.Name) })
	return exposition.Labelling{Over: over, EmptyInstance: g.EmptyInstance}
}

// Pushed is what a push brings.
type Pushed struct {
	Parts  []exposition.Part // in canonical form
	Series int
	Has    func(family string) bool
	Keep   bool // a POST
	Opts   PushOptions
}

// Push returns what a push makes of a group. old is nil if the group is not there;
// then there is the file that has its name in spite of that, or nil.
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
	c.Pretended, c.Fresh = p.Opts.DryRun, !p.Opts.DryRun
	c.File.attrs = p.Opts.By.claim(p.Opts.attributes(c.File.attrs, p.Keep))
	return c, nil
}

// Adopt returns what a group of another program makes of one.
func (g *Change) Adopt(old *Content, p *Pushed, a Adoption) (*Content, error) {
	parts, n, err := g.keep(old, false, p.Parts, p.Series, p.Has)
	if err != nil {
		return nil, err
	}
	c, err := g.Content(old, parts, n, a.Pushed, a.Failed)
	if err != nil {
		return nil, err
	}
	c.File.attrs = (&PushOptions{}).attributes(c.File.attrs, false)
	c.Pretended = a.DryRun
	return c, nil
}

// Amend returns what an edit makes of a group.
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
		goes := func(family string) bool { return put.Has(family) || slices.Contains(e.Remove, family) }
		parts, n = mergeParts(parts, old.Parts, goes, n)
	}
	if x := collision(parts, g.Key.FileName()); x != nil {
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

// Fail returns what a rejected push makes of a group: all stays but the time and the
// reason.
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
	c.stays(old.File)
	return c, nil
}

// keep adds to the parts of a push those of the group that it does not touch.
func (g *Change) keep(old *Content, post bool, parts []exposition.Part, series int, has func(family string) bool) ([]exposition.Part, int, error) {
	if old == nil {
		return parts, series, nil
	}
	kept := keptBy(post, old)
	if len(kept) == 0 {
		return parts, series, nil
	}
	parts, series = mergeParts(parts, kept, has, series)
	if x := collision(parts, g.Key.FileName()); x != nil {
		return nil, 0, x
	}
	return parts, series, nil
}

// Content completes the parts of a group with its two times and with the
// attributes it had.
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
		c.File.attrs = old.File.attrs.without(expiredAttribute).without(refusedAttribute) // with a push a new lifetime begins
	}
	return c, nil
}

// Unreadable returns an error if a file that has the name of a group cannot be
// taken for its content, so that what the group holds is not known.
func Unreadable(there *File) error {
	switch {
	case there == nil || !there.group.IsZero():
		return nil
	case there.err != nil:
		return fmt.Errorf("what the group holds is not known, because its file cannot be used (%w): mend or remove the file, or replace the group with PUT", asText(there.err))
	}
	return fmt.Errorf("the file %q of the group was put there by somebody else: remove it, or replace it with PUT", there.Name())
}

// asText keeps an error about a file from being taken for one about a push.
func asText(err error) error { return errors.New(err.Error()) }

// attributes returns those of a group after a push, from those it had. Whatever
// is pushed, the ones of other keys stay.
func (o *PushOptions) attributes(a Attributes, keep bool) Attributes {
	switch {
	case o.TTL != nil:
		return a.with(ttlAttribute, model.Duration(*o.TTL).String())
	case keep:
		return a
	}
	return a.without(ttlAttribute)
}

// RecordAttribute is the key of the attribute that marks a group in which
// promspool itself keeps a record of a job, in families whose names begin with
// RecordPrefix. The record is no more the pushers' than push_time_seconds is: a
// job that is recorded may well replace its own group at its end.
const (
	RecordAttribute = "job"
	RecordPrefix    = "promspool_job_"
)

// keptBy returns which parts of a group a push does not touch unless it has
// families of their names: all in a POST, the record in a PUT.
func keptBy(post bool, old *Content) []exposition.Part {
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

// mergeParts adds to the parts of a change those that the group keeps: all but the
// record, which is made anew, and the families that go.
func mergeParts(fresh, old []exposition.Part, goes func(family string) bool, series int) ([]exposition.Part, int) {
	parts := slices.Clone(fresh)
	for _, p := range old {
		if name := p.Desc.Value().Name; goes(name) || isRecord(name) {
			continue
		}
		parts = append(parts, p)
		series += strings.Count(p.Text, "\n")
	}
	return parts, series
}

// collision returns which family of a group looks like a part of a histogram
// or summary in the same group.
func collision(parts []exposition.Part, file string) *Conflict {
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

// PushOptions say how a push is stored. The zero value is a plain push.
type PushOptions struct {
	// Strip are labels that are taken off all samples of the push.
	Strip []string
	// TTL is the lifetime of the group from this push on; zero means that it
	// does not end, whatever the policy says. With nil, Update leaves the group
	// its lifetime and Replace leaves it to the policy.
	TTL *time.Duration
	// Accumulate, with Update only, adds the counters and histograms of the push
	// to those that the group holds, also where these are withheld, and replaces
	// all else. It refuses the quantiles of summaries, buckets and types other than
	// those held, and what would not stay a number.
	Accumulate bool
	// DryRun does all but to write: the push is checked, and the Views of this
	// Store show it from then on, until it reads the file again. A refusal
	// leaves no trace either.
	DryRun bool
	// Client is who pushes, for the record of a refusal.
	Client string
	// By is in whose name the group is changed, where groups have owners: one
	// that has none gets By as its owner, and the error for one that is somebody
	// else's wraps ErrNotOwner. With nil nobody is asked for.
	By *Writer
}

// Held is what a group holds at the moment of an [Store.Amend]. It is valid
// until the function that was given it returns.
type Held struct{ content *Content }

// HeldBy returns what a group holds; c is nil if it is not there.
func HeldBy(c *Content) *Held { return &Held{c} }

// Exists reports whether the group is there at all.
func (h *Held) Exists() bool { return h.content != nil }

// Family returns the group's family of that name, as it is stored. The caller
// owns it.
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

// An Edit is what an Amend makes of a group. Families of the names in Put take
// the place of the group's, as in a POST; those named in Remove go; all others
// stay as they are. Attributes are the values of the keys in it, one line each
// in the file; an empty list takes the key away.
type Edit struct {
	Put        *exposition.Families // nil for none
	Remove     []string
	Attributes map[string][]string
}

// Adoption is what comes with a group that another program has kept.
type Adoption struct {
	// Pushed and Failed are when the last push and the last failed one were, as
	// Unix time in seconds; 0 is never.
	Pushed, Failed float64
	// Overwrite replaces a group that is there already, as Replace does.
	Overwrite bool
	// DryRun writes nothing: the group is checked as ever and shown by the Views
	// of this Store from then on, so that the next one is checked against it.
	DryRun bool
}
