//go:build linux

package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFullDisk fills the file system of an agent: by bytes, with and without delayed
// allocation, and by inodes.
func TestFullDisk(t *testing.T) {
	needMounts(t)
	for _, tt := range []struct {
		name  string
		mount func(t *testing.T, at string)
		cause string
	}{
		{"bytes, tmpfs", func(t *testing.T, at string) {
			done(t, unix.Mount("torture", at, "tmpfs", 0, "size=2m,mode=755"))
		}, "no space left"},
		{"inodes, tmpfs", func(t *testing.T, at string) {
			done(t, unix.Mount("torture", at, "tmpfs", 0, "nr_inodes=60,size=64m,mode=755"))
		}, "no space left"},
		{"bytes, ext4", func(t *testing.T, at string) { smallExt4(t, at, "-N", "3000") }, "no space left"},
		{"inodes, ext4", func(t *testing.T, at string) { smallExt4(t, at, "-N", "64") }, "no space left"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mnt := directory(t)
			tt.mount(t, mnt)
			t.Cleanup(func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) })
			fill(t, mnt, tt.cause)
		})
	}
}

// smallExt4 mounts a new ext4 of 5 MiB.
func smallExt4(t *testing.T, at string, options ...string) {
	t.Helper()
	image := filepath.Join(directory(t), "image")
	done(t, os.WriteFile(image, nil, 0o600))
	done(t, os.Truncate(image, 5<<20))
	done(t, command("mkfs.ext4", append(append([]string{"-q", "-F", "-m", "0", "-O", "^has_journal"}, options...), image)...))
	done(t, command("mount", "-o", "loop", image, at))
}

func fill(t *testing.T, mnt, cause string) {
	spool := filepath.Join(mnt, "spool")
	done(t, os.Mkdir(spool, 0o755))
	// The files that use up bytes and inodes, and can be deleted.
	ballast := filepath.Join(mnt, "ballast")
	done(t, os.Mkdir(ballast, 0o755))
	done(t, os.WriteFile(filepath.Join(ballast, "bytes"), make([]byte, 500<<10), 0o644))
	for i := range 15 {
		done(t, os.WriteFile(filepath.Join(ballast, fmt.Sprint(i)), nil, 0o644))
	}
	a := start(t, spool)
	h := newHistory()
	refused, acked := 0, 0
	push := func(method string, g group) (code int, answer string) {
		op := h.begin(g, method == "DELETE", 0)
		code, answer, err := a.send(method, g.path(), g.body(op.version))
		if err != nil {
			t.Fatalf("%v, %v", err, a.alive())
		}
		switch {
		case code < 300:
			h.acknowledge(op, 0)
			acked++
		case code != 507 || !strings.Contains(answer, cause) || !strings.Contains(answer, "storing group {job=") || strings.Count(answer, "\n") != 1:
			t.Fatalf("%s = %d %q, want 507 and a sentence with the cause", method, code, answer)
		default:
			h.refuse(op)
			refused++
		}
		return code, answer
	}
	var sentence string
	for i := 0; refused < 30 && i < 5000; i++ {
		code, answer := push([]string{"PUT", "POST"}[i%2], group{writer: i, slot: i})
		if code == 507 {
			sentence = answer
		}
	}
	if refused == 0 {
		t.Fatalf("nothing was refused, %d pushes were acknowledged", acked)
	}
	check := func(when string) {
		t.Helper()
		_, err := checkSpool(h, theEnd, spool)
		if err == nil {
			err = checkServed(h, theEnd, a)
		}
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	check("full")

	// Replacing a group needs space for the old and the new version.
	before := refused
	for range 5 {
		for i := range 20 {
			push("PUT", group{writer: i, slot: i})
		}
	}
	if refused == before {
		t.Error("no replacement was refused on a full disk")
	}
	check("full, after replacements")

	// Another file takes the last block.
	for i := 0; ; i++ {
		if err := os.WriteFile(filepath.Join(ballast, fmt.Sprint("last", i)), make([]byte, 1<<10), 0o644); err != nil {
			break
		}
	}
	sick := eventually(timeout, func() error {
		code, answer, err := a.send("GET", "/-/healthy", "")
		if err == nil && (code != 503 || !strings.Contains(answer, cause)) {
			err = fmt.Errorf("/-/healthy = %d %q, want 503 and the cause", code, answer)
		}
		return err
	})
	if sick != nil {
		t.Error(sick)
	}
	a.kill()
	a = start(t, spool) // while it is full
	check("started while full")

	g := group{writer: 0, slot: 0}
	if code, answer := push("DELETE", g); code != 202 {
		t.Errorf("DELETE = %d %q on a full disk, want 202", code, answer)
	}
	check("full, after a DELETE")

	done(t, os.RemoveAll(ballast))
	if code, answer := push("PUT", g); code != 200 {
		t.Errorf("PUT = %d %q once there is room", code, answer)
	}
	if err := eventually(timeout, func() error { return a.must(200, "GET", "/-/healthy", "") }); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	check("with room again")
	t.Logf("RESULT full: %d acknowledged, %d refused with 507, 0 lost; it says %.150s", acked, refused, sentence)
}

// TestReadOnly remounts the file system read-only and writable again.
func TestReadOnly(t *testing.T) {
	needMounts(t)
	mnt := directory(t)
	smallExt4(t, mnt)
	t.Cleanup(func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) })
	spool := filepath.Join(mnt, "spool")
	done(t, os.Mkdir(spool, 0o755))
	a := start(t, spool)
	h := newHistory()
	g := group{writer: 1}
	put := func(method string, want int) {
		t.Helper()
		op := h.begin(g, method == "DELETE", 0)
		code, answer, err := a.send(method, g.path(), g.body(op.version))
		done(t, err)
		if code != want || code == 500 && !strings.Contains(answer, "read-only file system") {
			t.Errorf("%s = %d %q, want %d", method, code, answer, want)
		}
		if code < 300 {
			h.acknowledge(op, 0)
		} else {
			h.refuse(op)
		}
	}
	times := size(3, 30)
	for range times {
		put("PUT", 200)
		done(t, eventually(timeout, func() error { return command("mount", "-o", "remount,ro", mnt) }))
		put("PUT", 500)
		put("POST", 500)
		put("DELETE", 500)
		done(t, eventually(timeout, func() error { return a.must(503, "GET", "/-/healthy", "") }))
		_, err := checkSpool(h, theEnd, spool)
		done(t, err)
		done(t, checkServed(h, theEnd, a))
		a.kill()
		a = start(t, spool) // on a read-only file system
		done(t, checkServed(h, theEnd, a))
		done(t, command("mount", "-o", "remount,rw", mnt))
		put("DELETE", 202)
		put("PUT", 200)
		done(t, eventually(timeout, func() error { return a.must(200, "GET", "/-/healthy", "") }))
		done(t, checkServed(h, theEnd, a))
	}
	t.Logf("RESULT read-only: %d times, 0 lost", times)
}

// TestFailingDisk has the disk fail repeatedly under load and finally cuts the power.
// Every change acknowledged in between must survive.
func TestFailingDisk(t *testing.T) {
	needDisk(t)
	all := fileSystems[:size(1, len(fileSystems))]
	rnd := choices(t, 3)
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) {
			f.known(t)
			rounds, acks, refused := size(2, 8), 0, 0
			for round := range rounds {
				l, wrong := failing(t, f, rnd)
				for _, err := range wrong {
					t.Errorf("round %d: %v", round, err)
				}
				acks, refused = acks+int(l.acks.Load()), refused+int(l.refusals.Load())
			}
			if !t.Failed() {
				t.Logf("RESULT failing disk, %s: %d times, %d acknowledged, %d refused, 0 lost", f.name, rounds, acks, refused)
			}
		})
	}
}

// failing is one round: a load, a disk failure during it, and a power cut.
func failing(t *testing.T, f fileSystem, rnd *rand.Rand) (l *load, wrong []error) {
	t.Helper()
	d := plug(t, f.make(t), true)
	defer d.unplug()
	mnt, err := f.mount(t, d)
	done(t, err)
	spool := filepath.Join(mnt, "spool")
	done(t, os.Mkdir(spool, 0o755))
	done(t, writeMarker(filepath.Join(mnt, "flushed"), true))
	a := start(t, spool)
	h := newHistory()
	l = begin(a, h, demand{writers: 6, slots: 5, now: d.instant, rnd: rnd})
	l.until(30+rnd.Int64N(100), 3*time.Second)
	d.broken.Store(true)
	done(t, eventually(timeout, func() error {
		if l.refusals.Load() < 5 {
			return fmt.Errorf("the disk fails, and nothing is refused: %v", l)
		}
		return nil
	}))
	at := l.acks.Load()
	served, err := a.served()
	done(t, err)
	if len(served) == 0 {
		t.Error("the existing content is not served while the disk fails")
	}
	d.broken.Store(false)
	// The file system may have shut down for good, which is allowed.
	l.until(at+20, 500*time.Millisecond)
	done(t, a.alive())
	a.kill()
	l.end()
	if unmount(mnt) != nil {
		_ = unix.Unmount(mnt, unix.MNT_DETACH)
	}
	o := outage{fs: f}
	for _, k := range []kept{keptNothing, keptAll, keptSome} {
		if err := o.judge(t, d, h, d.instant(), k, rnd, true); err != nil {
			wrong = append(wrong, err)
		}
	}
	t.Logf("%v; %d writes of the disk failed", l, d.failed.Load())
	return l, wrong
}
