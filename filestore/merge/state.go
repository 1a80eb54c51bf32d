package merge

import (
	"maps"
	"slices"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// state has the samples about one file in the families promspool_file_….
type state struct{ faults, mtime, since string }

// stateFamily adds a family about files to the merge. A scrape copies it like any
// other.
func (m *Merger) stateFamily(name, help string) *family {
	f := m.family(name)
	f.help = help
	return f
}

func (m *Merger) isState(f *family) bool {
	return f == m.fileError || f == m.fileTime || f == m.fileHeld
}

func (c *Change) noteState(id *record.ID) {
	if _, ok := c.files[id]; !ok {
		c.files[id] = c.m.files.get(id)
	}
}

// state brings the metrics about one file up to date.
func (c *Change) state(id *record.ID, f *record.File) {
	m := c.m
	if f != nil && id.Kind == record.PushedKind && f.Problem() == nil && f.HeldSince().IsZero() && len(m.excluded) == 0 && m.states[id] == (state{}) {
		return // the usual case
	}
	m.totals.blame(id, nil)
	var faults, mtime, since string
	if f != nil {
		reasons := map[exposition.Reason]bool{}
		for _, p := range [...]*exposition.SyntaxError{f.Fault(), f.WhyBusy(), f.Flaw()} {
			if p != nil {
				reasons[p.Reason] = true
			}
		}
		for _, h := range f.Descs() {
			if e := m.fams[h.Value().Name].excluded[id]; e != nil && !e.Harmless {
				reasons[e.Reason] = true
			}
		}
		list := slices.Sorted(maps.Keys(reasons))
		m.totals.blame(id, list)
		var b []byte
		for _, r := range list {
			b = appendState(b, m.fileError.name, id.Name, 1, exposition.Label{Name: "reason", Value: string(r)})
		}
		faults = string(b)
		if id.Kind != record.PushedKind && !f.ModTime().IsZero() {
			mtime = string(appendState(nil, m.fileTime.name, id.Name, record.Seconds(f.ModTime())))
		}
		if !f.HeldSince().IsZero() {
			since = string(appendState(nil, m.fileHeld.name, id.Name, record.Seconds(f.HeldSince())))
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

// appendState appends a sample about the file of that name.
func appendState(b []byte, metric, file string, value float64, labels ...exposition.Label) []byte {
	b = append(b, metric...)
	b = exposition.AppendLabels(b, append([]exposition.Label{{Name: "file", Value: record.PrintableName(file)}}, labels...))
	b = append(b, ' ')
	b = exposition.AppendValue(b, value)
	return append(b, '\n')
}
