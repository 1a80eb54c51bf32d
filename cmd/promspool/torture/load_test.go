//go:build linux

package torture

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A group is written by one writer alone, one request at a time. Writers of dropped
// files use the command.
type group struct {
	writer, slot int
	dropped      bool
}

func (g group) String() string { return strings.TrimSuffix(g.file(), ".prom") }

func (g group) path() string {
	return fmt.Sprintf("/metrics/job/torture/writer/%d/slot/%d", g.writer, g.slot)
}

func (g group) file() string {
	if g.dropped {
		return fmt.Sprintf("torture-%d-%d.prom", g.writer, g.slot)
	}
	return fmt.Sprintf("job=torture,slot=%d,writer=%d.prom", g.slot, g.writer)
}

// lines returns the number of lines of a version: often few, sometimes many pages.
func (g group) lines(version int) int {
	n := int(g.fingerprint(version, -1) % 1000)
	switch {
	case n < 500:
		return 1 + n%10
	case n < 900:
		return 1 + n%100
	}
	return 300 + n
}

// fingerprint returns a number that only this line of this version has.
func (g group) fingerprint(version, line int) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%v %d %d", g, version, line))
	return binary.BigEndian.Uint64(sum[:])
}

// body returns the text of a version.
func (g group) body(version int) string {
	var b bytes.Buffer
	b.WriteString("# HELP torture_line A line of a version.\n# TYPE torture_line gauge\n")
	labels := ""
	if g.dropped {
		labels = fmt.Sprintf(`,job="torture",slot="%d",writer="%d",dropped="yes"`, g.slot, g.writer)
	}
	n := g.lines(version)
	for i := range n {
		fmt.Fprintf(&b, "torture_line{line=\"%d\",of=\"%d\",print=\"%x\"%s} %d\n", i, n, g.fingerprint(version, i), labels, version)
	}
	return b.String()
}

// versions returns the version of each group in a text. It returns an error if a
// version is incomplete.
func versions(text string) (map[group]int, error) {
	found := map[group]int{}
	count := map[group]map[int]bool{}
	for line := range strings.Lines(text) {
		set, ok := strings.CutPrefix(line, "torture_line{")
		if !ok {
			continue
		}
		set, value, ok := strings.Cut(set, "} ")
		version, err := strconv.Atoi(strings.TrimSuffix(value, "\n"))
		if !ok || err != nil || !strings.HasSuffix(line, "\n") {
			return nil, fmt.Errorf("a torn line: %q", line)
		}
		labels := map[string]string{}
		for _, l := range strings.Split(set, ",") {
			name, value, _ := strings.Cut(l, "=")
			labels[name] = strings.Trim(value, `"`)
		}
		number := func(name string) int {
			n, e := strconv.Atoi(labels[name])
			if e != nil {
				err = fmt.Errorf("label %s in %q", name, line)
			}
			return n
		}
		g := group{number("writer"), number("slot"), labels["dropped"] != ""}
		i, of := number("line"), number("of")
		if err != nil {
			return nil, err
		}
		if before, ok := found[g]; ok && before != version {
			return nil, fmt.Errorf("%v mixes the versions %d and %d", g, before, version)
		}
		found[g] = version
		if of != g.lines(version) || labels["print"] != strconv.FormatUint(g.fingerprint(version, i), 16) {
			return nil, fmt.Errorf("%v: line %q is of no version", g, line)
		}
		if count[g] == nil {
			count[g] = map[int]bool{}
		}
		if count[g][i] {
			return nil, fmt.Errorf("%v: line %d is there twice", g, i)
		}
		count[g][i] = true
	}
	for g, version := range found {
		if n := len(count[g]); n != g.lines(version) {
			return nil, fmt.Errorf("%v is torn: version %d has %d of its %d lines", g, version, n, g.lines(version))
		}
	}
	return found, nil
}

// A load is a number of running writers.
type load struct {
	history  *history
	acks     atomic.Int64
	refusals atomic.Int64
	breaks   atomic.Int64 // requests without a response
	worst    atomic.Pointer[string]

	quit chan struct{}
	all  sync.WaitGroup
}

// demand configures a load.
type demand struct {
	writers, slots int
	droppers       int          // writers that use the command, next to an agent
	now            func() int64 // the current instant of the history
	rnd            *rand.Rand
}

// begin starts writers that run until end is called or the agent is gone.
func begin(a *agent, h *history, d demand) *load {
	l := &load{history: h, quit: make(chan struct{})}
	if d.now == nil {
		d.now = func() int64 { return 0 }
	}
	for w := range d.writers + d.droppers {
		rnd := rand.New(rand.NewPCG(d.rnd.Uint64(), 0))
		l.all.Go(func() {
			for {
				select {
				case <-l.quit:
					return
				case <-a.exited:
					return
				default:
				}
				g := group{writer: w, slot: rnd.IntN(d.slots), dropped: w >= d.writers}
				if !l.one(a, g, d.now, rnd) {
					return
				}
			}
		})
	}
	return l
}

// one makes one request and records the result.
func (l *load) one(a *agent, g group, now func() int64, rnd *rand.Rand) bool {
	if g.dropped {
		op := l.history.begin(g, false, now())
		cmd := exec.Command(promspool, "--spool.directory="+a.spool, "write", g.file())
		cmd.Stdin = strings.NewReader(g.body(op.version))
		out, err := cmd.CombinedOutput()
		if err == nil {
			l.history.acknowledge(op, now())
			l.acks.Add(1)
			return true
		}
		l.refused(op, "write: "+string(out))
		return true
	}
	method := "PUT"
	switch n := rnd.IntN(100); {
	case n < 20:
		method = "DELETE"
	case n < 35:
		method = "POST"
	}
	op := l.history.begin(g, method == "DELETE", now())
	body := ""
	if method != "DELETE" {
		body = g.body(op.version)
	}
	// Sometimes two clients send the same request: each acknowledgement counts.
	answers := make(chan answer, 2)
	twins := 1
	if method == "DELETE" && rnd.IntN(2) == 0 {
		twins = 2
	}
	for range twins {
		go func() {
			code, said, err := a.send(method, g.path(), body)
			answers <- answer{code, said, err}
		}()
	}
	acked := false
	var bad []answer
	for range twins {
		got := <-answers
		switch {
		case got.err == nil && got.code < 300:
			if !acked {
				l.history.acknowledge(op, now())
				l.acks.Add(1)
			}
			acked = true
		default:
			bad = append(bad, got)
		}
	}
	for _, got := range bad {
		if got.err != nil {
			l.breaks.Add(1)
			return false // killed, or stopped
		}
	}
	if !acked {
		why := ""
		for _, got := range bad {
			why += fmt.Sprintf("%s %s = %d %s", method, g.path(), got.code, got.said)
		}
		l.refused(op, why)
		time.Sleep(time.Millisecond) // a failure of the host lasts for a while
	}
	return true
}

// answer is the result of one request.
type answer struct {
	code int
	said string
	err  error
}

func (l *load) refused(op *op, why string) {
	l.refusals.Add(1)
	l.worst.Store(&why)
	if !strings.Contains(why, "not known whether") {
		l.history.refuse(op)
	}
}

// until waits for that many acknowledgements, or until the time is up.
func (l *load) until(acks int64, most time.Duration) {
	for deadline := time.Now().Add(most); l.acks.Load() < acks && time.Now().Before(deadline); {
		time.Sleep(2 * time.Millisecond)
	}
}

// end waits until the writers have finished their request.
func (l *load) end() {
	close(l.quit)
	l.all.Wait()
}

func (l *load) String() string {
	s := fmt.Sprintf("%d acknowledged, %d refused, %d without an answer", l.acks.Load(), l.refusals.Load(), l.breaks.Load())
	if why := l.worst.Load(); why != nil {
		s += fmt.Sprintf(" (last refusal: %.200s)", *why)
	}
	return s
}
