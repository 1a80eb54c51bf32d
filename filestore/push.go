package filestore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

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

// Replace makes the families the whole content of the group, as PUT does. If
// they do not fit, the group stays as it was, but for the time of its last
// failure, and the error is a *Conflict or a *SyntaxError.
func (s *Store) Replace(g Group, f *Families, opts PushOptions) error {
	return s.push(g, f, false, opts)
}

// Update replaces the families of the names that are in f and keeps the
// group's others, as POST does. Errors are those of Replace.
func (s *Store) Update(g Group, f *Families, opts PushOptions) error {
	return s.push(g, f, true, opts)
}

// Fail notes that a push to the group was refused before it came here. The
// group is created if it is missing.
func (s *Store) Fail(g Group) error {
	defer s.groups.lock(g.FileName())()
	return s.stampFailure(g)
}

func (s *Store) push(g Group, f *Families, keep bool, opts PushOptions) error {
	start := time.Now()
	unlock := s.groups.lock(g.FileName())
	defer func() {
		if unlock != nil {
			unlock()
		}
	}()
	now := s.opts.Now()
	var at placed
	fresh, series, err := s.canonical(g, f, opts.Strip)
	if err == nil {
		at, err = s.commit(g, true, func(old *File, oldParts []part) (*content, error) {
			failed := 0.0
			parts, n := fresh, series
			if err := opts.By.mayChange(old); err != nil {
				return nil, err
			}
			if old == nil {
				if err := opts.By.mayReplace(s.View().File(g.FileName())); err != nil {
					return nil, err
				}
			}
			if old == nil && keep {
				if err := s.unreadable(g); err != nil {
					return nil, err
				}
			}
			if keep && opts.Accumulate {
				var err error
				if parts, n, err = accumulated(fresh, old, oldParts, g.FileName()); err != nil {
					return nil, err
				}
			}
			if old != nil {
				failed = old.failure
				if kept := keptBy(keep, old, oldParts); len(kept) > 0 {
					parts, n = mergeParts(parts, kept, f.Has, n)
					if x := collision(parts, g.FileName()); x != nil {
						return nil, x
					}
				}
			}
			c, err := s.groupContent(g, old, parts, n, seconds(now), failed)
			if err != nil {
				return nil, err
			}
			c.pretended, c.fresh = opts.DryRun, !opts.DryRun
			c.file.attrs = opts.By.claim(opts.attributes(c.file.attrs, keep))
			return c, nil
		})
	}
	var clash *Conflict
	var bad *SyntaxError
	switch {
	case err != nil && opts.DryRun:
		return err
	case errors.As(err, &clash), errors.As(err, &bad) && bad.Decoded:
		return errors.Join(err, s.stampFailure(g))
	case bad != nil:
		return err
	}
	if err != nil {
		return doing("storing group "+g.String(), err)
	}
	unlock()
	unlock = nil
	if opts.DryRun {
		at.d.done()
		return nil
	}
	if err := s.flush(at); err != nil {
		return doing("storing group "+g.String(), err)
	}
	if s.observers.Commit != nil {
		s.observers.Commit(time.Since(start).Seconds())
	}
	return nil
}

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

// unreadable returns an error if the group has a file that cannot be taken for
// its content, so that what the group holds is not known.
func (s *Store) unreadable(g Group) error {
	f := s.View().File(g.FileName())
	switch {
	case f == nil || !f.group.IsZero():
		return nil
	case f.Err() != nil:
		return fmt.Errorf("what the group holds is not known, because its file cannot be used (%w): mend or remove the file, or replace the group with PUT", asText(f.Err()))
	}
	return fmt.Errorf("the file %q of the group was put there by somebody else: remove it, or replace it with PUT", f.Name())
}

// asText keeps an error about a file from being taken for one about a push.
func asText(err error) error { return errors.New(err.Error()) }

// flush waits until the change, and what was renamed in the directory before, is
// durable, and ends the use of the directory.
func (s *Store) flush(p placed) error {
	defer p.d.done()
	defer p.old.letGo()()
	start := time.Now()
	if err := p.d.flush(); err != nil {
		// Not its *fs.PathError, for which doing would forget the doubt.
		return fmt.Errorf("%w; %w", doing("flushing the directory", err), ErrInDoubt)
	}
	if s.observers.Flush != nil {
		s.observers.Flush(time.Since(start).Seconds())
	}
	return nil
}

// canonical makes the parts of a push, with the labels of the group.
func (s *Store) canonical(g Group, f *Families, strip []string) ([]part, int, error) {
	lab := s.labelling(g)
	lab.strip = strip
	return canonicalPush(f, lab)
}

func canonicalPush(f *Families, lab labelling) ([]part, int, error) {
	for _, name := range [...]string{pushTime, failureTime, groupExpired} {
		delete(f.byName, name) // ours, whatever was pushed
	}
	f.list = slices.DeleteFunc(f.list, func(f *rawFamily) bool { return isRecord(f.name) })
	for _, f := range f.list {
		if f.typ == Unstated {
			f.typ = Untyped // a group's file states what it has
		}
	}
	parts, series, _, err := canonical(f, lab, false)
	return parts, series, err
}

// labelling is what the group does to the labels of its samples.
func (s *Store) labelling(g Group) labelling {
	over := g.Labels()
	slices.SortFunc(over, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return labelling{over: over, emptyInstance: s.opts.EmptyInstance}
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
func keptBy(post bool, old *File, parts []part) []part {
	if post {
		return parts
	}
	if _, ok := old.attrs.get(RecordAttribute); !ok {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(parts), func(p part) bool {
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

// groupContent completes the parts of a group with its two times and with the
// attributes it had.
func (s *Store) groupContent(g Group, old *File, parts []part, series int, pushed, failed float64) (*content, error) {
	times := Families{list: []*rawFamily{
		{name: failureTime, help: failureTimeHelp, typ: Gauge, samples: []sample{{name: failureTime, value: failed}}},
		{name: pushTime, help: pushTimeHelp, typ: Gauge, samples: []sample{{name: pushTime, value: pushed}}},
	}}
	own, n, _, err := canonical(&times, s.labelling(g), false)
	if err != nil {
		return nil, err
	}
	parts = append(slices.Clip(parts), own...)
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.desc.Value().name, b.desc.Value().name) })
	c := newContent(&ident{pushedKind, g.FileName()}, parts, series+n)
	c.file.group = g
	if old != nil {
		c.file.attrs = old.attrs.without(expiredAttribute) // whoever comes with a push begins a new life
	}
	return c, nil
}

// stampFailure sets the failure time of a group whose lock is held.
func (s *Store) stampFailure(g Group) error {
	now := s.opts.Now()
	at, err := s.commit(g, false, func(old *File, oldParts []part) (*content, error) {
		var parts []part
		n, pushed := 0, 0.0
		if old == nil && (s.View().File(g.FileName()) != nil || !s.mayRecordFailure()) {
			return nil, errNothing
		}
		if old != nil {
			pushed = old.push
			for _, p := range oldParts {
				if name := p.desc.Value().name; name != pushTime && name != failureTime {
					parts = append(parts, p)
					n += strings.Count(p.text, "\n")
				}
			}
		}
		c, err := s.groupContent(g, old, parts, n, pushed, seconds(now))
		if err != nil {
			return nil, err
		}
		if old != nil {
			c.stays(old)
		}
		return c, nil
	})
	switch {
	case errors.Is(err, errNothing):
		err = nil
	case err == nil:
		err = s.flush(at)
	}
	return doing("noting the failure in group "+g.String(), err)
}

// MayChange returns an error that wraps ErrNotOwner if a group as it is now may
// not be changed in the name of the writer, who may be nil where groups have no
// owners. A later change looks again.
func (s *Store) MayChange(g Group, w *Writer) error {
	f := s.View().File(g.FileName())
	if f == nil || !f.group.IsZero() {
		return w.mayChange(f)
	}
	return w.mayReplace(f)
}
