//go:build linux

package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// killings kills an agent repeatedly under load, at varying moments, and restarts it
// on the same spool.
type killings struct {
	program string
	env     []string
	times   int
}

// run returns the number of acknowledgements and reads, and the first error.
func (k killings) run(t *testing.T, rnd *rand.Rand) (acks, reads int, wrong error) {
	t.Helper()
	spool := filepath.Join(directory(t), "spool")
	done(t, os.Mkdir(spool, 0o755))
	const foreign = ".job=torture.prom.mine" // a file of another program, which must stay
	done(t, os.WriteFile(filepath.Join(spool, foreign), []byte("x"), 0o644))
	h := newHistory()
	begun := time.Now()
	now := func() int64 { return int64(time.Since(begun)) }
	for i := range k.times {
		a, err := startProgram(t, k.program, k.env, spool)
		if err != nil {
			return acks, reads, fmt.Errorf("start %d: %w", i, err)
		}
		if err := checkServed(h, theEnd, a, foreign); err != nil {
			return acks, reads, fmt.Errorf("after kill %d: %w", i, err)
		}
		w := watch(a, h, now)
		l := begin(a, h, demand{writers: 6, slots: 3, now: now, rnd: rnd})
		// Sometimes during the start, mostly at work.
		l.until(rnd.Int64N(60), time.Second)
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond)
		a.kill()
		l.end()
		n, err := w.end()
		acks, reads = acks+int(l.acks.Load()), reads+n
		if err != nil {
			return acks, reads, fmt.Errorf("while it ran for the %d. time: %w", i+1, err)
		}
		if why := l.worst.Load(); why != nil {
			return acks, reads, fmt.Errorf("refused without any fault: %s", *why)
		}
		found, err := checkSpool(h, theEnd, spool)
		if err != nil {
			return acks, reads, fmt.Errorf("after kill %d: %w", i+1, err)
		}
		h.restart(found)
	}
	a, err := startProgram(t, k.program, k.env, spool)
	if err != nil {
		return acks, reads, err
	}
	return acks, reads, checkServed(h, theEnd, a, foreign)
}

// A watcher repeatedly reads the agent's metrics and its files. Neither may ever be
// torn. Acknowledged content must be served, and a group must not vanish while it is
// replaced.
type watcher struct {
	quit  chan struct{}
	all   sync.WaitGroup
	mu    sync.Mutex
	reads int
	wrong error
}

func watch(a *agent, h *history, now func() int64) *watcher {
	w := &watcher{quit: make(chan struct{})}
	readers := []func() error{
		func() error {
			from := now()
			found, err := a.served()
			if err != nil {
				return err
			}
			return h.checkRead(from, now(), found)
		},
		func() error {
			_, _, err := readSpool(a.spool)
			return err
		},
	}
	for _, read := range readers {
		w.all.Go(func() {
			for {
				select {
				case <-w.quit:
					return
				case <-a.exited:
					return
				default:
				}
				err := read()
				if errors.Is(err, errNoAnswer) {
					select {
					case <-a.exited:
						return // killed
					case <-time.After(2 * time.Second):
					}
				}
				w.mu.Lock()
				w.reads++
				if err != nil && w.wrong == nil {
					w.wrong = err
				}
				w.mu.Unlock()
			}
		})
	}
	return w
}

// end returns the number of reads and the first error.
func (w *watcher) end() (int, error) {
	close(w.quit)
	w.all.Wait()
	return w.reads, w.wrong
}

// TestKill kills the agent under load.
func TestKill(t *testing.T) {
	k := killings{program: promspool, times: size(12, 400)}
	acks, reads, err := k.run(t, choices(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("RESULT kill -9: %d kills into %d acknowledgements, 0 lost; read %d times meanwhile, never torn", k.times, acks, reads)
}

// TestKillNotices uses an agent that writes its files in place, which leaves torn ones.
func TestKillNotices(t *testing.T) {
	program, env := faulty(t, inPlace)
	k := killings{program: program, env: env, times: 30}
	_, _, err := k.run(t, choices(t, 1))
	if err == nil {
		t.Fatal("files were written in place, and nothing was torn: the test cannot fail")
	}
	t.Logf("RESULT kill -9, control %s: noticed: %v", inPlace, err)
}
