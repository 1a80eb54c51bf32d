// Package merge merges files into a View.
//
// A [View] is immutable. It depends only on the files, not on their history or the
// order in which they arrived. A [Merger] keeps the merge of a changing set of files
// up to date. The exposition is a rope of text segments, and a change replaces only
// the segments that it touches.
//
// Files are merged in the order of their IDs. A part whose type or name conflicts
// with an accepted part is excluded. The first file with a series serves it. An index
// has the files that share an identity, so a change checks only these again.
package merge

import (
	"iter"
	"maps"
	"strings"
	"sync/atomic"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// family is one metric family of the merge. Views may read only the name.
type family struct {
	name string

	sharedWithOwn bool // the agent has a family of that name; this one is in the second rope
	touchesOwn    bool // the agent has a family of that name or of that of a part of this one

	files    int    // parts in all files, accepted or not
	accepted [6]int // accepted parts, by type
	served   int    // pieces in the rope, without the header
	lead     lead   // of the accepted parts
	blocked  int    // parts that are excluded for their type or for a reserved suffix
	change   uint64 // number of the last change that touched it

	help   string     // as served: see help.go
	helpBy *record.ID // the file with that text
	texts  int        // number of files with a text of their own

	askers []*record.ID // these files in order of priority; nil before a long search

	inFiles string         // a text in files of groups
	n       int            // number of these files
	others  map[string]int // number of files by other text; nil while all have the same

	header string // as in the rope

	excluded map[*record.ID]*excludedPart // parts that are not served as they are, by file
	partial  map[*record.ID]*partial      // those of them that are accepted
}

// typ returns the served type of the family. Accepted parts do not conflict in it.
func (f *family) typ() exposition.Type {
	for t := exposition.Untyped; t <= exposition.Histogram; t++ {
		if f.accepted[t] > 0 {
			return t
		}
	}
	return exposition.Unstated
}

// excludedPart is a part that is not served as it is. It is immutable, because Views
// share it.
type excludedPart struct {
	record.Conflict
	text    string // the whole part
	blocked bool   // for its type or for a reserved suffix
}

// An Own describes a metric family of the agent itself. A file may add series to it
// only with the same type and with a label that the agent's series do not have.
type Own struct {
	Type   exposition.Type
	Labels []string

	part bool // part of a histogram or summary, to which files cannot add series
}

// Merger keeps the merge of a set of files up to date. The cost of a change depends
// on the size of the changed files and on the number of files with conflicting
// identities. A Merger is not safe for concurrent use; its Views are.
type Merger struct {
	own   map[string]Own
	fams  map[string]*family
	index index

	files    catalog
	main     rope // the exposition, except families that the agent has as well
	beside   rope // these families
	excluded map[excludedKey]*excludedPart
	totals   Totals
	blocked  int    // parts that are excluded for their type or for a reserved suffix
	changes  uint64 // so far

	quoted int // parts that may have a name in quotes
	extras int // files with data that the text format lacks

	misfits map[string]struct{} // families with files whose HELP text may differ from the served one
	help    *HelpState

	failures []*record.DirectoryError

	fileError, fileTime, fileHeld *family
	states                        map[*record.ID]state
}

// HelpState is the state of HELP texts in files that can be read without the lock of
// the Store.
type HelpState struct {
	misfit chan struct{} // has a value after a family was added to misfits
	mixed  atomic.Int64  // families with several texts in files
}

type excludedKey struct {
	family string
	id     record.ID
}

// New returns an empty merge. own are the families of the agent itself.
func New(own map[string]Own) *Merger {
	m := &Merger{
		own:      maps.Clone(own),
		fams:     make(map[string]*family),
		index:    newIndex(),
		excluded: make(map[excludedKey]*excludedPart),
		states:   make(map[*record.ID]state),
		misfits:  make(map[string]struct{}),
		help:     &HelpState{misfit: make(chan struct{}, 1)},
	}
	if own == nil {
		m.own = make(map[string]Own)
	}
	for name, o := range own {
		for _, suffix := range exposition.CompositeSuffixes {
			if o.Type.Reserves(suffix) {
				m.own[name+suffix] = Own{Type: o.Type, part: true}
			}
		}
	}
	m.fileError = m.stateFamily("promspool_file_error", "1 if a file is not, or not completely, served, with the reason. The log and the page have details.")
	m.fileTime = m.stateFamily("promspool_file_mtime_seconds", "Unix time of the last change of a dropped file.")
	m.fileHeld = m.stateFamily("promspool_file_held_since_seconds", "Unix time since when the last good content of a file is served, because a writer has the file open or has left it broken.")
	return m
}

// family returns the family of that name. It adds the family if there is none.
func (m *Merger) family(name string) *family {
	f := m.fams[name]
	if f == nil {
		f = m.newFamily(name)
		m.fams[name] = f
	}
	return f
}

func (m *Merger) newFamily(name string) *family {
	_, own := m.own[name]
	f := &family{name: name, sharedWithOwn: own, touchesOwn: own}
	var room [64]byte // avoids an allocation for most names
	for _, suffix := range exposition.CompositeSuffixes {
		if _, own := m.own[string(append(append(room[:0], name...), suffix...))]; own {
			f.touchesOwn = true
		}
	}
	return f
}

// File returns the file of that name, nil if there is none.
func (m *Merger) File(name string) *record.File {
	for _, k := range record.KindsOf(name) {
		if f := m.files.get(&record.ID{Kind: k, Name: name}); f != nil {
			return f
		}
	}
	return nil
}

func (m *Merger) ropeOf(f *family) *rope {
	if f.sharedWithOwn {
		return &m.beside
	}
	return &m.main
}

// part returns the description and text of a family in a file.
func (m *Merger) part(f *family, id *record.ID) (d exposition.Desc, text string) {
	if file := m.files.get(id); file != nil {
		d, _ = file.Has(f.name)
	}
	if e := f.excluded[id]; e != nil {
		return d, e.text
	}
	return d, string(m.ropeOf(f).piece(f, id))
}

// extra returns the Extra of a part.
func (m *Merger) extra(f *family, id *record.ID) string {
	if file := m.files.get(id); file != nil {
		return file.Extra(f.name)
	}
	return ""
}

// maybeQuoted reports whether canonical text may have a quoted metric or label name,
// which follows a brace or a comma. A label value can look the same.
func maybeQuoted(text string) bool {
	return strings.Contains(text, `{"`) || strings.Contains(text, `,"`)
}

// ByID returns the file with that ID, nil if there is none.
func (m *Merger) ByID(id *record.ID) *record.File { return m.files.get(id) }

// All yields the files in their order.
func (m *Merger) All() iter.Seq[*record.File] { return m.files.all() }

// SetFailures sets the directory errors of the next views.
func (m *Merger) SetFailures(list []*record.DirectoryError) { m.failures = list }

// NewSuccessor returns an empty merge that can replace this one if this one stays
// empty.
func (m *Merger) NewSuccessor(own map[string]Own) *Merger {
	next := New(own)
	next.changes = m.changes // numbers continue
	return next
}

// Succeed replaces an empty merge. v is a View of this one that is not published
// yet.
func (m *Merger) Succeed(old *Merger, v *View) {
	old.help.mixed.Store(m.help.mixed.Load())
	m.help, m.failures = old.help, old.failures
	v.failures = m.failures
	if len(m.misfits) > 0 {
		m.signalMisfit()
	}
}

// Signals returns the HelpState, which a merge and its successors share.
func (m *Merger) Signals() *HelpState { return m.help }

// TextsIn returns the number of HELP texts in files of groups for a family, and
// whether all are the served one.
func (m *Merger) TextsIn(family string) (n int, aligned bool) {
	f := m.fams[family]
	if f == nil || f.n == 0 {
		return 0, true
	}
	return 1 + len(f.others), f.aligned()
}

// IsMixed reports whether some family has several texts in files.
func (h *HelpState) IsMixed() bool { return h.mixed.Load() > 0 }

// Misfits returns a channel with a value after a family was added to the misfits.
func (h *HelpState) Misfits() <-chan struct{} { return h.misfit }
