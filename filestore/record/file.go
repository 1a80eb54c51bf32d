// Package record parses, changes and encodes one file of a spool. It does no I/O.
//
// A [File] is the result of reading a file, and a [Content] is a File with its
// text. A push, an amendment and the end of a lifetime are functions from the old
// content, the request and the clock to the new content, see [Change]. Facts about
// other files are passed to them.
package record

import (
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
	"unique"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
)

// WithoutYoung returns the stamp with Young cleared.
func WithoutYoung(s Stamp) Stamp {
	s.Young = false
	return s
}

// A File is the result of reading one file of a spool, without the text. It is
// immutable and safe for concurrent use.
type File struct {
	id    *ID
	group grouping.Key
	parts []unique.Handle[exposition.Desc] // by name
	// stored has the families whose HELP text in the file differs from the one in
	// parts, which is the group's own; by name. See help.go.
	stored []unique.Handle[exposition.Desc]
	extras []extra    // data that the text format lacks, by family; rare
	attrs  Attributes // see header.go; a dropped file has only its lifetime
	age    *Age       // nil while its lifetime lasts

	series    int
	size      int64
	mtime     time.Time
	push      float64 // push_time_seconds
	failure   float64 // push_failure_time_seconds
	stamp     Stamp
	hash      uint64                  // of the bytes of the file
	err       *exposition.SyntaxError // why the file is not served
	issue     *exposition.SyntaxError // why a part of it is not served
	untrusted bool                    // read as a dropped file: its owner is not trusted, or it is a link
	fileUID   uint32                  // user who wrote the file, see owner.go
	busy      *exposition.SyntaxError // why newer content cannot be read; the last good content is served
	heldFrom  time.Time               // since when the last good content is served in its place; zero if it is not
}

// Name returns the file's name in the spool.
func (f *File) Name() string { return f.id.Name }

// Group returns the group that was pushed into the file; it is zero for a
// dropped file.
func (f *File) Group() grouping.Key { return f.group }

// Size returns the size in bytes.
func (f *File) Size() int64 { return f.size }

// DiskSize returns the size of the file on disk. Size is 0 for a file that is too large to
// be read.
func (f *File) DiskSize() int64 {
	if f.size == 0 && f.err != nil && f.err.Reason == exposition.TooLarge {
		return f.stamp.Size
	}
	return f.size
}

// ModTime returns the time of the last modification.
func (f *File) ModTime() time.Time { return f.mtime }

// Series returns the number of samples in the file, merged or not.
func (f *File) Series() int { return f.series }

// LastPush returns when the group was last pushed to with success, or the zero
// time if that never happened.
func (f *File) LastPush() time.Time { return unixTime(f.push) }

// LastFailure returns when a push to the group was last rejected, or the zero
// time if that never happened.
func (f *File) LastFailure() time.Time { return unixTime(f.failure) }

// Err returns why the file is not served, or nil. It is a *SyntaxError.
func (f *File) Err() error {
	if f.err == nil {
		return nil
	}
	return f.err
}

// Problem returns the fault of the file itself: why the file, its newest content
// or a part of it is not served. It is nil if there is none. Conflicts with other
// files are in [View.Conflicts].
func (f *File) Problem() *exposition.SyntaxError {
	switch {
	case f.err != nil:
		return f.err
	case f.busy != nil:
		return f.busy
	}
	return f.issue
}

// IsBusy reports whether the file cannot be read because a writer has it open.
func (f *File) IsBusy() bool { return f.busy != nil || f.err != nil && f.err.Reason == exposition.Busy }

// HeldSince returns since when the last good content is served because the file is
// being written or is broken. It is zero if the file is served as it is.
func (f *File) HeldSince() time.Time { return f.heldFrom }

func unixTime(seconds float64) time.Time {
	if !(seconds > 0 && seconds < 1<<62/1e9) {
		return time.Time{}
	}
	s, frac := math.Modf(seconds)
	return time.Unix(int64(s), int64(frac*1e9))
}

// Has returns the file's description of the family of that name.
func (f *File) Has(name string) (exposition.Desc, bool) { return findDesc(f.parts, name) }

// findDesc returns the description of the family of that name in a list by name.
func findDesc(list []unique.Handle[exposition.Desc], name string) (exposition.Desc, bool) {
	lo, hi := 0, len(list)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		d := list[mid].Value()
		switch n := strings.Compare(d.Name, name); {
		case n == 0:
			return d, true
		case n < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return exposition.Desc{}, false
}

// extra is the Extra of one part. It is kept in the File and not in the text of the
// merge, because most scrapes do not include it.
type extra struct {
	desc unique.Handle[exposition.Desc]
	text string
}

// HasExtras reports whether a family has data that the text format lacks.
func (f *File) HasExtras() bool { return len(f.extras) > 0 }

// Extra returns the comment lines of a family, with the data that the text format
// lacks.
func (f *File) Extra(name string) string {
	if len(f.extras) == 0 {
		return ""
	}
	i, ok := slices.BinarySearchFunc(f.extras, name, func(e extra, name string) int { return strings.Compare(e.desc.Value().Name, name) })
	if !ok {
		return ""
	}
	return f.extras[i].text
}

// Content is a File together with its text. The text moves into the merge when
// the File does and is not kept here.
type Content struct {
	File  *File
	Parts []exposition.Part
	Rest  time.Duration // how long the file must be unchanged before it is read
	Fresh bool          // a push to this Store

	sameTime bool // the file keeps its mtime, which is the time of the push
	DryRun   bool // dry run: checked and published, but not written
}

// KeepTime returns the mtime to set on the file; zero to leave it alone.
func (c *Content) KeepTime() time.Time {
	if c.sameTime {
		return c.File.mtime
	}
	return time.Time{}
}

const (
	pushTime    = "push_time_seconds"
	failureTime = "push_failure_time_seconds"

	pushTimeHelp    = "Last Unix time when changing this group in the spool succeeded."
	failureTimeHelp = "Last Unix time when changing this group in the spool failed."
)

// newContent makes the content of a file of that name.
func newContent(id *ID, parts []exposition.Part, series int) *Content {
	f := &File{id: id, series: series, parts: make([]unique.Handle[exposition.Desc], len(parts))}
	for i := range parts {
		f.parts[i] = parts[i].Desc
		if parts[i].Extra != "" {
			f.extras = append(f.extras, extra{parts[i].Desc, parts[i].Extra})
		}
		switch parts[i].Desc.Value().Name {
		case pushTime:
			f.push = exposition.FirstValue(parts[i].Text)
		case failureTime:
			f.failure = exposition.FirstValue(parts[i].Text)
		}
	}
	return &Content{File: f, Parts: parts}
}

// Parse returns the content of a file. If the bytes are invalid, its File has an
// Err.
func Parse(name string, data []byte) *Content { return ParseAs(name, data, false) }

// ParseAs is Parse for a file with a given owner. An untrusted file is read as a
// dropped file, whatever its first line is.
func ParseAs(name string, data []byte, untrusted bool) *Content {
	c, err := readContent(name, data, untrusted)
	if err != nil {
		c = Bad(name, err)
	}
	c.File.untrusted = untrusted
	c.File.size = int64(len(data))
	c.File.hash = hashOf(data)
	return c
}

// droppedIdent returns the ident of a file that was not pushed.
func droppedIdent(name string) *ID {
	if strings.ContainsRune(name, filepath.Separator) {
		return &ID{OtherKind, name}
	}
	return &ID{DroppedKind, name}
}

// KindsOf returns the kinds that a file of that name can have.
func KindsOf(name string) []Kind {
	if strings.ContainsRune(name, filepath.Separator) {
		return otherKinds
	}
	return spoolKinds
}

var (
	spoolKinds = []Kind{PushedKind, DroppedKind}
	otherKinds = []Kind{OtherKind}
)

// Bad returns the content of an invalid file.
func Bad(name string, err *exposition.SyntaxError) *Content {
	err.File = name
	return &Content{File: &File{id: droppedIdent(name), err: err}}
}

func readContent(name string, data []byte, untrusted bool) (*Content, *exposition.SyntaxError) {
	if !untrusted {
		// The data does not change any more, and the merge copies the parts that it keeps.
		if c, ok := scanPushed(name, unsafe.String(unsafe.SliceData(data), len(data))); ok {
			return c, nil
		}
	}
	return parsePushedOrDropped(name, data, untrusted)
}

// maxRest is the maximum of Content.Rest. A file that is written more often than
// that would never be read.
const maxRest = time.Minute

// slabs are buffers for the labels of files that are being read.
var slabs = sync.Pool{New: func() any { return new([]exposition.Label) }}

func parsePushedOrDropped(name string, data []byte, untrusted bool) (*Content, *exposition.SyntaxError) {
	slab := slabs.Get().(*[]exposition.Label)
	defer slabs.Put(slab)
	// Nothing of the data outlives this call: descriptions and text are copies.
	fams, err := exposition.ParseWith(slab, unsafe.String(unsafe.SliceData(data), len(data)), exposition.FileLimits, true, true)
	if err != nil {
		return nil, err.(*exposition.SyntaxError)
	}
	id := droppedIdent(name)
	var group grouping.Key
	planted := false
	if d := fams.Directives; len(d) > 0 && d[0].Key == exposition.GroupDirective && strings.HasPrefix(string(data[:min(len(data), 64)]), exposition.DirectivePrefix) {
		if g, file, err := grouping.ParseCanonical(d[0].Text); err == nil && file == name {
			if planted = untrusted; !planted {
				group, id.Kind = g, PushedKind
			}
		}
	}
	parts, series, issue, err := exposition.Canonical(fams, exposition.Labelling{}, true)
	if err != nil {
		return nil, err.(*exposition.SyntaxError)
	}
	var stored []unique.Handle[exposition.Desc]
	if !group.IsZero() {
		stored = askedHelp(parts, fams.Directives)
	}
	c := newContent(id, parts, series)
	c.File.group, c.File.stored = group, stored
	if issue == nil && planted {
		issue = &exposition.SyntaxError{Reason: exposition.Reserved, Msg: "has the name of a pushed group, but is a link or its owner may not push by writing files; it is read as a dropped file"}
	}
	if issue != nil {
		issue.File = name
		c.File.issue = issue
	}
	if group.IsZero() {
		c.File.push, c.File.failure = 0, 0
		for _, a := range attributesFrom(fams.Directives) {
			if a.key == ttlAttribute {
				c.File.attrs = c.File.attrs.with(ttlAttribute, strings.TrimSpace(a.value))
			}
		}
		for _, d := range fams.Directives {
			if d.Key != "settle" {
				continue
			}
			rest, err := time.ParseDuration(strings.TrimSpace(d.Text))
			if c.Rest = min(rest, maxRest); err != nil && issue == nil {
				c.File.issue = &exposition.SyntaxError{File: name, Reason: exposition.Syntax, Msg: "the line # promspool:settle names no duration such as 2s"}
			}
		}
	} else {
		c.File.attrs = attributesFrom(fams.Directives)
		var err error
		if c.File.age, err = ageFrom(c.File.attrs, withheldFrom(fams.Directives)); err != nil && issue == nil {
			c.File.issue = &exposition.SyntaxError{File: name, Reason: exposition.Syntax, Msg: err.Error()}
		}
	}
	if text, ok := c.File.attrs.get(ttlAttribute); ok && c.File.issue == nil {
		if _, err := ParseTTL(text); err != nil {
			c.File.issue = &exposition.SyntaxError{File: name, Reason: exposition.Syntax, Msg: "the line # promspool:ttl names no lifetime such as 24h"}
		}
	}
	return c, nil
}

// Encode returns the bytes of a pushed file.
func (c *Content) Encode() []byte {
	size := len(exposition.DirectivePrefix) + len(c.File.group.Set) + 16 + c.File.attrs.size()
	for i := range c.Parts {
		d := c.Parts[i].Desc.Value()
		size += 2*len(d.Name) + len(d.Help) + len(c.Parts[i].Text) + len(c.Parts[i].Extra) + 40
	}
	b := make([]byte, 0, size)
	b = append(b, exposition.DirectivePrefix+exposition.GroupDirective+" "...)
	b = append(b, c.File.group.Set...)
	b = append(b, '\n')
	b = c.File.attrs.appendTo(b)
	b = c.File.age.appendTo(b)
	b = c.File.appendAsked(b)
	stored := c.File.stored
	for i := range c.Parts {
		d := c.Parts[i].Desc.Value()
		if len(stored) > 0 && stored[0].Value().Name == d.Name {
			d, stored = stored[0].Value(), stored[1:]
		}
		b = exposition.AppendHeader(b, d.Name, d.Help, d.Typ)
		b = append(b, c.Parts[i].Text...)
		b = append(b, c.Parts[i].Extra...)
	}
	return b
}

func hashOf(data []byte) uint64 { return xxhash.Sum64(data) }

// Holds records the size and hash of a file.
func (c *Content) Holds(data []byte) { c.File.size, c.File.hash = int64(len(data)), hashOf(data) }

// Stamped sets the stamp of a file that has just been written.
func (f *File) Stamped(at Stamp) { f.stamp, f.mtime = at, time.Unix(0, at.Mtime) }

// Found sets the stamp and mtime of a file that was read.
func (f *File) Found(at Stamp, mtime time.Time) {
	f.stamp, f.mtime, f.heldFrom, f.busy = at, mtime, time.Time{}, nil
}

// Unchanged returns the content of a file that has the same bytes under another stamp.
// The merge has its parts already.
func (f *File) Unchanged() *Content {
	same := *f
	return &Content{File: &same}
}

// Held returns the content for a file that is served in place of its newer content
// since then. A reason that is not nil is reported.
func (f *File) Held(since time.Time, busy *exposition.SyntaxError) *Content {
	c := f.Unchanged()
	if busy != nil {
		c.File.busy = busy
	}
	if c.File.heldFrom.IsZero() {
		c.File.heldFrom = since
	}
	return c
}

// Unread returns the content of a file that is read next time even if its stamp
// has not changed.
func (f *File) Unread() *Content {
	c := f.Unchanged()
	c.File.stamp, c.File.hash = Stamp{}, 0
	return c
}

// IsOf reports whether the file was read from the same bytes of the same user.
func (f *File) IsOf(data []byte, untrusted bool, uid uint32) bool {
	return f.err == nil && f.issue == nil && f.untrusted == untrusted && f.fileUID == uid && len(data) > 0 && f.size == int64(len(data)) && f.hash == hashOf(data)
}

// SetPublic marks the file as readable by every user. Messages about it may then
// quote its content, which is data.
func (f *File) SetPublic(data []byte) {
	for _, e := range []*exposition.SyntaxError{f.err, f.issue} {
		if e != nil {
			e.SetPublic(data)
		}
	}
}

// Moved renames a dropped file.
func (f *File) Moved(name string) { f.id = droppedIdent(name) }

// SameIdent shares the ID of the file before, which saves memory.
func (f *File) SameIdent(before *File) { f.id = before.id }

// ID returns the place of the file in the merge.
func (f *File) ID() *ID { return f.id }

// Descs returns the descriptions of the families, by name. The caller must not
// change them.
func (f *File) Descs() []unique.Handle[exposition.Desc] { return f.parts }

// Stored returns the descriptions of the families whose HELP text in the file is
// not the group's own.
func (f *File) Stored() []unique.Handle[exposition.Desc] { return f.stored }

// Attrs returns the attributes of the group.
func (f *File) Attrs() Attributes { return f.attrs }

// Ended describes the end of the file's lifetime; nil if it has not ended.
func (f *File) Ended() *Age { return f.age }

// Pushed returns the Unix time of the last push; 0 is never.
func (f *File) Pushed() float64 { return f.push }

// Failed returns the Unix time of the last push that was rejected; 0 is never.
func (f *File) Failed() float64 { return f.failure }

// Stamp returns the stamp of the file when it was read.
func (f *File) Stamp() Stamp { return f.stamp }

// Fault returns why the file is not served, or nil.
func (f *File) Fault() *exposition.SyntaxError { return f.err }

// Flaw returns why a part of the file is not served, or nil.
func (f *File) Flaw() *exposition.SyntaxError { return f.issue }

// WhyBusy returns why newer content cannot be read while the last good content is
// served, or nil.
func (f *File) WhyBusy() *exposition.SyntaxError { return f.busy }

// A Stamp identifies the content of a file without reading it.
type Stamp struct {
	Dev, Ino     uint64
	Size         int64
	Mtime, Ctime int64 // nanoseconds
	Link         int64 // of a symbolic link itself: its ctime
	Young        bool  // taken so soon after the last change that a later change could have the same stamp
}

// SameContent reports whether two stamps show that nothing has changed.
func (s Stamp) SameContent(o Stamp) bool {
	o.Young = s.Young
	return s == o && !s.Young
}

// WithoutLink returns the stamp without the ctime of a symbolic link.
func WithoutLink(s Stamp) Stamp {
	s.Link = 0
	return s
}

// Kind orders the files of a merge.
type Kind uint8

// The kinds.
const (
	PushedKind  Kind = iota
	DroppedKind      // in the spool
	OtherKind        // in another directory; the name is a path
)

// ID is the place of a file in the merge. Successive contents of a file share one
// ID.
type ID struct {
	Kind Kind
	Name string
}

// Compare orders files as the merge does. A nil ID, which is used for the header of
// a family, is first.
func Compare(a, b *ID) int {
	switch {
	case a == b:
		return 0
	case a == nil: // the header of a family comes before its samples
		return -1
	case b == nil:
		return 1
	case a.Kind != b.Kind:
		return int(a.Kind) - int(b.Kind)
	}
	return strings.Compare(a.Name, b.Name)
}

// PrintableName returns a file name for label values and pages: bytes that are not
// UTF-8 are escaped as \xNN.
func PrintableName(name string) string {
	if utf8.ValidString(name) && strings.IndexByte(name, 0) < 0 {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && n == 1 || r == 0 {
			b.WriteString(`\x` + strconv.FormatUint(uint64(name[i])|0x100, 16)[1:])
		} else {
			b.WriteString(name[i : i+n])
		}
		i += n
	}
	return b.String()
}
