package merge

import (
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// Batch has the families and metrics of the commits in a batch so far.
type Batch struct {
	types     map[string]exposition.Desc
	hashes    map[uint64]struct{}
	composite bool // a histogram or summary is among them
}

// NewBatch returns an empty batch.
func NewBatch() *Batch {
	return &Batch{types: map[string]exposition.Desc{}, hashes: map[uint64]struct{}{}}
}

// Overlaps reports whether the content may conflict with the batch so far, by types,
// HELP texts, names or metrics. If not, it adds the content to the batch.
func (seen *Batch) Overlaps(c *record.Content) bool {
	for i := range c.Parts {
		d := c.Parts[i].Desc.Value()
		if o, ok := seen.types[d.Name]; ok && (typesConflict(o.Typ, d.Typ) || o.Help != c.File.HelpInFile(d)) {
			return true
		}
		if seen.composite || d.Typ.Composite() {
			for _, name := range relatedNames(d.Name) {
				if _, ok := seen.types[name]; ok {
					return true
				}
			}
		}
		for _, h := range c.Parts[i].Hashes {
			if _, ok := seen.hashes[h]; ok {
				return true
			}
		}
	}
	for i := range c.Parts {
		d := c.Parts[i].Desc.Value()
		d.Help = c.File.HelpInFile(d)
		seen.types[d.Name] = d
		seen.composite = seen.composite || d.Typ.Composite()
		for _, h := range c.Parts[i].Hashes {
			seen.hashes[h] = struct{}{}
		}
	}
	return false
}
