package filestore

import (
	"maps"
	"strings"
)

// family is one metric family of the merge. The name is fixed; everything else
// belongs to the merger.
type family struct {
	name   string
	beside bool // the agent has a family of that name itself, so it is kept apart
	near   bool // the agent has one of that name or of what would be a part of this

	files  int    // files that have it, whether or not they could be merged
	types  [6]int // the same by type
	served int    // pieces in the rope, without the header
	typ    Type   // as served
	help   string // as served: the first text in the order of files
	helpBy *ident // whose text that is
	header string // as it stands in the rope

	related []relation // by its name

	held     map[*ident]*held // what had to give way, by file
	culprits map[*ident]int   // how many of these gave way to the file
}

// held is a part that could not be merged as it is.
type held struct {
	Conflict
	text     string   // all of it
	culprits []*ident // what it clashes with; nil for the agent
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
// changed files hold: the clash check asks an index about their metrics, and
// publishing replaces the segments that they touch. It is not safe for
// concurrent use; the views that it makes are.
type merger struct {
	own  map[string]Own
	fams map[string]*family

	// The identity of every metric in every file: in seen if it is anywhere,
	// and in more how often beyond once. A hit is only a suspicion, as hashes
	// may collide: the text decides.
	seen map[uint64]struct{}
	more map[uint64]int

	files  catalog
	main   rope // what is served, but for families that the agent has as well
	beside rope // these
	held   map[heldKey]*held
	totals Totals

	failures []*DirectoryError

	unsettled bool // some group would have another HELP text, see SettleHelp
	quoted    int  // parts that may have a name in quotes

	fileError, fileTime, fileHeld *family
	states                        map[*ident]state
}

type heldKey struct {
	family string
	id     ident
}

func newMerger(own map[string]Own) *merger {
	m := &merger{
		own:  maps.Clone(own),
		fams: make(map[string]*family),
		seen: make(map[uint64]struct{}),
		more: make(map[uint64]int),
		held: make(map[heldKey]*held),

		states: make(map[*ident]state),
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

func (m *merger) family(name string) *family {
	f := m.fams[name]
	if f == nil {
		f = m.newFamily(strings.Clone(name))
		m.fams[f.name] = f
	}
	return f
}

func (m *merger) newFamily(name string) *family {
	_, own := m.own[name]
	f := &family{name: name, beside: own, near: own, related: relations(name)}
	for _, r := range f.related {
		if _, own := m.own[r.name]; own && r.part {
			f.near = true
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
	if f.beside {
		return &m.beside
	}
	return &m.main
}

// maybeQuoted reports whether canonical text may have the name of a metric or of
// a label in quotes: it comes after a brace or a comma. A value may look like that,
// too.
func maybeQuoted(text string) bool {
	return strings.Contains(text, `{"`) || strings.Contains(text, `,"`)
}

// see adds a metric to the index and reports whether it was there already.
func (m *merger) see(h uint64) bool {
	n := len(m.seen)
	if m.seen[h] = struct{}{}; len(m.seen) > n {
		return false
	}
	m.more[h]++
	return true
}

func (m *merger) unsee(h uint64) {
	switch n := m.more[h]; {
	case n > 1:
		m.more[h] = n - 1
	case n == 1:
		delete(m.more, h)
	default:
		delete(m.seen, h)
	}
}
