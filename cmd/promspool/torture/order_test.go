//go:build linux

package torture

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A content is the content of one group: a value for each family.
type content map[string]int

// call is one request to a group by one of many clients, or a read.
type call struct {
	method     string // PUT, POST, DELETE, or READ
	arg        content
	began      time.Duration
	ended      time.Duration // never, for a call without a response
	unanswered bool          // it may or may not have taken effect
}

func (c call) String() string {
	return fmt.Sprintf("%s %v (%v to %v)", c.method, map[string]int(c.arg), c.began, c.ended)
}

// apply returns the content after the call, and false if the call cannot have found
// this content.
func (c call) apply(before content) (content, bool) {
	switch c.method {
	case "PUT":
		return c.arg, true
	case "POST":
		after := maps.Clone(before)
		maps.Copy(after, c.arg)
		return after, true
	case "DELETE":
		return content{}, true
	}
	return before, maps.Equal(before, c.arg)
}

// explained reports whether an order of the calls leads from one content to the other.
// A call that ended before another began must precede it.
func explained(before content, calls []call, after content) bool {
	seen := map[string]bool{}
	var try func(now content, done uint64) bool
	try = func(now content, done uint64) bool {
		key := fmt.Sprint(done, map[string]int(now))
		if seen[key] {
			return false
		}
		seen[key] = true
		open := false
		deadline := time.Duration(1<<63 - 1) // the first end of the remaining calls
		for i, c := range calls {
			if done&(1<<i) == 0 && !c.unanswered {
				open = true
				deadline = min(deadline, c.ended)
			}
		}
		if !open && maps.Equal(now, after) {
			return true
		}
		for i, c := range calls {
			if done&(1<<i) != 0 || c.began > deadline {
				continue
			}
			if next, ok := c.apply(now); ok && try(next, done|1<<i) {
				return true
			}
		}
		return false
	}
	return try(before, 0)
}

// TestExplainedNotices tests explained with wrong histories.
func TestExplainedNotices(t *testing.T) {
	const ms = time.Millisecond
	put := func(from, to time.Duration, arg content) call { return call{"PUT", arg, from, to, false} }
	post := func(from, to time.Duration, arg content) call { return call{"POST", arg, from, to, false} }
	del := func(from, to time.Duration) call { return call{"DELETE", nil, from, to, false} }
	read := func(from, to time.Duration, arg content) call { return call{"READ", arg, from, to, false} }
	for _, tt := range []struct {
		name  string
		calls []call
		after content
		want  bool
	}{
		{"two POSTs", []call{post(0, 9*ms, content{"a": 1}), post(0, 9*ms, content{"b": 2})}, content{"a": 1, "b": 2, "x": 0}, true},
		{"a lost POST", []call{post(0, 9*ms, content{"a": 1}), post(0, 9*ms, content{"b": 2})}, content{"b": 2, "x": 0}, false},
		{"a POST before a PUT", []call{post(0, 9*ms, content{"a": 1}), put(0, 9*ms, content{"b": 2})}, content{"b": 2}, true},
		{"a PUT that came first", []call{put(0, 1*ms, content{"b": 2}), post(2*ms, 3*ms, content{"a": 1})}, content{"b": 2}, false},
		{"an undone DELETE", []call{put(0, 1*ms, content{"b": 2}), del(2*ms, 3*ms)}, content{"b": 2}, false},
		{"a DELETE at the same time", []call{put(0, 3*ms, content{"b": 2}), del(2*ms, 3*ms)}, content{"b": 2}, true},
		{"an invented value", []call{put(0, 3*ms, content{"b": 2})}, content{"b": 3}, false},
		{"no answer, done", []call{{"PUT", content{"b": 2}, 0, 0, true}}, content{"b": 2}, true},
		{"no answer, not done", []call{{"PUT", content{"b": 2}, 0, 0, true}}, content{"x": 0}, true},
		{"a reading", []call{put(0, 3*ms, content{"b": 2}), read(1*ms, 2*ms, content{"x": 0})}, content{"b": 2}, true},
		{"a reading of the past", []call{put(0, 1*ms, content{"b": 2}), read(2*ms, 3*ms, content{"x": 0})}, content{"b": 2}, false},
		{"back and forth", []call{put(0, 9*ms, content{"b": 2}), read(1*ms, 2*ms, content{"b": 2}), read(3*ms, 4*ms, content{"x": 0})}, content{"b": 2}, false},
		{"half a PUT", []call{put(0, 9*ms, content{"a": 1, "b": 1}), read(1*ms, 2*ms, content{"a": 1, "x": 0})}, content{"a": 1, "b": 1}, false},
	} {
		if got := explained(content{"x": 0}, tt.calls, tt.after); got != tt.want {
			t.Errorf("%s: explained = %v, want %v", tt.name, got, tt.want)
		}
	}
}

const orderPath = "/metrics/job/order/x/1"

// contentOf parses the content of the group.
func contentOf(text string) content {
	c := content{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, `{job="order",x="1"} `)
		if !ok || !strings.HasPrefix(name, "order_") {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64) // values from a million on have an exponent
		if err != nil {
			v = -1 // no call has that
		}
		c[name] = int(v)
	}
	return c
}

// round has clients make calls concurrently and returns the calls. Reads are of the
// file, or of the metrics if there is one agent.
func round(agents []*agent, spool string, ids *int, rnd *rand.Rand) ([]call, error) {
	const clients, each = 6, 2
	begun := time.Now()
	calls := make([]call, 0, clients*each+4)
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	for i := range clients + 2 {
		rnd := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		first := *ids
		*ids += 10
		a := agents[i%len(agents)]
		all.Go(func() {
			for n := range each {
				c := call{method: []string{"PUT", "POST", "POST", "POST", "DELETE"}[rnd.IntN(5)], arg: content{}}
				body := ""
				for _, name := range []string{"order_a", "order_b", "order_c"} {
					if rnd.IntN(2) == 0 {
						c.arg[name] = first + n
						body += fmt.Sprintf("# TYPE %s gauge\n%s %d\n", name, name, first+n)
					}
				}
				if i >= clients {
					c.method = "READ"
				}
				c.began = time.Since(begun)
				var err error
				code, said := 200, ""
				switch {
				case c.method != "READ":
					code, said, err = a.send(c.method, orderPath, body)
				case len(agents) == 1:
					code, said, err = a.send("GET", "/metrics", "")
					c.arg = contentOf(said)
				default:
					var data []byte
					data, err = os.ReadFile(filepath.Join(spool, "job=order,x=1.prom"))
					if errors.Is(err, fs.ErrNotExist) {
						err = nil
					}
					c.arg = contentOf(string(data))
				}
				c.ended = time.Since(begun)
				mu.Lock()
				if err == nil && code >= 300 {
					err = fmt.Errorf("%v = %d %s", c, code, said)
				}
				if err != nil && failed == nil {
					failed = err
				}
				calls = append(calls, c)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return calls, failed
}

// TestOrder has many clients change one group, through one agent and through two
// processes on one spool, and looks for an order that explains the result.
func TestOrder(t *testing.T) {
	rnd := choices(t, 5)
	for _, processes := range []int{1, 2} {
		t.Run(fmt.Sprint(processes), func(t *testing.T) {
			spool := filepath.Join(directory(t), "spool")
			var agents []*agent
			for range processes {
				agents = append(agents, start(t, spool))
			}
			before, ids, total := content{}, 1, 0
			lasts := size(6*time.Second, 3*time.Minute)
			rounds := 0
			for begun := time.Now(); time.Since(begun) < lasts; rounds++ {
				calls, err := round(agents, spool, &ids, rnd)
				done(t, err)
				data, err := os.ReadFile(filepath.Join(spool, "job=order,x=1.prom"))
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				after := contentOf(string(data))
				if !explained(before, calls, after) {
					slices.SortFunc(calls, func(a, b call) int { return int(a.began - b.began) })
					t.Fatalf("round %d: no order of\n%v\nleads from %v to %v", rounds, calls, before, after)
				}
				before = after
				total += len(calls)
			}
			for _, a := range agents { // both must serve it eventually
				done(t, eventually(timeout, func() error {
					_, page, err := a.send("GET", "/metrics", "")
					if got := contentOf(page); err == nil && !maps.Equal(got, before) {
						err = fmt.Errorf("%v is served, want %v", got, before)
					}
					return err
				}))
			}
			t.Logf("RESULT order, %d processes: %d rounds of calls at once, %d calls, each explained", processes, rounds, total)
		})
	}
}
