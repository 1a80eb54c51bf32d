// Package merge merges files into a View.
//
// A [View] is immutable and a function of the files alone: nothing in it depends on
// history or on the order in which files arrived. A [Merger] keeps the merge of a
// changing set of files up to date. The exposition is a rope of text in segments, of
// which a change replaces those that it touches, so its cost is that of the change.
//
// Files take part in the order of their IDs. A part whose type or name conflicts with
// one that takes part already is excluded; of several files with one series the
// first serves it. An index knows which files share an identity, so a change decides
// these identities anew and nothing else.
package merge

import (
	"iter"
	"maps"
	"strings"
	"sync/atomic"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// family is one metric family of the merge. The name is fixed; everything else
// belongs to the merger.
type family struct {
	name string

	sharedWithOwn bool // the agent serves a family of that name itself, so this is kept in a rope of its own
	touchesOwn    bool // the agent serves one of that name, or one of what would be a part of this

	files    int    // parts in all files, accepted or not
	accepted [6]int // parts that take part in the merge, by type
	served   int    // pieces in the rope, without the header
	lead     lead   // of the accepted parts
	blocked  int    // parts that are excluded for their type or for a reserved suffix
	change   uint64 // the last one that touched it

	help   string     // as served: see help.go
	helpBy *record.ID // whose text that is
	texts  int        // files that ask for one

	askers []*record.ID // these, by whose text counts; nil until a search for one was long

	inFiles string         // a text that files of groups have
	n       int            // how many of these have it
	others  map[string]int // how many have which other text; nil while all are aligned

	header string // as it stands in the rope

	excluded map[*record.ID]*excludedPart // parts that are not served as they are, by file
	partial  map[*record.ID]*partial      // what is known of those of them that are accepted
}

// typ returns the type of the family as it is served. The accepted parts agree
// on it, as those that contradict are excluded.
func (f *family) typ() exposition.Type {
	for t := exposition.Untyped; t <= exposition.Histogram; t++ {
		if f.accepted[t] > 0 {
			return t
		}
	}
	return exposition.Unstated
}

// excludedPart is a part that is not served as it is. It is immutable, as Views
// share it.
type excludedPart struct {
	record.Conflict
	text    string // the whole part
	blocked bool   // for its type or for a reserved suffix
}

// An Own describes a metric family that the agent serves itself. A file may
// add series to it only with the same type and with a label that the agent's
// own series do not have.
type Own struct {
	Type   exposition.Type
	Labels []string

	part bool // no family, but a part of a histogram or summary: nothing goes beside it
}

// Merger keeps the merge of a set of files up to date. A change costs what the
// changed files hold and, where files conflict, what shares the conflicting
// identities. It is not safe for concurrent use; the views that it makes are.
type Merger struct {
	own   map[string]Own
	fams  map[string]*family
	index index

	files    catalog
	main     rope // what is served, but for families that the agent has as well
	beside   rope // these
	excluded map[excludedKey]*excludedPart
	totals   Totals
	blocked  int    // parts that are excluded for their type or for a reserved suffix
	changes  uint64 // so far

	quoted int // parts that may have a name in quotes
	extras int // files that have what text cannot say

	misfits map[string]struct{} // families in which a file may have another HELP text than is served
	help    *HelpState

	failures []*record.DirectoryError

	fileError, fileTime, fileHeld *family
	states                        map[*record.ID]state
}

// HelpState is what is known of the HELP texts in files without the lock of the
// Store.
type HelpState struct {
	misfit chan struct{} // has a value after a family was added to the misfits
	mixed  atomic.Int64  // families whose files have several texts
}

type excludedKey struct {
	family string
	id     record.ID
}

// New returns an empty merge beside the families that the agent serves itself.
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
	m.fileHeld = m.stateFamily("promspool_file_held_since_seconds", "Unix time since when the last good content of a file is served in place of what it holds, because a writer is at work or has just left it broken.")
	return m
}

// family returns the family of that name, which is kept.
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
	var room [64]byte // most names fit, and then nothing is allocated
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

// part returns what a file has of a family, without its hashes.
func (m *Merger) part(f *family, id *record.ID) (d exposition.Desc, text string) {
	if file := m.files.get(id); file != nil {
		d, _ = file.Has(f.name)
	}
	if e := f.excluded[id]; e != nil {
		return d, e.text
	}
	return d, string(m.ropeOf(f).piece(f, id))
}

// extra returns what the text of a part cannot say.
func (m *Merger) extra(f *family, id *record.ID) string {
	if file := m.files.get(id); file != nil {
		return file.Extra(f.name)
	}
	return ""
}

// maybeQuoted reports whether canonical text may have the name of a metric or of
// a label in quotes: it comes after a brace or a comma. A value may look like that,
// too.
func maybeQuoted(text string) bool {
	return strings.Contains(text, `{"`) || strings.Contains(text, `,"`)
}

// ByID returns the file with that ID, nil if there is none.
func (m *Merger) ByID(id *record.ID) *record.File { return m.files.get(id) }

// All yields the files in their order.
func (m *Merger) All() iter.Seq[*record.File] { return m.files.all() }

// SetFailures has the next views say which directories cannot be read.
func (m *Merger) SetFailures(list []*record.DirectoryError) { m.failures = list }

// NewSuccessor returns an empty merge that can take the place of this one if that
// stays empty.
func (m *Merger) NewSuccessor(own map[string]Own) *Merger {
	next := New(own)
	next.changes = m.changes // they go on counting
	return next
}

// Succeed takes the place of an empty merge, and so does v, a View of it that has
// not been published yet.
func (m *Merger) Succeed(old *Merger, v *View) {
	old.help.mixed.Store(m.help.mixed.Load())
	m.help, m.failures = old.help, old.failures
	v.failures = m.failures
	if len(m.misfits) > 0 {
		m.signalMisfit()
	}
}

// Signals returns what can be known of HELP texts in files without a lock. It is the
// same for a merge and its successors.
func (m *Merger) Signals() *HelpState { return m.help }

// TextsIn returns how many different HELP texts the files of groups have for a
// family, and whether all have the one that is served.
func (m *Merger) TextsIn(family string) (n int, aligned bool) {
	f := m.fams[family]
	if f == nil || f.n == 0 {
		return 0, true
	}
	return 1 + len(f.others), f.aligned()
}

// IsMixed reports whether the files of some family have several texts.
func (h *HelpState) IsMixed() bool { return h.mixed.Load() > 0 }

// Misfits has a value after a file was found to have another text than is served.
func (h *HelpState) Misfits() <-chan struct{} { return h.misfit }
