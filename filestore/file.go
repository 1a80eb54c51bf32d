package filestore

import (
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unique"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// A File is what one file of a spool came to when it was read. It is immutable
// and safe for concurrent use; keep it as long as you like.
type File struct {
	id    *ident
	group Group
	parts []unique.Handle[desc] // by name
	// stored are the families whose HELP text in the file is not the one in parts,
	// which the group asked for; by name. See help.go.
	stored []unique.Handle[desc]
	attrs  attributes // see attributes.go; of a dropped file only its lifetime
	age    *age       // nil while its lifetime lasts

	series   int
	size     int64
	mtime    time.Time
	push     float64 // push_time_seconds
	failure  float64 // push_failure_time_seconds
	stamp    stamp
	hash     uint64       // of the bytes of the file
	err      *SyntaxError // why nothing of it is served
	issue    *SyntaxError // what inside of it gave way
	foreign  bool         // by its owner it is no pushed file, or it is a link
	author   uint32       // who has written it himself, see owner.go
	busy     *SyntaxError // why newer content could not be read for long; the last good one is served
	heldFrom time.Time    // since when it stands for newer content that cannot be served; zero if it does not
}

// Name returns the file's name in the spool.
func (f *File) Name() string { return f.id.name }

// Group returns the group that was pushed into the file; it is zero for a
// dropped file.
func (f *File) Group() Group { return f.group }

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
func (f *File) Problem() *SyntaxError {
	switch {
	case f.err != nil:
		return f.err
	case f.busy != nil:
		return f.busy
	}
	return f.issue
}

// isBusy reports whether the file is named as one that cannot be read because it
// is written to.
func (f *File) isBusy() bool { return f.busy != nil || f.err != nil && f.err.Reason == Busy }

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

// has returns the file's description of the family of that name.
func (f *File) has(name string) (desc, bool) { return findDesc(f.parts, name) }

// findDesc returns the description of the family of that name in a list by name.
func findDesc(list []unique.Handle[desc], name string) (desc, bool) {
	lo, hi := 0, len(list)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		d := list[mid].Value()
		switch n := strings.Compare(d.name, name); {
		case n == 0:
			return d, true
		case n < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return desc{}, false
}

// content is a File together with its text. The text moves into the merge when
// the File does and is not kept here.
type content struct {
	file  *File
	parts []part
	rest  time.Duration // how long the file says that it has to rest before it is read
	fresh bool          // a push that this Store takes

	sameTime  bool // the file keeps its time, which is that of the push
	pretended bool // a dry run: checked, published, and not written
}

// keepTime returns the time that the file is to have; zero if that of its writing.
func (c *content) keepTime() time.Time {
	if c.sameTime {
		return c.file.mtime
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
func newContent(id *ident, parts []part, series int) *content {
	f := &File{id: id, series: series, parts: make([]unique.Handle[desc], len(parts))}
	for i := range parts {
		f.parts[i] = parts[i].desc
		switch parts[i].desc.Value().name {
		case pushTime:
			f.push = firstValue(parts[i].text)
		case failureTime:
			f.failure = firstValue(parts[i].text)
		}
	}
	return &content{file: f, parts: parts}
}

// firstValue returns the value in the first line of canonical text.
func firstValue(text string) float64 {
	line, _, _ := strings.Cut(text, "\n")
	v, _ := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
	return v
}

// parseFile makes the content of a file from its bytes. It always returns one:
// if the bytes cannot be used, its File has an Err.
func parseFile(name string, data []byte) *content { return parseFileOf(name, data, false) }

// parseFileOf is parseFile for a file that, if it is foreign, is not taken for a
// pushed one whatever it says.
func parseFileOf(name string, data []byte, foreign bool) *content {
	c, err := readContent(name, data, foreign)
	if err != nil {
		c = badContent(name, err)
	}
	c.file.foreign = foreign
	c.file.size = int64(len(data))
	c.file.hash = hashOf(data)
	return c
}

// droppedIdent returns the ident of a file that was not pushed.
func droppedIdent(name string) *ident {
	if strings.ContainsRune(name, filepath.Separator) {
		return &ident{otherKind, name}
	}
	return &ident{droppedKind, name}
}

// kindsOf returns what a file of that name may be.
func kindsOf(name string) []kind {
	if strings.ContainsRune(name, filepath.Separator) {
		return otherKinds
	}
	return spoolKinds
}

var (
	spoolKinds = []kind{pushedKind, droppedKind}
	otherKinds = []kind{otherKind}
)

// badContent is the content of a file that cannot be used.
func badContent(name string, err *SyntaxError) *content {
	err.File = name
	return &content{file: &File{id: droppedIdent(name), err: err}}
}

func readContent(name string, data []byte, foreign bool) (*content, *SyntaxError) {
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
var slabs = sync.Pool{New: func() any { return new([]Label) }}

func parsePushedOrDropped(name string, data []byte, foreign bool) (*content, *SyntaxError) {
	slab := slabs.Get().(*[]Label)
	defer slabs.Put(slab)
	// Nothing of the data outlives this call: descriptions and text are copies.
	fams, err := parseWith(slab, unsafe.String(unsafe.SliceData(data), len(data)), fileLimits, true, true)
	if err != nil {
		return nil, err.(*SyntaxError)
	}
	id := droppedIdent(name)
	var group Group
	planted := false
	if d := fams.directives; len(d) > 0 && d[0].key == groupDirective && strings.HasPrefix(string(data[:min(len(data), 64)]), directivePrefix) {
		if g, file, err := parseGroup(d[0].text); err == nil && file == name {
			if planted = foreign; !planted {
				group, id.kind = g, pushedKind
			}
		}
	}
	parts, series, issue, err := canonical(fams, labelling{}, true)
	if err != nil {
		return nil, err.(*SyntaxError)
	}
	var stored []unique.Handle[desc]
	if !group.IsZero() {
		stored = askedHelp(parts, fams.directives)
	}
	c := newContent(id, parts, series)
	c.file.group, c.file.stored = group, stored
	if issue == nil && planted {
		issue = &SyntaxError{Reason: Reserved, Msg: "has the name of a pushed group, but is a link or belongs to somebody who may not push by writing files, and counts as a dropped file"}
	}
	if issue != nil {
		issue.File = name
		c.file.issue = issue
	}
	if group.IsZero() {
		c.file.push, c.file.failure = 0, 0
		for _, a := range attributesFrom(fams.directives) {
			if a.key == ttlAttribute {
				c.file.attrs = c.file.attrs.with(ttlAttribute, strings.TrimSpace(a.value))
			}
		}
		for _, d := range fams.directives {
			if d.key != "settle" {
				continue
			}
			rest, err := time.ParseDuration(strings.TrimSpace(d.text))
			if c.rest = min(rest, maxRest); err != nil && issue == nil {
				c.file.issue = &SyntaxError{File: name, Reason: Syntax, Msg: "the line # promspool:settle names no duration such as 2s"}
			}
		}
	} else {
		c.file.attrs = attributesFrom(fams.directives)
		var err error
		if c.file.age, err = ageFrom(c.file.attrs, withheldFrom(fams.directives)); err != nil && issue == nil {
			c.file.issue = &SyntaxError{File: name, Reason: Syntax, Msg: err.Error()}
		}
	}
	if text, ok := c.file.attrs.get(ttlAttribute); ok && c.file.issue == nil {
		if _, err := ParseTTL(text); err != nil {
			c.file.issue = &SyntaxError{File: name, Reason: Syntax, Msg: "the line # promspool:ttl names no lifetime such as 24h"}
		}
	}
	return c, nil
}

// encode returns the bytes of a pushed file.
func (c *content) encode() []byte {
	size := len(directivePrefix) + len(c.file.group.set) + 16 + c.file.attrs.size()
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		size += 2*len(d.name) + len(d.help) + len(c.parts[i].text) + 40
	}
	b := make([]byte, 0, size)
	b = append(b, directivePrefix+groupDirective+" "...)
	b = append(b, c.file.group.set...)
	b = append(b, '\n')
	b = c.file.attrs.appendTo(b)
	b = c.file.age.appendTo(b)
	b = c.file.appendAsked(b)
	stored := c.file.stored
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		if len(stored) > 0 && stored[0].Value().name == d.name {
			d, stored = stored[0].Value(), stored[1:]
		}
		b = appendHeader(b, d.name, d.help, d.typ)
		b = append(b, c.parts[i].text...)
	}
	return b
}

// appendHeader appends the HELP line, if there is a text, and the TYPE line.
func appendHeader(b []byte, name, help string, t Type) []byte {
	if help != "" {
		b = appendHelpLine(b, name, help)
	}
	b = append(b, "# TYPE "...)
	b = appendName(b, name)
	b = append(b, ' ')
	b = append(b, t.String()...)
	return append(b, '\n')
}

func appendHelpLine(b []byte, name, help string) []byte {
	b = append(b, "# HELP "...)
	b = appendName(b, name)
	b = append(b, ' ')
	b = appendHelp(b, help)
	return append(b, '\n')
}

func appendName(b []byte, name string) []byte {
	if plainName(name) {
		return append(b, name...)
	}
	return appendQuoted(b, name)
}

// appendHelp appends a HELP text with the two escapes it needs.
func appendHelp(b []byte, help string) []byte {
	for {
		i := strings.IndexAny(help, "\\\n")
		if i < 0 {
			return append(b, help...)
		}
		b = append(b, help[:i]...)
		if help[i] == '\n' {
			b = append(b, '\\', 'n')
		} else {
			b = append(b, '\\', '\\')
		}
		help = help[i+1:]
	}
}

func hashOf(data []byte) uint64 { return xxhash.Sum64(data) }

// holds takes note of the bytes of a file.
func (c *content) holds(data []byte) { c.file.size, c.file.hash = int64(len(data)), hashOf(data) }

// stamped gives a file that has just been written its stamp.
func (f *File) stamped(at stamp) { f.stamp, f.mtime = at, time.Unix(0, at.mtime) }

// found notes what was there when a file was read.
func (f *File) found(at stamp, mtime time.Time) {
	f.stamp, f.mtime, f.heldFrom, f.busy = at, mtime, time.Time{}, nil
}

// again returns the content of a file that is the same under another stamp. Its
// parts are those that the merge has.
func (f *File) again() *content {
	same := *f
	return &content{file: &same}
}

// held returns the content of a file that stands since then for what the file holds
// now, and why if that is to be said.
func (f *File) held(since time.Time, busy *SyntaxError) *content {
	c := f.again()
	if busy != nil {
		c.file.busy = busy
	}
	if c.file.heldFrom.IsZero() {
		c.file.heldFrom = since
	}
	return c
}

// unread returns the content of a file that is going to be read whatever it looks
// like.
func (f *File) unread() *content {
	c := f.again()
	c.file.stamp, c.file.hash = stamp{}, 0
	return c
}

// isOf reports whether the file was read from these bytes of that author.
func (f *File) isOf(data []byte, foreign bool, author uint32) bool {
	return f.err == nil && f.foreign == foreign && f.author == author && len(data) > 0 && f.size == int64(len(data)) && f.hash == hashOf(data)
}

// moved gives a file that is not pushed another name.
func (f *File) moved(name string) { f.id = droppedIdent(name) }

// sameIdent gives the file the ident of the one before, so that there is one for
// each file.
func (f *File) sameIdent(before *File) { f.id = before.id }

// ID returns the place of the file in the merge.
func (f *File) ID() *ident { return f.id }

// Descs returns the descriptions of the families in the file, by name. They must not
// be changed.
func (f *File) Descs() []unique.Handle[desc] { return f.parts }

// Stored returns the descriptions of the families whose text in the file is another
// than was asked for.
func (f *File) Stored() []unique.Handle[desc] { return f.stored }

// Attrs returns what is known of the group beside its metrics.
func (f *File) Attrs() attributes { return f.attrs }

// Ended returns what is known of a file whose lifetime has ended, nil if it has not.
func (f *File) Ended() *age { return f.age }

// Pushed and Failed return the Unix times of the last push and the last rejected one;
// 0 is never.
func (f *File) Pushed() float64 { return f.push }

// Failed: see Pushed.
func (f *File) Failed() float64 { return f.failure }

// Stamp returns what the file looked like when it was read.
func (f *File) Stamp() stamp { return f.stamp }

// Fault returns why the file is not served, or nil.
func (f *File) Fault() *SyntaxError { return f.err }

// Flaw returns what inside of the file is not served, or nil.
func (f *File) Flaw() *SyntaxError { return f.issue }

// WhyBusy returns why newer content could not be read for long while the last good
// one is served, or nil.
func (f *File) WhyBusy() *SyntaxError { return f.busy }
