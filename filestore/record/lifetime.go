package record

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/grouping"
)

// A lifetime says for how long what was pushed, or dropped, is news. It counts
// from the last push to a group that succeeded, or from the last change of a
// dropped file. When it has ended the payload is withheld and the record stays,
// see withheld.go.

// A group's own lifetime, and when it ended, are attributes of its file:
//
//	# promspool:ttl 1d
//	# promspool:expired 1763628000
const (
	ttlAttribute     = "ttl"
	expiredAttribute = "expired"
)

// Lifetimes say when what is in a spool is withheld, and what comes after. With
// the zero value only what states a lifetime itself is withheld, and nothing is
// ever moved or removed.
type Lifetimes struct {
	// Policy gives lifetimes to groups that state none themselves. The first
	// that matches counts.
	Policy []Lifetime
	// Retention is for how long a file stays in the spool after its lifetime;
	// then it moves to the archive. Zero means for ever.
	Retention time.Duration
	// Archive is the directory of the archive, on the file system of the spool;
	// default [ArchiveName] in the spool.
	Archive string
	// ArchiveRetention is for how long a file stays in the archive; zero means
	// for ever.
	ArchiveRetention time.Duration
	// Dropped moves dropped files as well. Otherwise they stay where they are.
	Dropped bool
}

// A Lifetime is that of the groups that the matchers select. Zero means that it
// does not end.
type Lifetime struct {
	Match grouping.Matchers
	TTL   time.Duration
}

// ParseLifetime reads MATCHER=TTL, such as {job=~"ci_.+"}=7d.
func ParseLifetime(s string) (Lifetime, error) {
	i := strings.LastIndexByte(s, '=')
	if i < 0 {
		return Lifetime{}, fmt.Errorf(`%q is not MATCHER=TTL, such as {job=~"ci_.+"}=7d`, s)
	}
	ttl, err := ParseTTL(strings.TrimSpace(s[i+1:]))
	if err != nil {
		return Lifetime{}, err
	}
	match, err := grouping.ParseMatchers(s[:i])
	return Lifetime{match, ttl}, err
}

// ParseTTL reads a duration as Prometheus has them: 90s, 1h30m, 1d, 2w, and 0
// for none.
func ParseTTL(s string) (time.Duration, error) {
	d, err := model.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%s is no lifetime such as 90s, 24h, 1d or 2w, or 0 for none", grouping.QuoteShort(s))
	}
	return time.Duration(d), nil
}

// TTL returns the lifetime that the file states itself, and whether it does.
// Zero means that it does not end, whatever the policy says.
func (f *File) TTL() (ttl time.Duration, stated bool) {
	text, ok := f.attrs.get(ttlAttribute)
	if !ok {
		return 0, false
	}
	ttl, err := ParseTTL(text)
	return ttl, err == nil
}

// Expired returns when the lifetime of the file ended, or the zero time if it
// did not.
func (f *File) Expired() time.Time {
	if f.age == nil {
		return time.Time{}
	}
	return unixTime(f.age.Since)
}

// Age is that of a file whose lifetime has ended.
type Age struct {
	Since    float64 // Unix time of that
	withheld string  // of a group: what is withheld, in the text format
	Pending  bool    // of a group: the file does not say so yet
}

// Dies returns when the lifetime of a file that is served ends, and whether it
// does.
func (l *Lifetimes) Dies(f *File) (time.Time, bool) {
	if f.age != nil || f.err != nil {
		return time.Time{}, false
	}
	from, ttl := f.mtime, time.Duration(0)
	stated := false
	if len(f.attrs) > 0 {
		ttl, stated = f.TTL()
	}
	if !f.group.IsZero() {
		if from = f.LastPush(); from.IsZero() {
			return time.Time{}, false // refused pushes alone leave nothing that could age
		}
		if !stated {
			ttl = l.of(f.group)
		}
	}
	return from.Add(ttl), ttl > 0
}

// of returns what the policy has for a group.
func (l *Lifetimes) of(g grouping.Key) time.Duration {
	for i := range l.Policy {
		if l.Policy[i].Match.Match(g) {
			return l.Policy[i].TTL
		}
	}
	return 0
}

// Leaves returns when an expired file is to leave the spool, and whether it is.
func (l *Lifetimes) Leaves(f *File) (time.Time, bool) {
	if l.Retention <= 0 || f.age == nil || f.age.Pending || f.age.Since <= 0 || f.id.Kind == OtherKind ||
		f.group.IsZero() && !l.Dropped {
		return time.Time{}, false
	}
	return unixTime(f.age.Since).Add(l.Retention), true
}

func formatTime(seconds float64) string { return strconv.FormatFloat(seconds, 'f', -1, 64) }

func parseTime(s string) (float64, bool) {
	t, err := strconv.ParseFloat(s, 64)
	return t, err == nil && t > 0 && !math.IsInf(t, 0)
}

// Seconds returns a time as Unix time.
func Seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
