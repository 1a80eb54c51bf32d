package exporter

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"strconv"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/promspool/promspool/filestore"
)

// send writes the body, or only its headers.
func (b body) send(w http.ResponseWriter, c coding, head bool) {
	if c != identity {
		w.Header().Set("Content-Encoding", string(c))
	}
	switch c {
	case gzipped:
		b.sendGzip(w, head)
	case zstded:
		b.sendZstd(w, head)
	default:
		b.sendPlain(w, head)
	}
}

func (b body) size() int {
	n := len(b.tail)
	if b.view != nil {
		n += b.view.Len()
	}
	if b.ready != nil {
		n += len(b.ready.text)
	}
	return n
}

// each calls yield for the text in pieces.
func (b body) each(yield func([]byte)) {
	if b.view != nil {
		for chunk := range b.view.Chunks() {
			yield(chunk)
		}
	}
	if b.ready != nil {
		yield(b.ready.text)
	}
	yield(b.tail)
}

func (b body) sendPlain(w http.ResponseWriter, head bool) {
	out := begin(w, b.size(), head)
	b.each(out.add)
	out.end()
}

// sendGzip makes one gzip member (RFC 1952) of compressed parts: several
// members would be valid, but there are clients that stop after the first.
func (b body) sendGzip(w http.ResponseWriter, head bool) {
	d := &filestore.Deflated{}
	if b.view != nil {
		d = b.view.Deflated()
	}
	ready := &passage{}
	if b.ready != nil {
		ready = b.ready
	}
	// No name, no time, of no system; the method is deflate.
	header := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}
	end := filestore.Deflate(make([]byte, 0, len(b.tail)/4+64), b.tail)
	end = append(end, 3, 0) // an empty block that is the last one
	crc := crc32.Update(d.CRC, crc32.IEEETable, ready.text)
	end = binary.LittleEndian.AppendUint32(end, crc32.Update(crc, crc32.IEEETable, b.tail))
	end = binary.LittleEndian.AppendUint32(end, uint32(b.size())) // by RFC modulo 2^32

	out := begin(w, len(header)+d.Size+len(ready.packed)+len(end), head)
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

func (b body) sendZstd(w http.ResponseWriter, head bool) {
	z := zstdEncoders.Get().(*zstd.Encoder)
	defer zstdEncoders.Put(z)
	var buf bytes.Buffer // takes everything, so there are no errors below
	z.Reset(&buf)
	b.each(func(text []byte) { _, _ = z.Write(text) })
	_ = z.Close()
	z.Reset(nil)
	body{tail: buf.Bytes()}.sendPlain(w, head)
}

// A sender gathers pieces into large ones: each Write to a ResponseWriter of
// more than a few kilobytes is a system call.
type sender struct {
	w   http.ResponseWriter
	buf *[]byte
	err error // the first; nothing is written after it
}

const senderSize = 1 << 20

var senderBuffers = sync.Pool{New: func() any { return new([]byte) }}

// begin announces an answer of that many bytes, of which nothing is sent if
// only the head is asked for.
func begin(w http.ResponseWriter, size int, head bool) *sender {
	w.Header().Set("Content-Length", strconv.Itoa(size))
	if head {
		return &sender{err: http.ErrBodyNotAllowed}
	}
	s := &sender{w: w, buf: senderBuffers.Get().(*[]byte)}
	if need := min(size, senderSize); cap(*s.buf) < need {
		*s.buf = make([]byte, 0, need)
	}
	return s
}

func (s *sender) add(b []byte) {
	for len(b) > 0 && s.err == nil {
		buf := *s.buf
		if len(buf) == 0 && len(b) >= cap(buf) {
			_, s.err = s.w.Write(b)
			return
		}
		n := min(len(b), cap(buf)-len(buf))
		*s.buf = append(buf, b[:n]...)
		b = b[n:]
		if len(*s.buf) == cap(buf) {
			s.flush()
		}
	}
}

func (s *sender) flush() {
	if s.err == nil && len(*s.buf) > 0 {
		_, s.err = s.w.Write(*s.buf)
		*s.buf = (*s.buf)[:0]
	}
}

// end sends the rest. What the client did not take is not an error of ours.
func (s *sender) end() {
	if s.buf == nil {
		return
	}
	s.flush()
	*s.buf = (*s.buf)[:0]
	senderBuffers.Put(s.buf)
}
