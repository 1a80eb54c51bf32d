package watcher

// White-box, see kernel_test.go.

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestCloseEndsWaitForWriter expects that a file with short pauses between writes is
// reloaded in a pause, with a minimum interval.
func TestCloseEndsWaitForWriter(t *testing.T) {
	k, d := &kernel{}, &diary{again: func(string) bool { return true }}
	running(t, k, d, Config{}, func(t *testing.T, w *Watcher) {
		k.write("a.prom")
		time.Sleep(85 * ms)
		d.want(t, "0s *", "20ms a.prom", "22ms a.prom", "26ms a.prom", "34ms a.prom", "50ms a.prom", "82ms a.prom")
		time.Sleep(15 * ms) // without the close it is due at 132ms
		w.inbox.closed("a.prom")
		d.want(t, "100ms a.prom")
		for range 10 {
			w.inbox.closed("a.prom")
			synctest.Wait()
			time.Sleep(ms)
		}
		d.want(t, "105ms a.prom", "110ms a.prom")

		w.inbox.closed("b.prom") // the only report about it
		time.Sleep(20 * ms)
		if got := strings.Join(d.take(), ","); !strings.Contains(got, "130ms b.prom") {
			t.Errorf("calls of the target: %s, want one for b.prom at 130ms", got)
		}
	})
}

func TestOldReportsAreDropped(t *testing.T) {
	var r reports
	start := time.Now()
	r.note("open", changed, 1, start)
	for i := range 100 * reportsKept {
		at := start.Add(time.Duration(i) * ms)
		r.note(fmt.Sprint(i), closed, uint64(i), at)
		if most := 2*reportsKept + 2*int(reportAge/ms); len(r.byName) > most {
			t.Fatalf("%d reports after %d files, want %d at most", len(r.byName), i, most)
		}
	}
	if r.byName["open"].serial != 1 {
		t.Error("the report about an open file was dropped")
	}
}

// linked is a diary with links.
type linked struct{ *diary }

func (l linked) Follow() ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note("links")
	return nil, nil
}

func TestLinksAreFollowed(t *testing.T) {
	k, d := &kernel{}, &diary{}
	match := func(name string) bool { return strings.HasSuffix(name, ".prom") }
	runningFor(t, k, linked{d}, d, Config{Match: match, Resync: time.Hour}, func(t *testing.T, w *Watcher) {
		time.Sleep(2500 * ms)
		d.want(t, "0s *", "1s links", "2s links")
		k.write("..data") // does not match, but links may lead through it
		time.Sleep(ms)
		k.write("..data")
		time.Sleep(50 * ms)
		d.want(t, "2.52s links")
		time.Sleep(time.Second)
		d.want(t, "3.52s links")
	})
}

// TestManyLinksAreFollowedLessOften expects at most 1 % of a core.
func TestManyLinksAreFollowedLessOften(t *testing.T) {
	k, d := &kernel{}, &diary{}
	runningFor(t, k, linked{d}, d, Config{Match: func(string) bool { return false }, Resync: time.Hour}, func(t *testing.T, w *Watcher) {
		d.set(func(d *diary) { d.takes = 30 * ms })
		for range 200_000 / 10 {
			k.write("..data")
			time.Sleep(10 * ms)
		}
		n := strings.Count(strings.Join(d.take(), ","), "links")
		if most := 200_000 / (30 + 3000); n < most/2 || n > most+3 {
			t.Errorf("followed %d times in 200s, want about %d", n, most)
		}
	})
}
