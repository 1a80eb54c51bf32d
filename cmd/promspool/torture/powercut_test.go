//go:build linux

package torture

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outage is a load on a disk that ends with a power cut.
type outage struct {
	fs      fileSystem
	program string   // the agent
	env     []string // selects the fault of the agent
	acks    int64    // pushes and deletions to wait for
	most    time.Duration
	cuts    int
}

// result counts the outcome of an outage.
type result struct {
	cuts, restarts, acks int
	wrong                []error // at most one for each cut
}

// run runs the load and then cuts the power at many of its instants.
func (o outage) run(t *testing.T, rnd *rand.Rand) result {
	t.Helper()
	d := plug(t, o.fs.make(t), true)
	defer d.unplug()
	mnt, err := o.fs.mount(t, d)
	done(t, err)
	spool := filepath.Join(mnt, "spool")
	done(t, os.Mkdir(spool, 0o755))
	done(t, writeMarker(filepath.Join(mnt, "flushed"), true))
	begun := d.instant()

	a, err := startProgram(t, o.program, o.env, spool)
	done(t, err)
	h := newHistory()
	l := begin(a, h, demand{writers: 6, slots: 5, droppers: 1, now: d.instant, rnd: rnd})
	l.until(o.acks, o.most)
	a.kill()
	l.end()
	// Not flushed, so no disk may have it.
	ended := d.instant()
	done(t, writeMarker(filepath.Join(mnt, "unflushed"), false))
	t.Logf("%s: %v; %v", o.fs.name, l, d)
	done(t, unmount(mnt))
	if l.acks.Load() < 20 {
		t.Fatalf("%s: too little was acknowledged", o.fs.name)
	}

	r := result{acks: int(l.acks.Load())}
	acks := h.acknowledgements()
	for i := range o.cuts {
		at := begun + rnd.Int64N(ended-begun+1)
		if i%2 == 0 {
			at = acks[rnd.IntN(len(acks))]
		}
		k := kept(i / 2 % 3)
		if i == o.cuts-1 {
			at, k = ended, keptNothing
		}
		restart := i%5 == 0
		if restart {
			r.restarts++
		}
		r.cuts++
		if err := o.judge(t, d, h, at, k, rnd, restart); err != nil {
			r.wrong = append(r.wrong, fmt.Errorf("%s, cut at %d of %d, unflushed writes kept: %v: %w", o.fs.name, at, ended, k, err))
		}
	}
	return r
}

// judge checks one disk after the power cut.
func (o outage) judge(t *testing.T, d *disk, h *history, at int64, k kept, rnd *rand.Rand, restart bool) error {
	t.Helper()
	after := plug(t, d.cut(at, k, rnd), false)
	defer after.unplug()
	mnt, err := o.fs.mount(t, after)
	if err != nil {
		t.Fatalf("the file system does not recover: %v", err)
	}
	defer func() { done(t, unmount(mnt)) }()
	if _, err := os.Stat(filepath.Join(mnt, "flushed")); err != nil {
		t.Fatalf("the test disk is wrong: earlier flushed data is missing: %v", err)
	}
	if _, err := os.Stat(filepath.Join(mnt, "unflushed")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the test disk is wrong: it has unflushed data (%v)", err)
	}
	spool := filepath.Join(mnt, "spool")
	if _, err := checkSpool(h, at, spool); err != nil || !restart {
		return err
	}
	a, err := startProgram(t, promspool, nil, spool)
	if err != nil {
		return err
	}
	defer a.kill()
	if err := checkServed(h, at, a); err != nil {
		return fmt.Errorf("after a restart: %w", err)
	}
	return a.must(200, "PUT", "/metrics/job/after", "after 1\n")
}

func writeMarker(path string, flush bool) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil || !flush {
		return err
	}
	return unix.Syncfs(int(f.Fd()))
}

// TestPowerCut cuts the power under many writers.
func TestPowerCut(t *testing.T) {
	needDisk(t)
	all := []fileSystem{ext4Loose}
	if long() {
		all = fileSystems
	}
	for i, f := range all {
		t.Run(f.name, func(t *testing.T) {
			f.known(t)
			o := outage{fs: f, program: promspool, acks: size[int64](400, 2000), most: size(5*time.Second, 30*time.Second), cuts: size(14, 60)}
			r := o.run(t, choices(t, uint64(i)))
			for _, err := range r.wrong {
				t.Error(err)
			}
			t.Logf("RESULT power cut on %s: %d cuts (%d with a restart) into %d acknowledgements, %d lost", f.name, r.cuts, r.restarts, r.acks, len(r.wrong))
		})
	}
}

// TestPowerCutNotices uses agents without one of the two flushes, which must lose data.
func TestPowerCutNotices(t *testing.T) {
	needDisk(t)
	for _, fault := range []string{noFileFlush, noDirectoryFlush} {
		t.Run(fault, func(t *testing.T) {
			program, env := faulty(t, fault)
			o := outage{fs: ext4Loose, program: program, env: env, acks: 200, most: 4 * time.Second, cuts: size(8, 30)}
			r := o.run(t, choices(t, 0))
			if len(r.wrong) == 0 {
				t.Errorf("with %s nothing was lost in %d cuts: the test cannot fail", fault, r.cuts)
				return
			}
			t.Logf("RESULT power cut, control %s: noticed in %d of %d cuts, for instance: %v", fault, len(r.wrong), r.cuts, r.wrong[0])
		})
	}
}
