package filestore_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// inflate reads the stream of Deflated, which ends on a byte and needs an empty block to
// be complete.
func inflate(t testing.TB, d *merge.Deflated) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, p := range d.Parts {
		b.Write(p)
	}
	if b.Len() != d.Size {
		t.Errorf("the parts have %d bytes, Size is %d", b.Len(), d.Size)
	}
	b.Write([]byte{3, 0})
	text, err := io.ReadAll(flate.NewReader(&b))
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(text), err)
	}
	if sum := crc32.ChecksumIEEE(text); sum != d.CRC {
		t.Errorf("the checksum is %08x, CRC is %08x", sum, d.CRC)
	}
	return text
}

// TestDeflatedGetsSmaller expects that the compressed text shrinks while nothing
// changes. It must always be that of the current text, also after a change.
func TestDeflatedGetsSmaller(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), nil)
	const groups = 80
	text := func(version int) string {
		var b strings.Builder
		for i := range 300 {
			fmt.Fprintf(&b, "m%d{instance=\"host-%d.example.org\"} %d\n", i%5, i, i*version)
		}
		return b.String()
	}
	for i := range groups {
		must(t, s.Replace(group(t, "job", fmt.Sprint("job", i)), families(t, text(1)), record.PushOptions{}))
	}
	check := func() int {
		v := s.View()
		d := v.Deflated()
		if got := inflate(t, d); !bytes.Equal(got, v.AppendTo(nil)) {
			t.Fatal("the compressed text differs from the text")
		}
		return d.Size
	}
	first := check()
	last := first
	for range 20 {
		size := check()
		if size > last {
			t.Errorf("it grew from %d to %d bytes without a change", last, size)
		}
		last = size
	}
	if last > first*9/10 {
		t.Errorf("it has %d bytes after many scrapes, and had %d at first", last, first)
	}
	if a, b := s.View().Deflated(), s.View().Deflated(); a != b {
		t.Error("unchanged text is compressed again")
	}
	for i := range 10 {
		must(t, s.Replace(group(t, "job", fmt.Sprint("job", i*7)), families(t, text(i)), record.PushOptions{}))
		check()
		check()
	}
}
