package filestore

import (
	"iter"
	"maps"
	"strings"
	"sync/atomic"
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

	help   string // as served: see help.go
	helpBy *ident // whose text that is
	texts  int    // files that ask for one

	askers []*ident // these, by whose text counts; nil until a search for one was long

	inFiles string         // a text that files of groups have
	n       int            // how many of these have it
	others  map[string]int // how many have which other text; nil while all are aligned

	header string // as it stands in the rope

	excluded map[*ident]*excludedPart // parts that are not served as they are, by file
	partial  map[*ident]*partial      // what is known of those of them that are accepted
}

// typ returns the type of the family as it is served. The accepted parts agree
// on it, as those that contradict are excluded.
func (f *family) typ() Type {
	for t := Untyped; t <= Histogram; t++ {
		if f.accepted[t] > 0 {
			return t
		}
	}
	return Unstated
}

// excludedPart is a part that is not served as it is. It is immutable, as Views
// share it.
type excludedPart struct {
	Conflict
	text    string // the whole part
	blocked bool   // for its type or for a reserved suffix
	by      *ident // the first part that blocks it
}

// An Own describes a metric family that the agent serves itself. A file may
// add series to it only with the same type and with a label that the agent's
// own series do not have.
type Own struct {
	Type   Type
	Labels []string

	part bool // no family, but a part of a histogram or summary: nothing goes beside it
}

// merger keeps the merge of a set of files up to date. A change costs what the
// changed files hold and, where files conflict, what shares the conflicting
// identities. It is not safe for concurrent use; the views that it makes are.
type merger struct {
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

	misfits map[string]struct{} // families in which a file may have another HELP text than is served
	help    *helpState

	failures []*DirectoryError

	fileError, fileTime, fileHeld *family
	states                        map[*ident]state
}

// helpState is what is known of the HELP texts in files without the lock of the
// Store.
type helpState struct {
	misfit chan struct{} // has a value after a family was added to the misfits
	mixed  atomic.Int64  // families whose files have several texts
}

type excludedKey struct {
	family string
	id     ident
}

func newMerger(own map[string]Own) *merger {
	m := &merger{
		own:      maps.Clone(own),
		fams:     make(map[string]*family),
		index:    newIndex(),
		excluded: make(map[excludedKey]*excludedPart),
		states:   make(map[*ident]state),
		misfits:  make(map[string]struct{}),
		help:     &helpState{misfit: make(chan struct{}, 1)},
	}
	if own == nil {
		m.own = make(map[string]Own)
	}
	for name, o := range own {
		for _, suffix := range compositeSuffixes {
			if o.Type.reserves(suffix) {
				m.own[name+suffix] = Own{Type: o.Type, part: true}
			}
		}
	}
	m.fileError = m.stateFamily("promspool_file_error", "Whether a file, or a part of it, is not served, and why: 1 for each reason. The log and the page say more.")
	m.fileTime = m.stateFamily("promspool_file_mtime_seconds", "Unix time of the last change of a dropped file.")
	m.fileHeld = m.stateFamily("promspool_file_held_since_seconds", "Unix time since when the last good content of a file is served in place of what it holds, because a writer is at work or has just left it broken.")
	return m
}

// family returns the family of that name, which is kept.
func (m *merger) family(name string) *family {
	f := m.fams[name]
	if f == nil {
		f = m.newFamily(name)
		m.fams[name] = f
	}
	return f
}

func (m *merger) newFamily(name string) *family {
	_, own := m.own[name]
	f := &family{name: name, sharedWithOwn: own, touchesOwn: own}
	var room [64]byte // most names fit, and then nothing is allocated
	for _, suffix := range compositeSuffixes {
		if _, own := m.own[string(append(append(room[:0], name...), suffix...))]; own {
			f.touchesOwn = true
		}
	}
	return f
}

// IsReserved reports whether a family of that name is the agent's: whatever
// begins with promspool_, but for the metrics of jobs, which are pushed.
func IsReserved(name string) bool {
	return strings.HasPrefix(name, "promspool_") && !strings.HasPrefix(name, RecordPrefix)
}

func (m *merger) file(name string) *File {
	for _, k := range kindsOf(name) {
		if f := m.files.get(&ident{k, name}); f != nil {
			return f
		}
	}
	return nil
}

func (m *merger) ropeOf(f *family) *rope {
	if f.sharedWithOwn {
		return &m.beside
	}
	return &m.main
}

// part returns what a file has of a family, without its hashes.
func (m *merger) part(f *family, id *ident) (d desc, text string) {
	if file := m.files.get(id); file != nil {
		d, _ = file.has(f.name)
	}
	if e := f.excluded[id]; e != nil {
		return d, e.text
	}
	return d, string(m.ropeOf(f).piece(f, id))
}

// maybeQuoted reports whether canonical text may have the name of a metric or of
// a label in quotes: it comes after a brace or a comma. A value may look like that,
// too.
func maybeQuoted(text string) bool {
	return strings.Contains(text, `{"`) || strings.Contains(text, `,"`)
}

// byID returns the file with that ID, nil if there is none.
func (m *merger) byID(id *ident) *File { return m.files.get(id) }

// all yields the files in their order.
func (m *merger) all() iter.Seq[*File] { return m.files.all() }

// setFailures has the next views say which directories cannot be read.
func (m *merger) setFailures(list []*DirectoryError) { m.failures = list }

// newSuccessor returns an empty merge that can take the place of this one if that
// stays empty.
func (m *merger) newSuccessor(own map[string]Own) *merger {
	next := newMerger(own)
	next.changes = m.changes // they go on counting
	return next
}

// succeed takes the place of an empty merge, and so does v, a View of it that has
// not been published yet.
func (m *merger) succeed(old *merger, v *View) {
	old.help.mixed.Store(m.help.mixed.Load())
	m.help, m.failures = old.help, old.failures
	v.failures = m.failures
	if len(m.misfits) > 0 {
		m.signalMisfit()
	}
}

// signals returns what can be known of HELP texts in files without a lock. It is the
// same for a merge and its successors.
func (m *merger) signals() *helpState { return m.help }

// textsIn returns how many different HELP texts the files of groups have for a
// family, and whether all have the one that is served.
func (m *merger) textsIn(family string) (n int, aligned bool) {
	f := m.fams[family]
	if f == nil || f.n == 0 {
		return 0, true
	}
	return 1 + len(f.others), f.aligned()
}

// isMixed reports whether the files of some family have several texts.
func (h *helpState) isMixed() bool { return h.mixed.Load() > 0 }

// misfits has a value after a file was found to have another text than is served.
func (h *helpState) misfits() <-chan struct{} { return h.misfit }
