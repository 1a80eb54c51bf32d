package merge

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

	blocks int // that are compressed as a whole
}

// Text that changes is compressed in small pieces and in little time. What has
// been sent as it is before is compressed once more, in large pieces, which makes
// it smaller by a quarter; beyond this level it takes much more time.
const (
	swiftLevel  = 1
	steadyLevel = 3
)

// blocksAtOnce is how many blocks one scrape compresses once more: some three
// milliseconds.
const blocksAtOnce = 8

var swift, steady = deflaters(swiftLevel), deflaters(steadyLevel)

func deflaters(level int) *sync.Pool {
	return &sync.Pool{New: func() any {
		w, err := flate.NewWriter(nil, level)
		if err != nil {
			panic(err) // the level is a constant
		}
		return &deflater{w: w}
	}}
}

type deflater struct {
	w   *flate.Writer
	buf bytes.Buffer
}

// Deflate appends text, compressed in the same form as [Deflated], to b.
func Deflate(b, text []byte) []byte {
	return deflate(swift, b, func(write func([]byte)) { write(text) })
}

func deflate(pool *sync.Pool, b []byte, each func(write func([]byte))) []byte {
	d := pool.Get().(*deflater)
	defer pool.Put(d)
	d.buf.Reset()
	d.w.Reset(&d.buf)
	each(func(text []byte) { _, _ = d.w.Write(text) }) // a bytes.Buffer takes everything
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

// deflate compresses the block as a whole, which is done once.
func (b *block) deflate() {
	packed := deflate(steady, nil, func(write func([]byte)) {
		for _, s := range b.segs {
			write(s.text)
		}
	})
	b.packed.Store(&packed)
}

// Deflated returns the exposition compressed. What earlier views had as well is not
// compressed again, unless to make it smaller: a call that has been answered for
// the same text before may do so with a bounded part of it. It is safe for
// concurrent use.
func (v *View) Deflated() *Deflated {
	last := v.packed.Load()
	if last != nil && last.blocks == len(v.main.blocks) {
		return last
	}
	d := new(Deflated)
	budget := blocksAtOnce
	for _, b := range v.main.blocks {
		if budget > 0 && b.packed.Load() == nil && b.sent.Swap(true) {
			b.deflate()
			budget--
		}
		if p := b.packed.Load(); p != nil {
			d.Parts = append(d.Parts, *p)
			d.Size += len(*p)
			d.blocks++
			continue
		}
		for _, s := range b.segs {
			p := s.deflated()
			d.Parts = append(d.Parts, p)
			d.Size += len(p)
		}
	}
	if last != nil {
		d.CRC = last.CRC
	} else {
		v.main.segments(func(s *segment) bool {
			d.CRC = crc32.Update(d.CRC, crc32.IEEETable, s.text)
			return true
		})
	}
	v.packed.Store(d)
	return d
}
