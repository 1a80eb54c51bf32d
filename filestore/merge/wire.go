package merge

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// The exposition as delimited protobuf is assembled from segments, like the text. A
// segment keeps its encoded and compressed metrics from the first request to
// [View.DropEncoded].
//
// A family is a message with a length prefix, and may span many segments. So a
// segment has three passages: metrics of a family that began before, whole families,
// and metrics of a family that continues after it. Name, type and length of families
// that span segments are inserted during assembly.

// encoded is a segment as protobuf.
type encoded struct {
	typ  exposition.Type // of the family that began before
	lead encodedRun      // of the family that began before
	body chunk
	tail *encodedRun // of the last family, if it begins here
	desc exposition.Desc
}

type encodedRun struct {
	chunk
	unit          unit
	count, gauges int
}

// unit is the unit of a family and the file that it is from. Files that differ are
// resolved as with HELP texts.
type unit struct {
	text string
	by   *record.ID
}

func (u *unit) add(o unit) {
	if o.text != "" && (u.text == "" || compareHelp(o.by, u.by) < 0) {
		*u = o
	}
}

// chunk is a passage of protobuf.
type chunk struct {
	raw    []byte
	packed atomic.Pointer[[]byte] // deflated, made on request
}

func (c *chunk) deflated() []byte {
	if p := c.packed.Load(); p != nil {
		return *p
	}
	b := Deflate(make([]byte, 0, len(c.raw)/4), c.raw)
	c.packed.Store(&b)
	return b
}

func (e *encodedRun) set(w *exposition.Wire, u unit) {
	e.raw, e.unit, e.count, e.gauges = slices.Clip(w.Metrics), u, w.Count, w.Gauges
}

// encode returns the segment as protobuf. open is the type of the family that it may
// begin in the middle of.
func (s *segment) encode(v *View, open exposition.Type) *encoded {
	e := s.encoded.Load()
	if e != nil && (e.typ == open || e.lead.count == 0) {
		return e
	}
	e = &encoded{typ: open}
	var w exposition.Wire
	var u unit
	d, begun := exposition.Desc{Typ: open}, false
	var body []byte
	end := func() {
		switch {
		case !begun:
			e.lead.set(&w, u)
		default:
			body = appendFamily(body, d, u.text, w.Count, w.Gauges, w.Metrics)
		}
		w.Next(!begun)
		u = unit{}
	}
	text, from, at := string(s.text), uint32(0), 0
	for _, run := range s.runs {
		for ; at < int(run.end); at++ {
			id, piece := s.ids[at], text[from:s.ends[at]]
			from = s.ends[at]
			if id == nil {
				end()
				d, begun = exposition.ParseHeader(piece), true
				d.Name = run.fam.name
				continue
			}
			d.Name = run.fam.name
			extra := ""
			if v.extras {
				if f := v.files.get(id); f != nil {
					extra = f.Extra(d.Name)
				}
			}
			w.Add(d, piece, extra)
			u.add(unit{w.Unit, id})
		}
	}
	if begun {
		e.tail, e.desc = new(encodedRun), d
		e.tail.set(&w, u)
	} else {
		e.lead.set(&w, u)
	}
	e.body.raw = slices.Clip(body)
	s.encoded.Store(e)
	return e
}

// appendFamily appends a family with its length prefix.
func appendFamily(b []byte, d exposition.Desc, unit string, count, gauges int, metrics []byte) []byte {
	head := exposition.AppendFamilyHead(nil, d.Name, d.Help)
	head = exposition.AppendFamilyKind(head, d.Typ, unit, count, gauges)
	b = protowire.AppendVarint(b, uint64(len(head)+len(metrics)))
	return append(append(b, head...), metrics...)
}

// Encoded is the exposition as delimited protobuf, in immutable parts.
type Encoded struct {
	Parts []*EncodedPart
	Size  int
	CRC   uint32 // CRC-32 (IEEE)
}

// Deflated returns the compressed exposition. Each segment is compressed once.
func (e *Encoded) Deflated() *Deflated {
	d := &Deflated{Parts: make([][]byte, 0, len(e.Parts)), CRC: e.CRC}
	for _, p := range e.Parts {
		b := p.Deflated()
		d.Parts = append(d.Parts, b)
		d.Size += len(b)
	}
	return d
}

// An EncodedPart is a part of an exposition.
type EncodedPart struct {
	chunk *chunk
	frame []byte // small data outside of segments
}

// Raw returns the bytes.
func (p *EncodedPart) Raw() []byte {
	if p.chunk != nil {
		return p.chunk.raw
	}
	return p.frame
}

// Deflated returns the bytes in the form of [Deflated].
func (p *EncodedPart) Deflated() []byte {
	if p.chunk != nil {
		return p.chunk.deflated()
	}
	return store(make([]byte, 0, len(p.frame)+5), p.frame)
}

// store appends a piece that is too short for compression.
func store(b, text []byte) []byte {
	for len(text) > 0 {
		n := min(len(text), 0xffff)
		b = append(b, 0)
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(n))
		b = append(b, text[:n]...)
		text = text[n:]
	}
	return b
}

// Encoded returns the exposition as delimited protobuf, families in name order, without
// those that the agent has as well. Segments of earlier views are not encoded again.
// It is safe for concurrent use.
func (v *View) Encoded() *Encoded {
	if e := v.encoded.Load(); e != nil {
		return e
	}
	a := assembly{out: new(Encoded)}
	v.main.segments(func(s *segment) bool {
		a.add(s.encode(v, a.desc.Typ))
		return true
	})
	a.end()
	v.encoded.Store(a.out)
	return a.out
}

// assembly joins segments.
type assembly struct {
	out  *Encoded
	desc exposition.Desc // of the family that is open
	open []*encodedRun
}

func (a *assembly) add(e *encoded) {
	if e.lead.count > 0 {
		a.open = append(a.open, &e.lead)
	}
	if e.tail == nil {
		return
	}
	a.end()
	a.chunk(&e.body)
	a.desc, a.open = e.desc, append(a.open, e.tail)
}

// end closes the family that is open.
func (a *assembly) end() {
	if len(a.open) == 0 {
		return
	}
	var u unit
	size, count, gauges := 0, 0, 0
	for _, r := range a.open {
		u.add(r.unit)
		size += len(r.raw)
		count += r.count
		gauges += r.gauges
	}
	head := exposition.AppendFamilyHead(nil, a.desc.Name, a.desc.Help)
	head = exposition.AppendFamilyKind(head, a.desc.Typ, u.text, count, gauges)
	frame := protowire.AppendVarint(make([]byte, 0, len(head)+5), uint64(len(head)+size))
	a.part(&EncodedPart{frame: append(frame, head...)})
	for _, r := range a.open {
		a.chunk(&r.chunk)
	}
	a.open = a.open[:0]
}

func (a *assembly) chunk(c *chunk) {
	if len(c.raw) > 0 {
		a.part(&EncodedPart{chunk: c})
	}
}

func (a *assembly) part(p *EncodedPart) {
	a.out.Parts = append(a.out.Parts, p)
	raw := p.Raw()
	a.out.Size += len(raw)
	a.out.CRC = crc32.Update(a.out.CRC, crc32.IEEETable, raw)
}

// AppendEncoded appends one family as delimited protobuf, if there is one.
func (v *View) AppendEncoded(b []byte, name string) []byte {
	w, d, u := v.wire(name)
	if w.Count == 0 {
		return b
	}
	return appendFamily(b, d, u.text, w.Count, w.Gauges, w.Metrics)
}

// EncodedBeside returns the metrics that files add to a family of the agent's own, as
// fields of its message.
func (v *View) EncodedBeside(name string) []byte {
	w, _, _ := v.wire(name)
	return w.Metrics
}

func (v *View) wire(name string) (w exposition.Wire, d exposition.Desc, u unit) {
	for _, r := range [...]rope{v.main, v.beside} {
		r.from(&family{name: name}, nil, func(f *family, id *record.ID, text []byte) bool {
			if f.name != name {
				return false
			}
			if id == nil {
				d = exposition.ParseHeader(string(text))
				d.Name = name
				return true
			}
			extra := ""
			if file := v.files.get(id); file != nil {
				extra = file.Extra(name)
			}
			w.Add(d, string(text), extra)
			u.add(unit{w.Unit, id})
			return true
		})
	}
	return w, d, u
}

// DropEncoded releases the memory of [View.Encoded].
func (v *View) DropEncoded() {
	v.encoded.Store(nil)
	v.main.segments(func(s *segment) bool {
		s.encoded.Store(nil)
		return true
	})
}
