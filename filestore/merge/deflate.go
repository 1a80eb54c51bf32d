package merge

import (
	"bytes"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/flate"
)

// Deflated is the exposition of a View compressed as part of a deflate stream. It
// ends on a byte, is not final and refers to nothing before it. A gzip member
// consists of a header, this, further such parts, the two bytes 03 00 (an empty final
// block), a checksum and a length.
type Deflated struct {
	Parts [][]byte // must not be changed
	Size  int      // of all parts together
	CRC   uint32   // CRC-32 (IEEE) of the text

	blocks int // number of blocks that are compressed as a whole
}

// Text that has changed is compressed quickly, in small pieces. Text that was sent
// before is compressed once more in large pieces, which saves a quarter. Higher
// levels take much more time.
const (
	fastLevel  = 1
	smallLevel = 3
)

// blocksAtOnce is how many blocks one scrape compresses once more, which takes about
// three milliseconds.
const blocksAtOnce = 8

var fast, small = deflaters(fastLevel), deflaters(smallLevel)

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
	return deflate(fast, b, func(write func([]byte)) { write(text) })
}

func deflate(pool *sync.Pool, b []byte, each func(write func([]byte))) []byte {
	d := pool.Get().(*deflater)
	defer pool.Put(d)
	d.buf.Reset()
	d.w.Reset(&d.buf)
	each(func(text []byte) { _, _ = d.w.Write(text) }) // a bytes.Buffer never fails
	_ = d.w.Flush()
	return append(b, d.buf.Bytes()...)
}

// deflated returns the compressed text of the segment, and keeps it.
func (s *segment) deflated() []byte {
	if p := s.packed.Load(); p != nil {
		return *p
	}
	b := Deflate(make([]byte, 0, len(s.text)/6), s.text)
	s.packed.Store(&b)
	return b
}

// deflate compresses the block as a whole and keeps the result.
func (b *block) deflate() {
	packed := deflate(small, nil, func(write func([]byte)) {
		for _, s := range b.segs {
			write(s.text)
		}
	})
	b.packed.Store(&packed)
}

// Deflated returns the compressed exposition. Text that is unchanged since earlier
// views is not compressed again, except for a bounded part of it to make that
// smaller. It is safe for concurrent use.
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
