package exporter

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/promspool/promspool/filestore/merge"
)

// send writes the body, or only its headers.
func (b body) send(a *reply, c coding, head bool) {
	if c != identity {
		a.w.Header().Set("Content-Encoding", string(c))
	}
	switch c {
	case gzipped:
		b.sendGzip(a, head)
	case zstded:
		body{tail: b.zstd()}.sendRendered(a, head)
	default:
		b.sendPlain(a, head)
	}
}

// sendRendered writes a body without a view. The answer keeps memory for that
// alone.
func (b body) sendRendered(a *reply, head bool) {
	a.shrink(int64(cap(b.tail)))
	b.sendPlain(a, head)
}

func (b body) size() int {
	n := len(b.tail)
	switch {
	case b.encoded != nil:
		n += b.encoded.Size
	case b.view != nil:
		n += b.view.Len()
	}
	if b.ready != nil {
		n += len(b.ready.text)
	}
	return n
}

// each calls yield for each piece of the text.
func (b body) each(yield func([]byte)) {
	switch {
	case b.encoded != nil:
		for _, part := range b.encoded.Parts {
			yield(part.Raw())
		}
	case b.view != nil:
		for chunk := range b.view.Chunks() {
			yield(chunk)
		}
	}
	if b.ready != nil {
		yield(b.ready.text)
	}
	yield(b.tail)
}

func (b body) sendPlain(a *reply, head bool) {
	out := newSender(a, b.size(), head)
	b.each(out.add)
	out.end()
}

// sendGzip makes one gzip member (RFC 1952) of compressed parts: several
// members would be valid, but there are clients that stop after the first.
func (b body) sendGzip(a *reply, head bool) {
	d := &merge.Deflated{}
	switch {
	case b.encoded != nil:
		d = b.encoded.Deflated()
	case b.view != nil:
		d = b.view.Deflated()
	}
	ready := &passage{}
	if b.ready != nil {
		ready = b.ready
	}
	// No name, no time, of no system; the method is deflate.
	header := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}
	end := merge.Deflate(make([]byte, 0, len(b.tail)/4+64), b.tail)
	end = append(end, 3, 0) // an empty block that is the last one
	crc := crc32.Update(d.CRC, crc32.IEEETable, ready.text)
	end = binary.LittleEndian.AppendUint32(end, crc32.Update(crc, crc32.IEEETable, b.tail))
	end = binary.LittleEndian.AppendUint32(end, uint32(b.size())) // by RFC modulo 2^32

	out := newSender(a, len(header)+d.Size+len(ready.packed)+len(end), head)
	out.add(header)
	for _, part := range d.Parts {
		out.add(part)
	}
	out.add(ready.packed)
	out.add(end)
	out.end()
}

var zstdEncoders = sync.Pool{New: func() any {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return z
}}

// zstd returns the text compressed.
func (b body) zstd() []byte {
	z := zstdEncoders.Get().(*zstd.Encoder)
	defer zstdEncoders.Put(z)
	var buf bytes.Buffer // writes to it never fail
	z.Reset(&buf)
	b.each(func(text []byte) { _, _ = z.Write(text) })
	_ = z.Close()
	z.Reset(nil)
	return buf.Bytes()
}

// A sender joins pieces into large ones, because each Write of more than a few
// kilobytes to a ResponseWriter is a system call. It holds a buffer only from one Write
// to the next. Without a buffer, or with a slow reader, it writes each piece alone.
type sender struct {
	a      *reply
	buf    *[]byte
	pool   *sync.Pool // of its buffers
	direct bool       // gather nothing
	err    error      // the first; nothing is written after it
}

const (
	// smallAnswer fits into the buffer of the server.
	smallAnswer = 4 << 10
	// slowWrite is the duration of a Write from which a reader gets no buffer.
	slowWrite = 100 * time.Millisecond
)

// The buffers of answers up to smallBufferSize, and of larger ones.
var smallBuffers, largeBuffers = bufferPool(smallBufferSize), bufferPool(bufferSize)

func bufferPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any {
		b := make([]byte, 0, size)
		return &b
	}}
}

// newSender sets the length of an answer. For HEAD it sends nothing.
func newSender(a *reply, size int, head bool) *sender {
	a.w.Header().Set("Content-Length", strconv.Itoa(size))
	if head {
		return &sender{a: a, err: http.ErrBodyNotAllowed}
	}
	s := &sender{a: a, pool: largeBuffers, direct: size <= smallAnswer}
	if size <= smallBufferSize {
		s.pool = smallBuffers
	}
	return s
}

func (s *sender) add(b []byte) {
	for len(b) > 0 && s.err == nil {
		if s.buf == nil && (s.direct || len(b) >= pieceSize || !s.takeBuffer()) {
			n := min(len(b), pieceSize)
			s.write(b[:n])
			b = b[n:]
			continue
		}
		buf := *s.buf
		n := min(len(b), cap(buf)-len(buf))
		*s.buf = append(buf, b[:n]...)
		b = b[n:]
		if len(*s.buf) == cap(buf) {
			s.flush()
		}
	}
}

// takeBuffer reports whether a buffer was available.
func (s *sender) takeBuffer() bool {
	if s.a.of.buffers.Add(1) > buffersAtOnce {
		s.a.of.buffers.Add(-1)
		return false
	}
	s.buf = s.pool.Get().(*[]byte)
	return true
}

func (s *sender) write(b []byte) {
	start := time.Now()
	_, s.err = s.a.Write(b)
	s.direct = s.direct || time.Since(start) > slowWrite
}

// flush sends the content of the buffer, and returns the buffer.
func (s *sender) flush() {
	if s.buf == nil {
		return
	}
	if s.err == nil {
		s.write(*s.buf)
	}
	*s.buf = (*s.buf)[:0]
	s.pool.Put(s.buf)
	s.buf = nil
	s.a.of.buffers.Add(-1)
}

// end sends the rest. A client that is gone is not an error.
func (s *sender) end() { s.flush() }
