package filestore

// contact is what a batch has of families and metrics so far.
type contact struct {
	types     map[string]desc
	hashes    map[uint64]struct{}
	composite bool // a histogram or summary is among them
}

func newContact() *contact {
	return &contact{types: map[string]desc{}, hashes: map[uint64]struct{}{}}
}

// touches reports whether the content could contradict the batch so far, by its
// types, texts, names or metrics. If not it is added to the batch.
func (seen *contact) touches(c *content) bool {
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		if o, ok := seen.types[d.name]; ok && (typesConflict(o.typ, d.typ) || o.help != c.file.helpInFile(d)) {
			return true
		}
		if seen.composite || d.typ.composite() {
			for _, name := range relatedNames(d.name) {
				if _, ok := seen.types[name]; ok {
					return true
				}
			}
		}
		for _, h := range c.parts[i].hashes {
			if _, ok := seen.hashes[h]; ok {
				return true
			}
		}
	}
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		d.help = c.file.helpInFile(d)
		seen.types[d.name] = d
		seen.composite = seen.composite || d.typ.composite()
		for _, h := range c.parts[i].hashes {
			seen.hashes[h] = struct{}{}
		}
	}
	return false
}
