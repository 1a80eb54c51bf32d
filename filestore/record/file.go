// Package record knows what one file of a spool says and what a change makes of it.
// It touches no files: bytes come in and go out.
//
// A [File] is what a file came to when it was read, a [Content] is a File with its
// text. What a push, an amendment or the end of a lifetime makes of a group is a
// function from its old content, the request and the clock to the new content, see
// [Change]. What such a function needs to know of other files it is given.
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

// WithoutYoung returns the stamp without the mark that it proves nothing yet.
func WithoutYoung(s Stamp) Stamp {
	s.Young = false
	return s
}

// A File is what one file of a spool came to when it was read. It is immutable
// and safe for concurrent use; keep it as long as you like.
type File struct {
	id    *ID
	group grouping.Key
	parts []unique.Handle[exposition.Desc] // by name
	// stored are the families whose HELP text in the file is not the one in parts,
	// which the group asked for; by name. See help.go.
	stored []unique.Handle[exposition.Desc]
	extras []extra    // what the text of its parts cannot say, by name; nearly always none
	attrs  Attributes // see attributes.go; of a dropped file only its lifetime
	age    *Age       // nil while its lifetime lasts

	series   int
	size     int64
	mtime    time.Time
	push     float64 // push_time_seconds
	failure  float64 // push_failure_time_seconds
	stamp    Stamp
	hash     uint64                  // of the bytes of the file
	err      *exposition.SyntaxError // why nothing of it is served
	issue    *exposition.SyntaxError // what inside of it gave way
	foreign  bool                    // by its owner it is no pushed file, or it is a link
	author   uint32                  // who has written it himself, see owner.go
	busy     *exposition.SyntaxError // why newer content could not be read for long; the last good one is served
	heldFrom time.Time               // since when it stands for newer content that cannot be served; zero if it does not
}

// Name returns the file's name in the spool.
func (f *File) Name() string { return f.id.Name }

// Group returns the group that was pushed into the file; it is zero for a
// dropped file.
func (f *File) Group() grouping.Key { return f.group }

// Size returns the size in bytes.
func (f *File) Size() int64 { return f.size }

// ModTime returns the time of the last modification.
func (f *File) ModTime() time.Time { return f.mtime }

// Series returns the number of samples in the file, whether or not all of them
// could be merged.
func (f *File) Series() int { return f.series }

// LastPush returns when the group was last pushed to with success, or the zero
// time if that never happened.
func (f *File) LastPush() time.Time { return unixTime(f.push) }

// LastFailure returns when a push to the group was last refused, or the zero
// time if that never happened.
func (f *File) LastFailure() time.Time { return unixTime(f.failure) }

// Err returns why the file is not served, or nil. It is a *SyntaxError.
func (f *File) Err() error {
	if f.err == nil {
		return nil
	}
	return f.err
}

// Problem returns what is wrong with the file taken by itself: why it is not
// served at all, why its newest content is not, or what inside of it gave way;
// nil if nothing. What it
// contradicts in other files is in [View.Conflicts].
func (f *File) Problem() *exposition.SyntaxError {
	switch {
	case f.err != nil:
		return f.err
	case f.busy != nil:
		return f.busy
	}
	return f.issue
}

// IsBusy reports whether the file is named as one that cannot be read because it
// is written to.
func (f *File) IsBusy() bool { return f.busy != nil || f.err != nil && f.err.Reason == exposition.Busy }

// HeldSince returns since when the last good content of the file is served in
// place of what it holds now, because a writer is still at work or has just
// left it broken. It is zero where that is not so.
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

// extra is the Extra of one part. It stands in the File and not in the text of the
// merge, since most readers are not given it.
type extra struct {
	desc unique.Handle[exposition.Desc]
	text string
}

// HasExtras reports whether the text of some family cannot say all.
func (f *File) HasExtras() bool { return len(f.extras) > 0 }

// Extra returns what the text of one of its families cannot say, in comment lines.
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
	Rest  time.Duration // how long the file says that it has to rest before it is read
	Fresh bool          // a push that this Store takes

	sameTime  bool // the file keeps its time, which is that of the push
	Pretended bool // a dry run: checked, published, and not written
}

// KeepTime returns the time that the file is to have; zero if that of its writing.
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

// Parse makes the content of a file from its bytes. It always returns one:
// if the bytes cannot be used, its File has an Err.
func Parse(name string, data []byte) *Content { return ParseAs(name, data, false) }

// ParseAs is parseFile for a file that, if it is foreign, is not taken for a
// pushed one whatever it says.
func ParseAs(name string, data []byte, foreign bool) *Content {
	c, err := readContent(name, data, foreign)
	if err != nil {
		c = Bad(name, err)
	}
	c.File.foreign = foreign
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

// KindsOf returns what a file of that name may be.
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

// Bad is the content of a file that cannot be used.
func Bad(name string, err *exposition.SyntaxError) *Content {
	err.File = name
	return &Content{File: &File{id: droppedIdent(name), err: err}}
}

func readContent(name string, data []byte, foreign bool) (*Content, *exposition.SyntaxError) {
	if !foreign {
		// Nobody writes to the data any more, and the merge copies what it keeps.
		if c, ok := scanPushed(name, unsafe.String(unsafe.SliceData(data), len(data))); ok {
			return c, nil
		}
	}
	return parsePushedOrDropped(name, data, foreign)
}

// maxRest bounds what a file may say about its rest: one that is written more
// often than that would never be read.
const maxRest = time.Minute

// slabs is room for the labels of files that are being read.
var slabs = sync.Pool{New: func() any { return new([]exposition.Label) }}

func parsePushedOrDropped(name string, data []byte, foreign bool) (*Content, *exposition.SyntaxError) {
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
			if planted = foreign; !planted {
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
		issue = &exposition.SyntaxError{Reason: exposition.Reserved, Msg: "has the name of a pushed group, but is a link or belongs to somebody who may not push by writing files, and counts as a dropped file"}
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

// Holds takes note of the bytes of a file.
func (c *Content) Holds(data []byte) { c.File.size, c.File.hash = int64(len(data)), hashOf(data) }

// Stamped gives a file that has just been written its stamp.
func (f *File) Stamped(at Stamp) { f.stamp, f.mtime = at, time.Unix(0, at.Mtime) }

// Found notes what was there when a file was read.
func (f *File) Found(at Stamp, mtime time.Time) {
	f.stamp, f.mtime, f.heldFrom, f.busy = at, mtime, time.Time{}, nil
}

// Again returns the content of a file that is the same under another stamp. Its
// parts are those that the merge has.
func (f *File) Again() *Content {
	same := *f
	return &Content{File: &same}
}

// Held returns the content of a file that stands since then for what the file holds
// now, and why if that is to be said.
func (f *File) Held(since time.Time, busy *exposition.SyntaxError) *Content {
	c := f.Again()
	if busy != nil {
		c.File.busy = busy
	}
	if c.File.heldFrom.IsZero() {
		c.File.heldFrom = since
	}
	return c
}

// Unread returns the content of a file that is going to be read whatever it looks
// like.
func (f *File) Unread() *Content {
	c := f.Again()
	c.File.stamp, c.File.hash = Stamp{}, 0
	return c
}

// IsOf reports whether the file was read from these bytes of that author.
func (f *File) IsOf(data []byte, foreign bool, author uint32) bool {
	return f.err == nil && f.issue == nil && f.foreign == foreign && f.author == author && len(data) > 0 && f.size == int64(len(data)) && f.hash == hashOf(data)
}

// SetPublic states that everybody may read the file with this content, so that
// messages about it may quote it.
func (f *File) SetPublic(data []byte) {
	for _, e := range []*exposition.SyntaxError{f.err, f.issue} {
		if e != nil {
			e.SetPublic(data)
		}
	}
}

// Moved gives a file that is not pushed another name.
func (f *File) Moved(name string) { f.id = droppedIdent(name) }

// SameIdent gives the file the ident of the one before, so that there is one for
// each file.
func (f *File) SameIdent(before *File) { f.id = before.id }

// ID returns the place of the file in the merge.
func (f *File) ID() *ID { return f.id }

// Descs returns the descriptions of the families in the file, by name. They must not
// be changed.
func (f *File) Descs() []unique.Handle[exposition.Desc] { return f.parts }

// Stored returns the descriptions of the families whose text in the file is another
// than was asked for.
func (f *File) Stored() []unique.Handle[exposition.Desc] { return f.stored }

// Attrs returns what is known of the group beside its metrics.
func (f *File) Attrs() Attributes { return f.attrs }

// Ended returns what is known of a file whose lifetime has ended, nil if it has not.
func (f *File) Ended() *Age { return f.age }

// Pushed returns the Unix time of the last push; 0 is never.
func (f *File) Pushed() float64 { return f.push }

// Failed returns the Unix time of the last push that was rejected; 0 is never.
func (f *File) Failed() float64 { return f.failure }

// Stamp returns what the file looked like when it was read.
func (f *File) Stamp() Stamp { return f.stamp }

// Fault returns why the file is not served, or nil.
func (f *File) Fault() *exposition.SyntaxError { return f.err }

// Flaw returns what inside of the file is not served, or nil.
func (f *File) Flaw() *exposition.SyntaxError { return f.issue }

// WhyBusy returns why newer content could not be read for long while the last good
// one is served, or nil.
func (f *File) WhyBusy() *exposition.SyntaxError { return f.busy }

// A Stamp tells one content of a file from another without reading it.
type Stamp struct {
	Dev, Ino     uint64
	Size         int64
	Mtime, Ctime int64 // nanoseconds
	Link         int64 // of a symbolic link itself: its ctime
	Young        bool  // taken so soon after the change that another one could look the same
}

// SameContent reports whether two stamps show that nothing has changed.
func (s Stamp) SameContent(o Stamp) bool {
	o.Young = s.Young
	return s == o && !s.Young
}

// WithoutLink returns the stamp without what it says of a symbolic link.
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

// ID is the place of a file in the merge. One is made when a file is first
// seen and shared by all that follows it under the same name and kind.
type ID struct {
	Kind Kind
	Name string
}

// Compare orders files as the merge does. A nil ID, which stands for the header of a
// family, is first.
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

// PrintableName returns a file name as it stands in label values and on pages:
// bytes that are not UTF-8 are written \xNN.
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
