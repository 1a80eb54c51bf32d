package merge

import (
	"iter"
	"slices"
	"sort"

	"github.com/promspool/promspool/filestore/record"
)

// A catalog is the files of a view in the order of their IDs. It is immutable: with
// returns a new one that shares all unchanged blocks.
type catalog struct {
	blocks [][]*record.File
}

const (
	catalogBlock    = 64
	catalogBlockMax = 128
)

// find returns the position of the file with that ID, and whether it exists.
func (c catalog) find(id *record.ID) (b, i int, ok bool) {
	if len(c.blocks) == 0 {
		return 0, 0, false
	}
	b = max(0, sort.Search(len(c.blocks), func(k int) bool { return record.Compare(c.blocks[k][0].ID(), id) > 0 })-1)
	i = sort.Search(len(c.blocks[b]), func(k int) bool { return record.Compare(c.blocks[b][k].ID(), id) >= 0 })
	return b, i, i < len(c.blocks[b]) && record.Compare(c.blocks[b][i].ID(), id) == 0
}

func (c catalog) get(id *record.ID) *record.File {
	if b, i, ok := c.find(id); ok {
		return c.blocks[b][i]
	}
	return nil
}

// fileChange is one file of a catalog before and after; nil for none.
type fileChange struct {
	id       *record.ID
	old, new *record.File
}

// with returns the catalog after the changes, which are in order and distinct.
func (c catalog) with(changes []fileChange) catalog {
	out := catalog{blocks: make([][]*record.File, 0, len(c.blocks)+1)}
	next := 0
	for len(changes) > 0 {
		rest := c.blocks[next:]
		if len(rest) == 0 {
			rest = [][]*record.File{nil}
		}
		i := 0
		if len(rest[0]) > 0 {
			i = max(0, sort.Search(len(rest), func(k int) bool { return record.Compare(rest[k][0].ID(), changes[0].id) > 0 })-1)
		}
		out.blocks = append(out.blocks, rest[:i]...)
		n := len(changes)
		if i+1 < len(rest) {
			n = sort.Search(n, func(k int) bool { return record.Compare(changes[k].id, rest[i+1][0].ID()) >= 0 })
		}
		merged := mergeFiles(rest[i], changes[:n])
		for len(merged) > 0 {
			k := len(merged)
			if k > catalogBlockMax {
				k = catalogBlock
			}
			out.blocks = append(out.blocks, merged[:k:k])
			merged = merged[k:]
		}
		changes = changes[n:]
		next = min(next+i+1, len(c.blocks))
	}
	out.blocks = append(out.blocks, c.blocks[next:]...)
	return out
}

func mergeFiles(files []*record.File, changes []fileChange) []*record.File {
	out := make([]*record.File, 0, len(files)+len(changes))
	for _, f := range files {
		for len(changes) > 0 && record.Compare(changes[0].id, f.ID()) < 0 {
			if changes[0].new != nil {
				out = append(out, changes[0].new)
			}
			changes = changes[1:]
		}
		if len(changes) > 0 && record.Compare(changes[0].id, f.ID()) == 0 {
			if f = changes[0].new; f == nil {
				changes = changes[1:]
				continue
			}
			changes = changes[1:]
		}
		out = append(out, f)
	}
	for _, ch := range changes {
		if ch.new != nil {
			out = append(out, ch.new)
		}
	}
	return slices.Clip(out)
}

// all yields the files in order.
func (c catalog) all() iter.Seq[*record.File] {
	return func(yield func(*record.File) bool) {
		for _, b := range c.blocks {
			for _, f := range b {
				if !yield(f) {
					return
				}
			}
		}
	}
}
