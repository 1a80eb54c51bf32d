package filestore

import (
	"bytes"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/flate"
)

// Deflated is the exposition of a View compressed as part of a deflate stream:
// it ends on a byte, is not final and refers to nothing before it, so that a
// gzip member can be made of a header, this, what else is to follow, the two
// bytes 03 00 (an empty final block), a checksum and a length.
type Deflated struct {
	Parts [][]byte // not to be changed
	Size  int      // of all parts together
	CRC   uint32   // CRC-32 (IEEE) of the text
}

var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, 1)
	if err != nil {
		panic(err) // the level is a constant
	}
	return &deflater{w: w}
}}

type deflater struct {
	w   *flate.Writer
	buf bytes.Buffer
}

// Deflate appends text, compressed in the same form as [Deflated], to b.
func Deflate(b, text []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.buf.Reset()
	d.w.Reset(&d.buf)
	_, _ = d.w.Write(text) // a bytes.Buffer takes everything
	_ = d.w.Flush()
	return append(b, d.buf.Bytes()...)
}

// deflated returns the compressed text of the segment, which is made once.
func (s *segment) deflated() []byte {
	if p := s.packed.Load(); p != nil {
		return *p
	}
	b := Deflate(make([]byte, 0, len(s.text)/6), s.text)
	s.packed.Store(&b)
	return b
}

// Deflated returns the exposition compressed. Segments that earlier views had
// as well are not compressed again, and a second call on the same View costs
// nothing. It is safe for concurrent use.
func (v *View) Deflated() *Deflated {
	if d := v.packed.Load(); d != nil {
		return d
	}
	d := new(Deflated)
	v.main.segments(func(s *segment) bool {
		p := s.deflated()
		d.Parts = append(d.Parts, p)
		d.Size += len(p)
		d.CRC = crc32.Update(d.CRC, crc32.IEEETable, s.text)
		return true
	})
	v.packed.Store(d)
	return d
}
