package filestore

import (
	"maps"
	"slices"
	"time"
)

// state is what the merge says about one file in the families of its own.
type state struct{ faults, mtime, since string }

// stateFamily makes a family about files that is kept within the merge, so
// that a scrape copies it like any other.
func (m *merger) stateFamily(name, help string) *family {
	f := m.family(name)
	f.help = help
	return f
}

func (m *merger) isState(f *family) bool {
	return f == m.fileError || f == m.fileTime || f == m.fileHeld
}

func (c *mergeChange) noteState(id *ident) {
	if _, ok := c.files[id]; !ok {
		c.files[id] = c.m.files.get(id)
	}
}

// state brings the metrics about one file up to date.
func (c *mergeChange) state(id *ident, f *File) {
	m := c.m
	if f != nil && id.kind == pushedKind && f.Problem() == nil && f.heldFrom.IsZero() && len(m.excluded) == 0 && m.states[id] == (state{}) {
		return // as it is with nearly every file
	}
	m.totals.blame(id, nil)
	var faults, mtime, since string
	if f != nil {
		reasons := map[Reason]bool{}
		for _, p := range [...]*SyntaxError{f.err, f.busy, f.issue} {
			if p != nil {
				reasons[p.Reason] = true
			}
		}
		for _, h := range f.parts {
			if e := m.fams[h.Value().name].excluded[id]; e != nil && !e.harmless {
				reasons[e.Reason] = true
			}
		}
		list := slices.Sorted(maps.Keys(reasons))
		m.totals.blame(id, list)
		var b []byte
		for _, r := range list {
			b = appendState(b, m.fileError.name, id.name, 1, Label{"reason", string(r)})
		}
		faults = string(b)
		if id.kind != pushedKind && !f.mtime.IsZero() {
			mtime = string(appendState(nil, m.fileTime.name, id.name, seconds(f.mtime)))
		}
		if !f.heldFrom.IsZero() {
			since = string(appendState(nil, m.fileHeld.name, id.name, seconds(f.heldFrom)))
		}
	}
	before, now := m.states[id], state{faults, mtime, since}
	if before == now {
		return
	}
	if (now == state{}) {
		delete(m.states, id)
	} else {
		m.states[id] = now
	}
	c.edits = append(c.edits,
		edit{fam: m.fileError, id: id, text: faults},
		edit{fam: m.fileTime, id: id, text: mtime},
		edit{fam: m.fileHeld, id: id, text: since})
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// appendState appends a sample about the file of that name.
func appendState(b []byte, metric, file string, value float64, labels ...Label) []byte {
	b = append(b, metric...)
	b = appendLabels(b, append([]Label{{"file", PrintableName(file)}}, labels...))
	b = append(b, ' ')
	b = appendValue(b, value)
	return append(b, '\n')
}
