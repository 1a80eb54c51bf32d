package filestore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// calendar is a clock that the test sets.
type calendar struct{ time.Time }

func (c *calendar) now() time.Time       { return c.Time }
func (c *calendar) pass(d time.Duration) { c.Time = c.Add(d) }
func newCalendar() *calendar             { return &calendar{time.Unix(1763628000, 0)} }
func ttl(d time.Duration) *time.Duration { return &d }
func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

// expire runs Expire and returns its steps.
func expire(t testing.TB, s *filestore.Store) string {
	t.Helper()
	var b strings.Builder
	must(t, s.Expire(t.Context(), func(a filestore.ExpiryEvent) { fmt.Fprintf(&b, "%s %s\n", a.Stage, a.File) }))
	return b.String()
}

const expiredFile = `# promspool:group {job="j"}
# promspool:expired 1763631600
# promspool:ttl 1h
# promspool:withheld # HELP m Some \\ text.
# promspool:withheld # TYPE m gauge
# promspool:withheld m{job="j",x="\\\n"} 1
# HELP promspool_group_expired 1 for a group past its lifetime, of which only the push times are served.
# TYPE promspool_group_expired gauge
promspool_group_expired{job="j"} 1
# HELP push_failure_time_seconds Last Unix time when changing this group in the spool failed.
# TYPE push_failure_time_seconds gauge
push_failure_time_seconds{job="j"} 0
# HELP push_time_seconds Last Unix time when changing this group in the spool succeeded.
# TYPE push_time_seconds gauge
push_time_seconds{job="j"} 1.763628e+09
`

func TestExpireAndRestoreGroup(t *testing.T) {
	dir, c := t.TempDir(), newCalendar()
	opts := &filestore.Options{Now: c.now}
	s := open(t, dir, opts)
	g := group(t, "job", "j")
	path := filepath.Join(dir, g.FileName())
	must(t, s.Replace(g, families(t, "# HELP m Some \\\\ text.\n# TYPE m gauge\nm{x=\"\\\\\\n\"} 1\n"), record.PushOptions{TTL: ttl(time.Hour)}))
	must(t, s.Replace(group(t, "job", "k"), families(t, "# TYPE m gauge\nm 2\n"), record.PushOptions{}))
	alive, pushed := read(t, path), c.Time
	must(t, os.Chtimes(path, pushed, pushed))
	_, err := s.Rescan()
	must(t, err)

	c.pass(time.Hour - time.Second)
	if did := expire(t, s); did != "" {
		t.Errorf("before the end: %s", did)
	}
	c.pass(time.Second)
	again := open(t, dir, opts) // the payload is excluded although the file still has it
	if text := string(again.View().AppendTo(nil)); strings.Contains(text, `x="`) || !strings.Contains(text, `promspool_group_expired{job="j"} 1`) {
		t.Errorf("after a start:\n%s", text)
	}
	if read(t, path) != alive {
		t.Error("the start has changed the file")
	}
	if did := expire(t, s); did != "withheld job=j.prom\n" {
		t.Errorf("Expire did %q", did)
	}
	if diff := cmp.Diff(expiredFile, read(t, path)); diff != "" {
		t.Errorf("the file (-want +got):\n%s", diff)
	}
	f := s.View().File(g.FileName())
	if !f.ModTime().Equal(pushed) || !f.LastPush().Equal(pushed) || !f.Expired().Equal(c.Time) || s.View().Totals().Expired != 1 {
		t.Errorf("mtime %v, push %v, expired %v, want %v, %v, %v", f.ModTime(), f.LastPush(), f.Expired(), pushed, pushed, c.Time)
	}
	if did := expire(t, s); did != "" {
		t.Errorf("a second time: %s", did)
	}
	checkPure(t, s, dir, opts)

	// A rejected push keeps the withheld payload.
	must(t, s.Fail(g))
	if got := read(t, path); !strings.Contains(got, "# promspool:withheld m{") || !strings.Contains(got, "\npromspool_group_expired{") {
		t.Errorf("after a failure:\n%s", got)
	}
	c.pass(time.Minute)
	must(t, s.Restore(g))
	f = s.View().File(g.FileName())
	if got := read(t, path); strings.Contains(got, "withheld") || strings.Contains(got, "expired") || !strings.Contains(got, "\nm{job=\"j\",x=\"\\\\\\n\"} 1\n") {
		t.Errorf("after Restore:\n%s", got)
	}
	if !f.LastPush().Equal(pushed) || !f.Expired().IsZero() || f.LastFailure().IsZero() {
		t.Errorf("after Restore: push %v, failure %v, expired %v", f.LastPush(), f.LastFailure(), f.Expired())
	}
	c.pass(1000 * time.Hour)
	if did := expire(t, s); did != "" {
		t.Errorf("the restored group expires: %s", did)
	}
	if err := s.Restore(g); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Restore of a group that has not expired = %v", err)
	}
	checkPure(t, s, dir, opts)
}

func TestPushesToAnExpiredGroup(t *testing.T) {
	dir, c := t.TempDir(), newCalendar()
	opts := &filestore.Options{Now: c.now}
	s := open(t, dir, opts)
	g := group(t, "job", "j")
	die := func() {
		t.Helper()
		must(t, s.Replace(g, families(t, "a 1\nb 1\n# TYPE n counter\nn 5\n"), record.PushOptions{TTL: ttl(time.Hour)}))
		c.pass(time.Hour)
		expire(t, s)
		want(t, s, "promspool_group_expired{job=\"j\"} 1\n")
	}
	die()
	must(t, s.Update(g, families(t, "a 2\n"), record.PushOptions{}))
	want(t, s, "a{job=\"j\"} 2\n") // b was not pushed again
	if d, ok := s.View().File(g.FileName()).TTL(); d != time.Hour || !ok {
		t.Errorf("after POST the lifetime is %v, %v", d, ok)
	}
	die()
	must(t, s.Update(g, families(t, "# TYPE n counter\nn 2\n"), record.PushOptions{Accumulate: true, TTL: ttl(0)}))
	want(t, s, "n{job=\"j\"} 7\n")
	c.pass(1000 * time.Hour)
	if did := expire(t, s); did != "" {
		t.Errorf("without a lifetime: %s", did)
	}
	die()
	must(t, s.Replace(g, families(t, "a 2\n"), record.PushOptions{}))
	if _, ok := s.View().File(g.FileName()).TTL(); ok {
		t.Error("PUT keeps the lifetime")
	}
	die()
	must(t, s.Amend(g, func(*record.Held) (*record.Edit, error) { return &record.Edit{Put: families(t, "a 3\n")}, nil }))
	want(t, s, "a{job=\"j\"} 3\n")
	die()
	must(t, s.Delete(g))
	checkPure(t, s, dir, opts)
}

func TestLifetimePolicy(t *testing.T) {
	dir, c := t.TempDir(), newCalendar()
	opts := &filestore.Options{Now: c.now}
	for _, rule := range []string{`{job="keep"}=0`, `job=~"ci_.+"=1h`, `job!=""=1d`} {
		l, err := record.ParseLifetime(rule)
		must(t, err)
		opts.Lifetimes.Policy = append(opts.Lifetimes.Policy, l)
	}
	s := open(t, dir, opts)
	for _, job := range []string{"keep", "ci_1", "other", "own"} {
		o := record.PushOptions{}
		if job == "own" {
			o.TTL = ttl(48 * time.Hour)
		}
		must(t, s.Replace(group(t, "job", job), families(t, "m 1\n"), o))
	}
	must(t, s.Fail(group(t, "job", "failed")))
	var plan []string
	for _, a := range s.ExpirySchedule() {
		plan = append(plan, fmt.Sprint(a.File, " ", a.Since.Sub(c.Time)))
	}
	if diff := cmp.Diff([]string{"job=ci_1.prom 1h0m0s", "job=other.prom 24h0m0s", "job=own.prom 48h0m0s"}, plan); diff != "" {
		t.Errorf("ExpirySchedule (-want +got):\n%s", diff)
	}
	c.pass(24 * time.Hour)
	expire(t, s)
	want(t, s, "m{job=\"keep\"} 1\nm{job=\"own\"} 1\npromspool_group_expired{job=\"ci_1\"} 1\npromspool_group_expired{job=\"other\"} 1\n")
	checkPure(t, s, dir, opts)
	for _, bad := range []string{"", "1h", `{job="x"}`, `{job="x"}=`, `{job="x"}=1`, `{}=1h`, `=1h`, `{job="x"=1h`} {
		if l, err := record.ParseLifetime(bad); err == nil {
			t.Errorf("ParseLifetime(%q) = %v", bad, l)
		}
	}
}

func TestDroppedFileExpires(t *testing.T) {
	dir, c := t.TempDir(), newCalendar()
	opts := &filestore.Options{Now: c.now, Hold: time.Nanosecond}
	s := open(t, dir, opts)
	path := filepath.Join(dir, "d.prom")
	write := func(path string) {
		t.Helper()
		must(t, os.WriteFile(path, []byte("# promspool:ttl 1h\n"+filepath.Base(path)[:1]+" 1\n"), 0o644))
		must(t, os.Chtimes(path, c.Time, c.Time))
		_, err := s.Rescan()
		must(t, err)
	}
	write(path)
	want(t, s, "d 1\n")
	c.pass(time.Hour)
	if did := expire(t, s); did != "withheld d.prom\n" {
		t.Errorf("Expire did %q", did)
	}
	want(t, s, "")
	if text := string(s.View().AppendTo(nil)); !strings.Contains(text, `promspool_file_error{file="d.prom",reason="expired"} 1`) || !strings.Contains(text, `promspool_file_mtime_seconds{file="d.prom"} 1.763628e+09`) {
		t.Errorf("the view has\n%s", text)
	}
	if read(t, path) != "# promspool:ttl 1h\nd 1\n" {
		t.Error("a dropped file has changed")
	}
	again := open(t, dir, opts)
	want(t, again, "")
	write(path) // same content, newer mtime
	want(t, s, "d 1\n")

	// Files of other directories expire as well.
	beside := t.TempDir()
	write(filepath.Join(beside, "e.prom"))
	more, err := filestore.Open(t.TempDir(), opts)
	must(t, err)
	defer more.Close()
	_, err = more.AddSource(beside).Rescan()
	must(t, err)
	want(t, more, "e 1\n")
	c.pass(time.Hour)
	expire(t, more)
	want(t, more, "")
	must(t, os.WriteFile(path, []byte("# promspool:ttl soon\nd 1\n"), 0o644))
	_, err = s.Rescan()
	must(t, err)
	want(t, s, "d 1\n")
	if p := s.View().File("d.prom").Problem(); p == nil || p.Reason != exposition.Syntax {
		t.Errorf("Problem = %v", p)
	}
}

func TestArchive(t *testing.T) {
	dir, c := t.TempDir(), newCalendar()
	opts := &filestore.Options{Now: c.now, Lifetimes: record.Lifetimes{Retention: 24 * time.Hour, ArchiveRetention: 48 * time.Hour}}
	s := open(t, dir, opts)
	g := group(t, "job", "j")
	must(t, s.Replace(g, families(t, "m 1\n"), record.PushOptions{TTL: ttl(time.Hour)}))
	must(t, os.WriteFile(filepath.Join(dir, "d.prom"), []byte("# promspool:ttl 1h\nd 1\n"), 0o644))
	must(t, os.Chtimes(filepath.Join(dir, "d.prom"), c.Time, c.Time))
	_, err := s.Rescan()
	must(t, err)
	pushed := c.Time
	c.pass(25*time.Hour - 1)
	if did := expire(t, s); !strings.Contains(did, "withheld job=j.prom\n") || strings.Contains(did, "archived") {
		t.Errorf("Expire did %q", did)
	}
	c.pass(1)
	if did := expire(t, s); did != "archived job=j.prom\n" {
		t.Errorf("Expire did %q", did)
	}
	if s.View().File(g.FileName()) != nil || s.View().File("d.prom") == nil {
		t.Error("the wrong file has left the view")
	}
	checkPure(t, s, dir, opts)
	names := func() (list []string) {
		archive, err := s.Archive()
		must(t, err)
		for _, a := range archive {
			list = append(list, a.File+" "+a.Since.Format(time.RFC3339))
		}
		return list
	}
	if diff := cmp.Diff([]string{"job=j.prom 2025-11-21T09:40:00Z"}, names()); diff != "" {
		t.Errorf("the archive (-want +got):\n%s", diff)
	}

	must(t, s.Replace(g, families(t, "m 2\n"), record.PushOptions{}))
	if err := s.RestoreArchived(g.FileName()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("RestoreArchived over a group = %v", err)
	}
	must(t, s.Replace(g, families(t, ""), record.PushOptions{}))
	must(t, s.Delete(g))
	must(t, s.RestoreArchived(g.FileName()))
	want(t, s, "m{job=\"j\"} 1\n")
	if f := s.View().File(g.FileName()); !f.LastPush().Equal(pushed) {
		t.Errorf("restored with a push time of %v, want %v", f.LastPush(), pushed)
	}
	if err := s.RestoreArchived(g.FileName()); !errors.Is(err, fs.ErrNotExist) || len(names()) != 0 {
		t.Errorf("RestoreArchived a second time = %v, with %v in the archive", err, names())
	}
	checkPure(t, s, dir, opts)

	// Dropped files need an option. The archive has a retention.
	opts.Lifetimes.Dropped = true
	s = open(t, dir, opts)
	if did := expire(t, s); did != "archived d.prom\n" {
		t.Errorf("Expire did %q", did)
	}
	must(t, s.RestoreArchived("d.prom"))
	want(t, s, "d 1\nm{job=\"j\"} 1\n")
	c.pass(25 * time.Hour)
	if did := expire(t, s); did != "withheld d.prom\narchived d.prom\n" {
		t.Errorf("Expire did %q", did)
	}
	c.pass(48 * time.Hour)
	if did := expire(t, s); !strings.HasPrefix(did, "removed d.prom.2025") || len(names()) != 0 {
		t.Errorf("Expire did %q", did)
	}
}

// TestArchiveFollowsNoLinks replaces the archive with a link, as a user who may write the
// spool can. No file may be moved, deleted or restored through it. Pipes and links in
// the archive must not block or redirect a restore either.
func TestArchiveFollowsNoLinks(t *testing.T) {
	top, c := t.TempDir(), newCalendar()
	dir, outside := filepath.Join(top, "spool"), filepath.Join(top, "outside")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Mkdir(outside, 0o755))
	archive, elsewhere := filepath.Join(dir, filestore.ArchiveName), filepath.Join(outside, "job=o.prom.20200101T000000Z")
	must(t, os.WriteFile(elsewhere, []byte("# promspool:group {job=\"o\"}\no{job=\"o\"} 1\n"), 0o644))
	must(t, os.Symlink(outside, archive))
	opts := &filestore.Options{Now: c.now, Lifetimes: record.Lifetimes{Retention: time.Hour, ArchiveRetention: time.Hour}}
	s := open(t, dir, opts)
	must(t, s.Replace(group(t, "job", "j"), families(t, "m 1\n"), record.PushOptions{TTL: ttl(time.Hour)}))
	c.pass(24 * time.Hour)
	if err := s.Expire(t.Context(), func(filestore.ExpiryEvent) {}); err == nil || !strings.Contains(err.Error(), "is a link or not a directory: delete it") {
		t.Errorf("Expire = %v", err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(elsewhere) {
		t.Errorf("outside of the spool there is now %v (%v)", entries, err)
	}
	if list, err := s.Archive(); err == nil || len(list) != 0 {
		t.Errorf("Archive = %v, %v", list, err)
	}
	if err := s.RestoreArchived("job=o.prom"); err == nil || s.View().File("job=o.prom") != nil {
		t.Errorf("RestoreArchived over a link = %v", err)
	}

	must(t, os.Remove(archive))
	must(t, os.Mkdir(archive, 0o755))
	must(t, unix.Mkfifo(filepath.Join(archive, "job=f.prom.20200101T000000Z"), 0o644))
	if err := s.RestoreArchived("job=f.prom"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("RestoreArchived of a pipe = %v", err)
	}
	must(t, os.Symlink(elsewhere, filepath.Join(archive, "job=o.prom.20200101T000000Z")))
	before, err := os.Stat(elsewhere)
	must(t, err)
	_ = s.RestoreArchived("job=o.prom")
	if f := s.View().File("job=o.prom"); f != nil && !f.Group().IsZero() {
		t.Error("the target of a link in the archive is read as a pushed file")
	}
	if after, err := os.Stat(elsewhere); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the target of a link has changed or is missing: %v", err)
	}
	_ = os.Remove(filepath.Join(dir, "job=o.prom")) // the comparison at the end does not support links
	_, err = s.Rescan()
	must(t, err)
}

func TestArchiveOnAnotherFileSystem(t *testing.T) {
	dir, c := t.TempDir(), newCalendar()
	opts := &filestore.Options{Now: c.now, Lifetimes: record.Lifetimes{Retention: time.Hour, Archive: dir}}
	s := open(t, dir, opts)
	must(t, s.Replace(group(t, "job", "j"), families(t, "m 1\n"), record.PushOptions{TTL: ttl(time.Hour)}))
	c.pass(24 * time.Hour)
	var errs []error
	err := s.Expire(t.Context(), func(a filestore.ExpiryEvent) {
		if a.Err != nil {
			errs = append(errs, a.Err)
		}
	})
	if len(errs) != 1 || err == nil || s.View().File("job=j.prom") == nil {
		t.Errorf("Expire = %v, reported %v", err, errs)
	}
}

func TestAccumulate(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &filestore.Options{Now: newCalendar().now})
	g := group(t, "job", "j")
	opts := record.PushOptions{Accumulate: true}
	const histogram = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n"
	const text = "# TYPE c counter\nc{x=\"1\"} 1\nc{x=\"2\"} 0.5\n# TYPE g gauge\ng 7\n" + histogram + "# TYPE s summary\ns_sum 1\ns_count 1\nu 3\n"
	for range 3 {
		must(t, s.Update(g, families(t, text), opts))
	}
	must(t, s.Update(g, families(t, "# TYPE c counter\nc{x=\"2\"} 1\nc{x=\"3\"} 1\n# TYPE g gauge\ng{x=\"1\"} 8\n# TYPE h histogram\nh_bucket{le=\"1\",x=\"1\"} 1\nh_count{x=\"1\"} 1\nh_sum{x=\"1\"} 1\n"), opts))
	const held = `c{job="j",x="1"} 3
c{job="j",x="2"} 2.5
c{job="j",x="3"} 1
g{job="j",x="1"} 8
h_bucket{job="j",x="1",le="1"} 1
h_bucket{job="j",x="1",le="+Inf"} 1
h_sum{job="j",x="1"} 1
h_count{job="j",x="1"} 1
h_bucket{job="j",le="1"} 3
h_bucket{job="j",le="+Inf"} 6
h_sum{job="j"} 10.5
h_count{job="j"} 6
s_sum{job="j"} 3
s_count{job="j"} 3
u{job="j"} 3
`
	want(t, s, held)
	for name, bad := range map[string]string{
		"quantiles":       "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n",
		"new quantiles":   "# TYPE q summary\nq{quantile=\"0.5\"} 1\n",
		"other buckets":   "# TYPE h histogram\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n",
		"another type":    "# TYPE c gauge\nc 1\n",
		"gauge to counts": "# TYPE g counter\ng 1\n",
		"a negative one":  "# TYPE c counter\nc{x=\"1\"} -1\n",
		"no number":       "# TYPE c counter\nc{x=\"1\"} NaN\n",
		"an infinite one": "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum +Inf\nh_count 2\n",
	} {
		t.Run(name, func(t *testing.T) {
			err := s.Update(g, families(t, "# TYPE c2 counter\nc2 1\n"+bad), opts)
			var conflict *record.Conflict
			var syntax *exposition.SyntaxError
			if !errors.As(err, &conflict) && !errors.As(err, &syntax) {
				t.Errorf("Update = %v, want that it is rejected", err)
			}
			want(t, s, held)
		})
	}
	const large = "# TYPE a counter\na 1e+308\n"
	must(t, s.Update(g, families(t, large), opts))
	if err := s.Update(g, families(t, large), opts); err == nil || !strings.Contains(err.Error(), "not finite") {
		t.Errorf("Update beyond the maximum number = %v, want that it is rejected", err)
	}
	want(t, s, "a{job=\"j\"} 1e+308\n"+held)
	checkPure(t, s, dir, nil)
}

// TestExpiryKeepsJobRecord expects that the metrics that promspool records for a job stay
// when the payload expires.
func TestExpiryKeepsJobRecord(t *testing.T) {
	dir, c := t.TempDir(), newCalendar()
	opts := &filestore.Options{Now: c.now}
	s := open(t, dir, opts)
	g := group(t, "job", "j")
	must(t, s.Replace(g, families(t, "m 1\n"), record.PushOptions{TTL: ttl(time.Hour)}))
	must(t, s.Amend(g, func(*record.Held) (*record.Edit, error) {
		return &record.Edit{Put: families(t, "promspool_job_runs 1\n"), Attributes: map[string][]string{record.RecordAttribute: {"x"}}}, nil
	}))
	c.pass(time.Hour)
	expire(t, s)
	want(t, s, "promspool_group_expired{job=\"j\"} 1\npromspool_job_runs{job=\"j\"} 1\n")
	must(t, s.Restore(g))
	want(t, s, "m{job=\"j\"} 1\npromspool_job_runs{job=\"j\"} 1\n")
}
