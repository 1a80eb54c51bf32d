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

// A lifetime (TTL) starts with the last successful push to a group, or with the last
// change of a dropped file. When it ends the record is still served, and the payload
// is not: see withheld.go.

// A group's own lifetime and its end are attributes of its file:
//
//	# promspool:ttl 1d
//	# promspool:expired 1763628000
const (
	ttlAttribute     = "ttl"
	expiredAttribute = "expired"
)

// Lifetimes configure when files expire and when they are archived and deleted. With
// the zero value only files with a lifetime of their own expire, and nothing is
// moved or deleted.
type Lifetimes struct {
	// Policy sets the lifetimes of groups that have none of their own. The first
	// match counts.
	Policy []Lifetime
	// Retention is how long an expired file stays in the spool before it moves
	// to the archive. Zero means forever.
	Retention time.Duration
	// Archive is the directory of the archive, which must be on the file system of
	// the spool; default [ArchiveName] in the spool.
	Archive string
	// ArchiveRetention is how long a file stays in the archive. Zero means
	// forever.
	ArchiveRetention time.Duration
	// Dropped enables the archiving of dropped files.
	Dropped bool
}

// A Lifetime applies to the groups that the matchers select. Zero means that they
// do not expire.
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

// ParseTTL parses a duration in the syntax of Prometheus: 90s, 1h30m, 1d, 2w, and 0
// for none.
func ParseTTL(s string) (time.Duration, error) {
	d, err := model.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("invalid lifetime %s: want e.g. 90s, 24h, 1d or 2w, or 0 for none", grouping.QuoteShort(s))
	}
	return time.Duration(d), nil
}

// TTL returns the file's own lifetime, and whether it has one. Zero means that it
// does not expire, regardless of the policy.
func (f *File) TTL() (ttl time.Duration, stated bool) {
	text, ok := f.attrs.get(ttlAttribute)
	if !ok {
		return 0, false
	}
	ttl, err := ParseTTL(text)
	return ttl, err == nil
}

// Expired returns when the file expired, or the zero time if it did not.
func (f *File) Expired() time.Time {
	if f.age == nil {
		return time.Time{}
	}
	return unixTime(f.age.Since)
}

// Age describes a file whose lifetime has ended.
type Age struct {
	Since    float64 // Unix time of the end
	withheld string  // of a group: the payload, in the text format
	Pending  bool    // of a group: the end is not recorded in the file yet
}

// ExpiresAt returns when a file that has not expired does, and whether it does at
// all.
func (l *Lifetimes) ExpiresAt(f *File) (time.Time, bool) {
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
			return time.Time{}, false // rejected pushes leave no payload
		}
		if !stated {
			ttl = l.of(f.group)
		}
	}
	return from.Add(ttl), ttl > 0
}

// of returns the lifetime of a group by policy.
func (l *Lifetimes) of(g grouping.Key) time.Duration {
	for i := range l.Policy {
		if l.Policy[i].Match.Match(g) {
			return l.Policy[i].TTL
		}
	}
	return 0
}

// ArchivesAt returns when an expired file moves to the archive, and whether it does.
func (l *Lifetimes) ArchivesAt(f *File) (time.Time, bool) {
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

// Seconds returns the Unix time in seconds.
func Seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
