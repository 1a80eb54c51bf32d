package job_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/ingest/job"
)

var day = time.Unix(1_790_000_000, 0)

// at returns a time so many seconds later.
func at(s float64) time.Time { return day.Add(time.Duration(s * float64(time.Second))) }

// A bench is a spool with one job.
type bench struct {
	*testing.T
	dir   string
	store *filestore.Store
	group grouping.Key
}

func newBench(t *testing.T) *bench {
	t.Helper()
	g, err := grouping.New(exposition.Label{Name: "job", Value: "a"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := filestore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &bench{t, dir, s, g}
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) file() *record.File { return b.store.View().File(b.group.FileName()) }

// record returns what the record says, without headers, prefix and job, times as
// seconds since day.
func (b *bench) record() string {
	b.Helper()
	var out strings.Builder
	for _, f := range b.store.View().Families(b.file()) {
		name, ok := strings.CutPrefix(f.Name, record.RecordPrefix)
		if !ok {
			continue
		}
		for _, m := range f.Metrics {
			what := name
			for _, l := range m.Labels {
				if l.Name != "job" {
					what += " " + l.Value
				}
			}
			if m.Value == 0 && name == "runs_total" {
				continue
			}
			v := m.Value
			if strings.HasSuffix(name, "timestamp_seconds") && v != 0 {
				v -= float64(day.Unix())
			}
			fmt.Fprintf(&out, "%s %v\n", strings.NewReplacer("_timestamp_seconds", "", "_seconds", "", "_total", "").Replace(what), v)
		}
	}
	return out.String()
}

func (b *bench) is(want string) {
	b.Helper()
	want = strings.TrimPrefix(regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(want, ""), "\n")
	if diff := cmp.Diff(want, b.record()); diff != "" {
		b.Errorf("the record (-want +got):\n%s", diff)
	}
}

func (b *bench) begin(s job.Start) { b.Helper(); b.must(job.Begin(b.store, b.group, s)) }
func (b *bench) finish(e job.End)  { b.Helper(); b.must(job.Finish(b.store, b.group, e)) }

func TestLifeOfAJob(t *testing.T) {
	b := newBench(t)
	b.must(job.Declare(b.store, b.group, at(0), job.Expectation{Every: time.Hour, Grace: time.Minute, MaxRuntime: 30 * time.Second}))
	b.is(`
		end 0
		max_runtime 30
		next_due 3660
		running 0
		start 0
		success 0
	`)
	// To declare it once more moves nothing.
	b.must(job.Declare(b.store, b.group, at(50), job.Expectation{Every: time.Hour, Grace: 2 * time.Minute}))
	b.is(`
		end 0
		next_due 3720
		running 0
		start 0
		success 0
	`)
	// Another interval counts from its declaration.
	b.must(job.Declare(b.store, b.group, at(60), job.Expectation{Every: time.Minute}))
	b.is(`
		end 0
		next_due 120
		running 0
		start 0
		success 0
	`)
	b.must(job.Declare(b.store, b.group, at(70), job.Expectation{Every: time.Hour, Grace: 2 * time.Minute}))
	b.is(`
		end 0
		next_due 3790
		running 0
		start 0
		success 0
	`)
	b.begin(job.Start{ID: "1", At: at(100)})
	b.is(`
		end 0
		next_due 3820
		running 1
		start 100
		success 0
	`)
	b.finish(job.End{ID: "1", At: at(110), Took: 9500 * time.Millisecond, Outcome: job.Success, Usage: &job.Usage{User: 2 * time.Second, System: time.Second, MaxResident: 4096}})
	b.is(`
		cpu system 1
		cpu user 2
		duration 9.5
		end 110
		exit_code 0
		max_resident_memory_bytes 4096
		next_due 3820
		running 0
		runs success 1
		start 100
		success 110
	`)
	b.begin(job.Start{ID: "2", At: at(200), Expect: &job.Expectation{}})
	b.finish(job.End{ID: "2", At: at(220), Took: -1, Outcome: job.Failure, ExitCode: 3})
	b.must(job.Skip(b.store, b.group, at(230)))
	b.finish(job.End{ID: "unheard of", At: at(300), Took: 10 * time.Second, Outcome: job.Timeout, ExitCode: 124})
	b.is(`
		duration 10
		end 300
		exit_code 124
		running 0
		runs failure 1
		runs skipped 1
		runs success 1
		runs timeout 1
		start 290
		success 110
	`)
}

func TestEachOutcomeIsThereFromTheStart(t *testing.T) {
	b := newBench(t)
	b.must(job.Declare(b.store, b.group, at(0), job.Expectation{}))
	text := string(b.store.View().AppendTo(nil))
	for _, o := range job.Outcomes {
		if want := fmt.Sprintf("promspool_job_runs_total{job=\"a\",outcome=%q} 0\n", o); !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if !strings.Contains(text, "# TYPE promspool_job_runs_total counter\n") {
		t.Errorf("runs are not a counter:\n%s", text)
	}
}

// TestTextsAreFrozen keeps the texts as they were released: commands of different
// versions write one spool, none of them reads what the others have written, and
// node_exporter loses a family with two texts.
func TestTextsAreFrozen(t *testing.T) {
	b := newBench(t)
	b.must(job.Declare(b.store, b.group, at(0), job.Expectation{Every: time.Hour, MaxRuntime: time.Hour}))
	b.finish(job.End{At: at(1), Outcome: job.Success, Usage: &job.Usage{}})
	var got []byte
	for line := range strings.Lines(string(b.store.View().AppendTo(nil))) {
		if strings.HasPrefix(line, "# HELP promspool_job_") {
			got = append(got, line...)
		}
	}
	want, err := os.ReadFile("testdata/help.txt")
	b.must(err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the texts (-want +got):\n%s", diff)
	}
}

func TestLookFindsLostRunsOnly(t *testing.T) {
	type step struct {
		start job.Start
		boot  string // at the time of the look
		held  bool   // the lock
		none  bool   // without a file to lock
		lost  int
	}
	for name, s := range map[string]step{
		"lock is free":                           {start: job.Start{Locked: true, Boot: "x"}, boot: "x", lost: 1},
		"lock is held":                           {start: job.Start{Locked: true, Boot: "x"}, boot: "x", held: true},
		"lock is held by a run of this boot":     {start: job.Start{Locked: true, Boot: "x"}, boot: "y", held: true},
		"no lock, same boot":                     {start: job.Start{Locked: true, Boot: "x"}, boot: "x", none: true},
		"no lock, other boot":                    {start: job.Start{Locked: true, Boot: "x"}, boot: "y", none: true, lost: 1},
		"no lock, no boot known":                 {start: job.Start{Locked: true, Boot: "x"}, none: true},
		"run without lock, same boot":            {start: job.Start{Boot: "x"}, boot: "x"},
		"run without lock, same boot, lock held": {start: job.Start{Boot: "x"}, boot: "x", held: true},
		"run without lock, other boot":           {start: job.Start{Boot: "x"}, boot: "y", lost: 1},
		"run elsewhere":                          {start: job.Start{}, boot: "y"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			l, err := b.store.Lock(b.group, false, nil)
			b.must(err)
			s.start.ID, s.start.At = "1", at(1)
			b.begin(s.start)
			if !job.Running(b.file()) {
				t.Error("the job is not running")
			}
			if !s.held {
				clean := always
				if !s.none {
					clean = nil
				}
				l.Release(clean)
			} else {
				defer l.Release(always)
			}
			n, err := job.Look(b.store, b.group, at(5), s.boot)
			b.must(err)
			if n != s.lost {
				t.Errorf("%d runs are lost, want %d", n, s.lost)
			}
			if job.Running(b.file()) != (s.lost == 0) {
				t.Error("whether the job is running is not what the look found")
			}
			if s.lost == 1 {
				b.is(`
					end 5
					exit_code -1
					running 0
					runs lost 1
					start 1
					success 0
				`)
				if names, _ := filepath.Glob(b.dir + "/.job=*"); len(names) > 0 {
					t.Errorf("%q are left", names)
				}
			}
			if n, err := job.Look(b.store, b.group, at(6), s.boot); n != 0 || err != nil {
				t.Errorf("a second look = %d, %v, want 0", n, err)
			}
		})
	}
}

func TestStartTellsWhatWasLost(t *testing.T) {
	for name, c := range map[string]struct {
		before, then  job.Start
		lost, running string
	}{
		"gone":                {job.Start{ID: "1", Locked: true}, job.Start{ID: "2", Locked: true, Gone: []string{"1"}, At: at(9)}, "runs lost 1", "running 1"},
		"with another":        {job.Start{ID: "1", Locked: true}, job.Start{ID: "2", Locked: true, At: at(9)}, "", "running 2"},
		"reported, not held":  {job.Start{ID: "1"}, job.Start{ID: "2", Locked: true, Gone: []string{"1"}, At: at(9)}, "", "running 2"},
		"after a boot":        {job.Start{ID: "1", Boot: "x"}, job.Start{ID: "2", Boot: "y", At: at(9)}, "runs lost 1", "running 1"},
		"reported again soon": {job.Start{ID: "1"}, job.Start{ID: "1", At: at(9)}, "", "running 1"},
		"reported much later": {job.Start{ID: "1"}, job.Start{ID: "1", At: at(99)}, "runs lost 1", "running 1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			c.before.At = at(0)
			b.begin(c.before)
			b.begin(c.then)
			got := b.record()
			if strings.Contains(got, "lost") != (c.lost != "") || !strings.Contains(got, c.lost) || !strings.Contains(got, c.running+"\n") {
				t.Errorf("want %q and %q in\n%s", c.lost, c.running, got)
			}
		})
	}
}

func TestRunsThatNeverEndAreBounded(t *testing.T) {
	b := newBench(t)
	for i := range 130 {
		b.begin(job.Start{ID: fmt.Sprint(i), At: at(float64(i))})
	}
	if got := b.record(); !strings.Contains(got, "running 100\n") || !strings.Contains(got, "runs lost 30\n") {
		t.Errorf("want 100 running and 30 lost:\n%s", got)
	}
}

func TestOwnMetrics(t *testing.T) {
	b := newBench(t)
	b.begin(job.Start{ID: "1", At: at(0)})
	b.must(b.store.Replace(b.group, parse(t, "pushed 1\n"), record.PushOptions{}))
	b.finish(job.End{ID: "1", At: at(1), Took: time.Second, Outcome: job.Success, Own: []byte("own{x=\"y\"} 2\n")})
	text := string(b.store.View().AppendTo(nil))
	for _, want := range []string{"\npushed{job=\"a\"} 1\n", "\nown{job=\"a\",x=\"y\"} 2\n", "\npromspool_job_duration_seconds{job=\"a\"} 1\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for own, want := range map[string]string{
		"own 1\nown x\n":              "invalid value \"x\": not a number",
		"own 1":                       "does not end in a newline",
		"promspool_job_exit_code 0\n": "is what promspool records of the run",
	} {
		if err := job.CheckOwn([]byte(own)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckOwn(%q) = %v, want %q", own, err, want)
		}
	}
	if err := job.CheckOwn([]byte("own 1\npromspool_job_stage 2\n")); err != nil {
		t.Errorf("CheckOwn = %v", err)
	}
}

// TestRecordSurvivesPut has the job replace its group while it runs, which takes
// its metrics, and only its, away.
func TestRecordSurvivesPut(t *testing.T) {
	b := newBench(t)
	b.must(job.Declare(b.store, b.group, at(0), job.Expectation{Every: time.Hour}))
	for i := range 3 {
		b.begin(job.Start{ID: fmt.Sprint(i), At: at(float64(10 * i))})
		b.must(b.store.Replace(b.group, parse(t, "pushed 1\n"), record.PushOptions{}))
		b.finish(job.End{ID: fmt.Sprint(i), At: at(float64(10*i + 5)), Took: -1, Outcome: job.Success})
	}
	b.is(`
		duration 5
		end 25
		exit_code 0
		next_due 3620
		running 0
		runs success 3
		start 20
		success 25
	`)
}

func parse(t *testing.T, text string) *exposition.Families {
	t.Helper()
	f, err := exposition.Parse([]byte(text), exposition.Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestForget(t *testing.T) {
	b := newBench(t)
	if err := job.Forget(b.store, b.group); !errors.Is(err, job.ErrUnknown) {
		t.Errorf("Forget of an unknown job = %v", err)
	}
	b.must(b.store.Replace(b.group, parse(t, "pushed 1\n"), record.PushOptions{}))
	if err := job.Forget(b.store, b.group); !errors.Is(err, job.ErrUnknown) {
		t.Errorf("Forget of another group = %v", err)
	}
	l, err := b.store.Lock(b.group, true, nil)
	b.must(err)
	b.begin(job.Start{ID: "1", At: at(0), Locked: true})
	if err := job.Forget(b.store, b.group); !errors.Is(err, job.ErrRunning) {
		t.Errorf("Forget of a running job = %v", err)
	}
	l.Release(nil)
	b.must(job.Forget(b.store, b.group))
	for _, pattern := range []string{"/job=*", "/.job=*"} {
		if names, _ := filepath.Glob(b.dir + pattern); len(names) > 0 {
			t.Errorf("%q are left", names)
		}
	}
}

// A run that is killed while another is running is lost when that has ended, and not
// only with the next run.
func TestRunThatIsLostBesideAnother(t *testing.T) {
	b := newBench(t)
	killed, _, err := job.Lock(b.store, b.group, true)
	b.must(err)
	b.begin(job.Start{ID: "killed", At: at(1), Boot: "x", Locked: true})
	other, _, err := job.Lock(b.store, b.group, true)
	b.must(err)
	b.begin(job.Start{ID: "other", At: at(2), Boot: "x", Locked: true})
	b.must(killed.File().Close()) // as the kernel does
	if n, err := job.Look(b.store, b.group, at(3), "x"); err != nil || n != 0 {
		t.Errorf("Look while the other is running = %d, %v", n, err)
	}
	b.must(job.Finish(b.store, b.group, job.End{ID: "other", At: at(4), Took: -1, Outcome: job.Success}))
	job.Release(b.store, b.group, other, true)
	if n, err := job.Look(b.store, b.group, at(5), "x"); err != nil || n != 1 {
		t.Errorf("Look when the other has ended = %d, %v, want a lost run", n, err)
	}
	if names, _ := filepath.Glob(b.dir + "/.job=*"); len(names) > 0 {
		t.Errorf("%q are left", names)
	}
}

func TestLabelsOfTheRecordAreTaken(t *testing.T) {
	for _, name := range []string{"mode", "outcome", "team"} {
		g, err := grouping.New(exposition.Label{Name: "job", Value: "a"}, exposition.Label{Name: name, Value: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if err := job.CheckGroup(g); (err == nil) != (name == "team") {
			t.Errorf("CheckGroup(%s) = %v", g, err)
		}
	}
}

// TestManyAtOnce has many report of one job.
func TestManyAtOnce(t *testing.T) {
	b := newBench(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			id := fmt.Sprint(i)
			if err := errors.Join(
				job.Begin(b.store, b.group, job.Start{ID: id, At: at(0)}),
				job.Finish(b.store, b.group, job.End{ID: id, At: at(1), Outcome: job.Outcomes[i%2]}),
			); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got := strings.Split(b.record(), "\n")
	for _, want := range []string{"runs success 10", "runs failure 10", "running 0"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func always() bool { return true }
