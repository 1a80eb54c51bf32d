package filestore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// groupChange makes the content of a group's file from what it was. It reads and
// writes no file: what it needs to know of the directory it is given.
type groupChange struct {
	group         Group
	emptyInstance bool    // spell out instance="" in samples without an instance
	now           float64 // Unix time
}

// canonical returns the parts of a push, with the labels of the group.
func (g *groupChange) canonical(f *Families, strip []string) ([]part, int, error) {
	for _, name := range [...]string{pushTime, failureTime, groupExpired} {
		delete(f.byName, name) // ours, whatever was pushed
	}
	f.list = slices.DeleteFunc(f.list, func(f *rawFamily) bool { return isRecord(f.name) })
	for _, f := range f.list {
		if f.typ == Unstated {
			f.typ = Untyped // a group's file states what it has
		}
	}
	lab := g.labelling()
	lab.strip = strip
	parts, series, _, err := canonical(f, lab, false)
	return parts, series, err
}

// labelling is what the group does to the labels of its samples.
func (g *groupChange) labelling() labelling {
	over := g.group.Labels()
	slices.SortFunc(over, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return labelling{over: over, emptyInstance: g.emptyInstance}
}

// pushed is what a push brings.
type pushed struct {
	parts  []part // in canonical form
	series int
	has    func(family string) bool
	keep   bool // a POST
	opts   PushOptions
}

// push returns what a push makes of a group. old is nil if the group is not there;
// then there is the file that has its name in spite of that, or nil.
func (g *groupChange) push(old *content, p *pushed, there *File) (*content, error) {
	parts, n, failed := p.parts, p.series, 0.0
	if old == nil {
		if err := p.opts.By.mayReplace(there); err != nil {
			return nil, err
		}
		if p.keep {
			if err := unreadable(there); err != nil {
				return nil, err
			}
		}
	} else {
		if err := p.opts.By.mayChange(old.file); err != nil {
			return nil, err
		}
		failed = old.file.failure
	}
	if p.keep && p.opts.Accumulate {
		var err error
		if parts, n, err = accumulated(parts, old, g.group.FileName()); err != nil {
			return nil, err
		}
	}
	parts, n, err := g.keep(old, p.keep, parts, n, p.has)
	if err != nil {
		return nil, err
	}
	c, err := g.content(old, parts, n, g.now, failed)
	if err != nil {
		return nil, err
	}
	c.pretended, c.fresh = p.opts.DryRun, !p.opts.DryRun
	c.file.attrs = p.opts.By.claim(p.opts.attributes(c.file.attrs, p.keep))
	return c, nil
}

// adopt returns what a group of another program makes of one.
func (g *groupChange) adopt(old *content, p *pushed, a Adoption) (*content, error) {
	parts, n, err := g.keep(old, false, p.parts, p.series, p.has)
	if err != nil {
		return nil, err
	}
	c, err := g.content(old, parts, n, a.Pushed, a.Failed)
	if err != nil {
		return nil, err
	}
	c.file.attrs = (&PushOptions{}).attributes(c.file.attrs, false)
	c.pretended = a.DryRun
	return c, nil
}

// amend returns what an edit makes of a group.
func (g *groupChange) amend(old *content, e *Edit) (*content, error) {
	put := e.Put
	if put == nil {
		put = noFamilies()
	}
	parts, n, err := g.canonical(put, nil)
	if err != nil {
		return nil, err
	}
	failed := 0.0
	if old != nil {
		failed = old.file.failure
		goes := func(family string) bool { return put.Has(family) || slices.Contains(e.Remove, family) }
		parts, n = mergeParts(parts, old.parts, goes, n)
	}
	if x := collision(parts, g.group.FileName()); x != nil {
		return nil, x
	}
	c, err := g.content(old, parts, n, g.now, failed)
	if err != nil {
		return nil, err
	}
	c.fresh = true
	for _, key := range sortedKeys(e.Attributes) {
		c.file.attrs = c.file.attrs.withAll(key, e.Attributes[key]...)
	}
	return c, nil
}

// fail returns what a rejected push makes of a group: all stays but the time.
func (g *groupChange) fail(old *content) (*content, error) {
	if old == nil {
		return g.content(nil, nil, 0, 0, g.now)
	}
	parts, n := mergeParts(nil, old.parts, func(string) bool { return false }, 0)
	if i := slices.IndexFunc(old.parts, func(p part) bool { return p.desc.Value().name == groupExpired }); i >= 0 {
		parts = append(parts, old.parts[i])
		n++
	}
	c, err := g.content(old, parts, n, old.file.push, g.now)
	if err != nil {
		return nil, err
	}
	c.stays(old.file)
	return c, nil
}

// keep adds to the parts of a push those of the group that it does not touch.
func (g *groupChange) keep(old *content, post bool, parts []part, series int, has func(family string) bool) ([]part, int, error) {
	if old == nil {
		return parts, series, nil
	}
	kept := keptBy(post, old)
	if len(kept) == 0 {
		return parts, series, nil
	}
	parts, series = mergeParts(parts, kept, has, series)
	if x := collision(parts, g.group.FileName()); x != nil {
		return nil, 0, x
	}
	return parts, series, nil
}

// content completes the parts of a group with its two times and with the
// attributes it had.
func (g *groupChange) content(old *content, parts []part, series int, pushed, failed float64) (*content, error) {
	times := gauges(
		gauge{name: failureTime, help: failureTimeHelp, value: failed},
		gauge{name: pushTime, help: pushTimeHelp, value: pushed},
	)
	own, n, _, err := canonical(times, g.labelling(), false)
	if err != nil {
		return nil, err
	}
	parts = append(slices.Clip(parts), own...)
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.desc.Value().name, b.desc.Value().name) })
	c := newContent(&ident{pushedKind, g.group.FileName()}, parts, series+n)
	c.file.group = g.group
	if old != nil {
		c.file.attrs = old.file.attrs.without(expiredAttribute) // with a push a new lifetime begins
	}
	return c, nil
}

// unreadable returns an error if a file that has the name of a group cannot be
// taken for its content, so that what the group holds is not known.
func unreadable(there *File) error {
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
func (o *PushOptions) attributes(a attributes, keep bool) attributes {
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
func keptBy(post bool, old *content) []part {
	if post {
		return old.parts
	}
	if _, ok := old.file.attrs.get(RecordAttribute); !ok {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(old.parts), func(p part) bool {
		return !strings.HasPrefix(p.desc.Value().name, RecordPrefix)
	})
}

// mergeParts adds to the parts of a change those that the group keeps: all but the
// record, which is made anew, and the families that go.
func mergeParts(fresh, old []part, goes func(family string) bool, series int) ([]part, int) {
	parts := slices.Clone(fresh)
	for _, p := range old {
		if name := p.desc.Value().name; goes(name) || isRecord(name) {
			continue
		}
		parts = append(parts, p)
		series += strings.Count(p.text, "\n")
	}
	return parts, series
}

// collision returns which family of a group looks like a part of a histogram
// or summary in the same group.
func collision(parts []part, file string) *Conflict {
	types := make(map[string]Type, len(parts))
	for i := range parts {
		d := parts[i].desc.Value()
		types[d.name] = d.typ
	}
	for name, t := range types {
		for _, suffix := range compositeSuffixes {
			if _, ok := types[name+suffix]; ok && t.reserves(suffix) {
				return &Conflict{Family: name + suffix, File: file, Kept: file, Reason: Duplicate}
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
	// By is in whose name the group is changed, where groups have owners: one
	// that has none gets By as its owner, and the error for one that is somebody
	// else's wraps ErrNotOwner. With nil nobody is asked for.
	By *Writer
}

// Held is what a group holds at the moment of an [Store.Amend]. It is valid
// until the function that was given it returns.
type Held struct{ content *content }

// heldBy returns what a group holds; c is nil if it is not there.
func heldBy(c *content) *Held { return &Held{c} }

// Exists reports whether the group is there at all.
func (h *Held) Exists() bool { return h.content != nil }

// Family returns the group's family of that name, as it is stored. The caller
// owns it.
func (h *Held) Family(name string) (Family, bool) {
	if h.content == nil {
		return Family{}, false
	}
	for _, p := range h.content.parts {
		if d := p.desc.Value(); d.name == name {
			return decodeFamily(d, p.text), true
		}
	}
	return Family{}, false
}

// Attributes returns the values of the group's attributes of that key, in the
// order of the file; nil if there are none.
func (h *Held) Attributes(key string) []string {
	if h.content == nil {
		return nil
	}
	return h.content.file.Attributes(key)
}

// An Edit is what an Amend makes of a group. Families of the names in Put take
// the place of the group's, as in a POST; those named in Remove go; all others
// stay as they are. Attributes are the values of the keys in it, one line each
// in the file; an empty list takes the key away.
type Edit struct {
	Put        *Families // nil for none
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
