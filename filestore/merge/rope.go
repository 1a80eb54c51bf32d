package merge

import (
	"slices"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/promspool/promspool/filestore/record"
)

// A rope is the exposition text as an ordered list of pieces: one for each family and
// file and one for each header. Pieces are grouped into segments. A rope is
// immutable: apply returns a new one that shares all unchanged segments, and copies
// two small tables.
type rope struct {
	blocks []*block
	bytes  int
}

// block is a run of segments. It keeps the table of the rope small.
type block struct {
	segs  []*segment
	bytes int

	sent   atomic.Bool            // the deflated text was requested
	packed atomic.Pointer[[]byte] // deflated text of all segments together, if made
}

// segment is a run of pieces. It has the only copy of the text.
type segment struct {
	runs []run
	ids  []*record.ID // of each piece; nil for a header
	ends []uint32     // end of each piece in text
	text []byte

	packed  atomic.Pointer[[]byte]  // the deflated text, made on request
	encoded atomic.Pointer[encoded] // as protobuf, see wire.go
}

// run is the family of the pieces up to end.
type run struct {
	fam *family
	end int32
}

// Sizes in bytes. Larger segments compress better. Smaller ones make a push and the
// next scrape cheaper: a random one percent of changed groups changes a sixth of
// them.
const (
	segmentSize     = 4 << 10
	segmentMax      = 6 << 10
	segmentMin      = 1 << 10
	blockSegments   = 64
	blockSegmentMax = 128
)

// edit replaces the piece of one family and file. An empty text deletes it.
type edit struct {
	fam  *family
	id   *record.ID
	text string
}

func compareKey(af *family, a *record.ID, bf *family, b *record.ID) int {
	if af != bf {
		if n := strings.Compare(af.name, bf.name); n != 0 {
			return n
		}
	}
	return record.Compare(a, b)
}

func compareEdits(a, b edit) int { return compareKey(a.fam, a.id, b.fam, b.id) }

// beginsAfter reports whether the segment's first piece comes after the edit.
func (s *segment) beginsAfter(e *edit) bool {
	return compareKey(s.runs[0].fam, s.ids[0], e.fam, e.id) > 0
}

// apply returns the rope after the edits, which must be sorted and distinct. It
// maintains the number of served pieces of each family.
func (r rope) apply(edits []edit) rope {
	if len(edits) == 0 {
		return r
	}
	out := rope{blocks: make([]*block, 0, len(r.blocks)+1), bytes: r.bytes}
	if len(r.blocks) == 0 {
		return out.addBlocks(rebuild(nil, edits))
	}
	next := 0
	for len(edits) > 0 {
		// The block of the first edit, and all edits within it.
		rest := r.blocks[next:]
		i := sort.Search(len(rest), func(i int) bool { return rest[i].segs[0].beginsAfter(&edits[0]) })
		i = max(i-1, 0)
		out.blocks = append(out.blocks, rest[:i]...)
		n := len(edits)
		if i+1 < len(rest) {
			n = sort.Search(n, func(j int) bool { return !rest[i+1].segs[0].beginsAfter(&edits[j]) })
		}
		out.bytes -= rest[i].bytes
		out = out.addBlocks(rest[i].apply(edits[:n]))
		edits = edits[n:]
		next += i + 1
	}
	out.blocks = append(out.blocks, r.blocks[next:]...)
	return out
}

// addBlocks appends segments as blocks of a good size.
func (r rope) addBlocks(segs []*segment) rope {
	for len(segs) > 0 {
		n := len(segs)
		if n > blockSegmentMax {
			n = blockSegments
		}
		b := &block{segs: segs[:n:n]}
		for _, s := range b.segs {
			b.bytes += len(s.text)
		}
		r.bytes += b.bytes
		r.blocks = append(r.blocks, b)
		segs = segs[n:]
	}
	return r
}

// apply returns the segments of the block after the edits.
func (b *block) apply(edits []edit) []*segment {
	out := make([]*segment, 0, len(b.segs)+1)
	next := 0
	for len(edits) > 0 {
		rest := b.segs[next:]
		i := sort.Search(len(rest), func(i int) bool { return rest[i].beginsAfter(&edits[0]) })
		i = max(i-1, 0)
		out = append(out, rest[:i]...)
		n := len(edits)
		if i+1 < len(rest) {
			n = sort.Search(n, func(j int) bool { return !rest[i+1].beginsAfter(&edits[j]) })
		}
		next += i + 1
		for _, s := range rebuild(rest[i], edits[:n]) {
			// A tiny segment is joined with the one before it.
			if last := len(out) - 1; last >= 0 && len(s.text) < segmentMin && len(out[last].text)+len(s.text) <= segmentMax {
				s = join(out[last], s)
				out = out[:last]
			}
			out = append(out, s)
		}
		edits = edits[n:]
	}
	return append(out, b.segs[next:]...)
}

// rebuild merges the pieces of a segment, which may be nil, with edits.
func rebuild(s *segment, edits []edit) []*segment {
	total := 0
	for i := range edits {
		total += len(edits[i].text)
	}
	if s != nil {
		total += len(s.text)
	}
	// Equal parts, so that a segment beyond the limit leaves no tiny one.
	size := total
	if total > segmentMax {
		size = total / ((total + segmentSize - 1) / segmentSize)
	}
	w := segmentWriter{size: size, total: total, pieces: len(edits)}
	if s != nil {
		w.pieces += len(s.ids)
		from, at := uint32(0), 0
		for _, run := range s.runs {
			for ; at < int(run.end); at++ {
				id := s.ids[at]
				for len(edits) > 0 {
					n := compareKey(edits[0].fam, edits[0].id, run.fam, id)
					if n > 0 {
						break
					}
					if n == 0 { // replaced or deleted below
						if id != nil {
							run.fam.served--
						}
						from = s.ends[at]
					}
					w.addEdit(&edits[0])
					edits = edits[1:]
					if n == 0 {
						break
					}
				}
				if from != s.ends[at] {
					w.add(run.fam, id, s.text[from:s.ends[at]])
					from = s.ends[at]
				}
			}
		}
	}
	for i := range edits {
		w.addEdit(&edits[i])
	}
	return w.done()
}

func join(a, b *segment) *segment {
	w := segmentWriter{size: len(a.text) + len(b.text), total: len(a.text) + len(b.text)}
	for _, s := range [...]*segment{a, b} {
		s.each(func(fam *family, id *record.ID, text []byte) bool {
			w.add(fam, id, text)
			return true
		})
	}
	return w.done()[0]
}

// segmentWriter collects pieces into segments of about the given size.
type segmentWriter struct {
	size, total int
	pieces      int // at most, in all segments
	out         []*segment
	seg         *segment
}

func (w *segmentWriter) addEdit(e *edit) {
	if e.text == "" {
		return
	}
	if e.id != nil {
		e.fam.served++
	}
	w.grow(len(e.text))
	w.seg.text = append(w.seg.text, e.text...)
	w.mark(e.fam, e.id)
}

func (w *segmentWriter) add(fam *family, id *record.ID, text []byte) {
	w.grow(len(text))
	w.seg.text = append(w.seg.text, text...)
	w.mark(fam, id)
}

// grow ensures that the segment has capacity for n more bytes.
func (w *segmentWriter) grow(n int) {
	if w.seg != nil && len(w.seg.text) > 0 && len(w.seg.text)+n > w.size+segmentMin/2 {
		w.cut()
	}
	if w.seg == nil {
		size := max(n, min(w.total, w.size+segmentMin/2))
		pieces := min(w.pieces, w.pieces*size/max(w.total, 1)+8)
		w.seg = &segment{text: make([]byte, 0, size), ids: make([]*record.ID, 0, pieces), ends: make([]uint32, 0, pieces)}
	}
}

func (w *segmentWriter) mark(fam *family, id *record.ID) {
	s := w.seg
	s.ids = append(s.ids, id)
	s.ends = append(s.ends, uint32(len(s.text)))
	if n := len(s.runs); n == 0 || s.runs[n-1].fam != fam {
		s.runs = append(s.runs, run{fam: fam})
	}
	s.runs[len(s.runs)-1].end = int32(len(s.ids))
}

func (w *segmentWriter) cut() {
	if w.seg != nil && len(w.seg.ids) > 0 {
		w.seg.trim()
		w.out = append(w.out, w.seg)
	}
	w.seg = nil
}

// trim releases unused capacity, because segments are long-lived.
func (s *segment) trim() {
	if cap(s.text)-len(s.text) > len(s.text)/8 {
		s.text = slices.Clip(slices.Clone(s.text))
	}
	if cap(s.ids)-len(s.ids) > len(s.ids)/8+8 {
		s.ids, s.ends = slices.Clone(s.ids), slices.Clone(s.ends)
	}
}

func (w *segmentWriter) done() []*segment {
	w.cut()
	return w.out
}

// each calls yield for the pieces of the segment in order. yield must not change the
// text.
func (s *segment) each(yield func(fam *family, id *record.ID, text []byte) bool) bool {
	from, at := uint32(0), 0
	for _, run := range s.runs {
		for ; at < int(run.end); at++ {
			if !yield(run.fam, s.ids[at], s.text[from:s.ends[at]]) {
				return false
			}
			from = s.ends[at]
		}
	}
	return true
}

// from calls yield for the pieces from the given position on, until yield returns
// false.
func (r rope) from(fam *family, id *record.ID, yield func(fam *family, id *record.ID, text []byte) bool) {
	at := edit{fam: fam, id: id}
	b := max(0, sort.Search(len(r.blocks), func(i int) bool { return r.blocks[i].segs[0].beginsAfter(&at) })-1)
	for first := true; b < len(r.blocks); b++ {
		segs, i := r.blocks[b].segs, 0
		if first {
			i = max(0, sort.Search(len(segs), func(i int) bool { return segs[i].beginsAfter(&at) })-1)
			first = false
		}
		for ; i < len(segs); i++ {
			more := segs[i].each(func(f *family, d *record.ID, text []byte) bool {
				return compareKey(f, d, fam, id) < 0 || yield(f, d, text)
			})
			if !more {
				return
			}
		}
	}
}

// piece returns the text of one family of one file, nil if there is none. It
// must not be changed.
func (r rope) piece(fam *family, id *record.ID) []byte {
	c := cursor{rope: r}
	return c.piece(fam, id)
}

// cursor finds pieces of a rope. It is fast for pieces in ascending order.
type cursor struct {
	rope    rope
	b, s    int // index of the current segment
	seg     *segment
	run, at int    // the next piece in it
	from    uint32 // start of its text
}

// piece returns the text of one family of one file, nil if there is none. It
// must not be changed.
func (c *cursor) piece(fam *family, id *record.ID) []byte {
	key := edit{fam: fam, id: id}
	if c.seg == nil || c.seg.beginsAfter(&key) || !c.endsBefore(&key) {
		if !c.seek(&key) {
			return nil
		}
	}
	for ; c.run < len(c.seg.runs); c.run++ {
		r := &c.seg.runs[c.run]
		if r.fam != fam && strings.Compare(r.fam.name, fam.name) < 0 {
			c.skip(int(r.end))
			continue
		}
		for ; c.at < int(r.end); c.skip(c.at + 1) {
			switch n := compareKey(r.fam, c.seg.ids[c.at], fam, id); {
			case n == 0:
				return c.seg.text[c.from:c.seg.ends[c.at]]
			case n > 0:
				// The next key may be smaller than this piece and in this segment.
				c.seg = nil
				return nil
			}
		}
	}
	c.seg = nil
	return nil
}

// skip goes to a later piece of the segment.
func (c *cursor) skip(at int) {
	if at > c.at {
		c.at, c.from = at, c.seg.ends[at-1]
	}
}

// endsBefore reports whether the next segment begins after the key and the piece
// at hand does not.
func (c *cursor) endsBefore(key *edit) bool {
	if c.run < len(c.seg.runs) && c.at < len(c.seg.ids) && compareKey(c.seg.runs[c.run].fam, c.seg.ids[c.at], key.fam, key.id) > 0 {
		return false
	}
	b, s := c.b, c.s+1
	if s == len(c.rope.blocks[b].segs) {
		b, s = b+1, 0
	}
	return b == len(c.rope.blocks) || c.rope.blocks[b].segs[s].beginsAfter(key)
}

// seek goes to the segment that has the key, if any has.
func (c *cursor) seek(key *edit) bool {
	blocks := c.rope.blocks
	if len(blocks) == 0 {
		return false
	}
	c.b = max(0, sort.Search(len(blocks), func(i int) bool { return blocks[i].segs[0].beginsAfter(key) })-1)
	segs := blocks[c.b].segs
	c.s = max(0, sort.Search(len(segs), func(i int) bool { return segs[i].beginsAfter(key) })-1)
	c.seg, c.run, c.at, c.from = segs[c.s], 0, 0, 0
	return true
}

// segments calls yield for each segment in order.
func (r rope) segments(yield func(*segment) bool) {
	for _, b := range r.blocks {
		for _, s := range b.segs {
			if !yield(s) {
				return
			}
		}
	}
}
