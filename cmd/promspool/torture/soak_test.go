//go:build linux

package torture

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// memoryBound is the maximum memory of the agent: its budget for large bodies, a
// small store, and the slack of the garbage collector.
const memoryBound = 400 << 20

// An attacker makes invalid requests until the context ends and counts the responses
// by class.
type attacker struct {
	name  string
	count int // concurrent connections
	act   func(ctx context.Context, a *agent, rnd *rand.Rand) (class string)
}

// TestSoak runs hostile clients against an agent while regular clients push and
// scrape. The agent's memory stays within its bound, and the regular clients lose
// nothing.
func TestSoak(t *testing.T) {
	rnd := choices(t, 4)
	lasts := size(15*time.Second, 5*time.Minute)
	spool := filepath.Join(directory(t), "spool")
	a := start(t, spool, "--web.read-timeout=3s", "--push.max-series=20000")
	h := newHistory()
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()

	var mu sync.Mutex
	classes := map[string]map[string]int{}
	var all sync.WaitGroup
	for _, at := range attackers() {
		classes[at.name] = map[string]int{}
		for range at.count {
			rnd := rand.New(rand.NewPCG(rnd.Uint64(), 0))
			all.Go(func() {
				for ctx.Err() == nil && a.alive() == nil {
					class := at.act(ctx, a, rnd)
					mu.Lock()
					classes[at.name][class]++
					mu.Unlock()
				}
			})
		}
	}
	begun := time.Now()
	now := func() int64 { return int64(time.Since(begun)) }
	l := begin(a, h, demand{writers: 2, slots: 3, now: now, rnd: rnd})
	w := watch(a, h, now)

	var most int64
	every := time.NewTicker(max(lasts/15, time.Second))
	defer every.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-every.C:
		}
		rss, peak, err := a.memory()
		if err != nil {
			t.Fatalf("%v, %v", err, a.alive())
		}
		most = max(most, peak)
		t.Logf("after %3.0f s: %d MiB, at most %d MiB; %v", time.Since(begun).Seconds(), rss>>20, peak>>20, l)
		if peak > memoryBound {
			t.Errorf("the agent has taken %d MiB, the bound is %d MiB", peak>>20, int64(memoryBound)>>20)
			break
		}
	}
	cancel()
	all.Wait()
	l.end()
	reads, err := w.end()
	if err != nil {
		t.Errorf("an honest client: %v", err)
	}
	done(t, a.alive())
	for name, n := range classes {
		t.Logf("%s: %v", name, n)
		if len(n) == 0 {
			t.Errorf("%s did nothing", name)
		}
		if n["200"] > 0 && name != "labels" && name != "garbage" {
			t.Errorf("%s: %d were answered with 200", name, n["200"])
		}
	}
	done(t, a.must(200, "PUT", "/metrics/job/after", "after 1\n"))
	time.Sleep(time.Second) // for the garbage collector
	rss, _, err := a.memory()
	done(t, err)
	found, err := a.served()
	if err == nil {
		err = h.check(theEnd, found)
	}
	done(t, err)
	t.Logf("RESULT soak: %v of hostile input, at most %d MiB, %d MiB after it; %d honest acknowledgements and %d readings, 0 lost",
		lasts, most>>20, rss>>20, l.acks.Load(), reads)
}

func attackers() []attacker {
	bomb := gzipped(bytes.Repeat([]byte("a_metric_with_a_long_name_to_fill_the_memory 1\n"), 3<<20))
	zbomb := zstandard(make([]byte, 256<<20))
	comments := gzipped(bytes.Repeat([]byte("# comment\n"), 20<<20))
	push := func(ctx context.Context, a *agent, path string, body io.Reader, header ...string) string {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "PUT", a.url+path, body)
		if err != nil {
			return "no request"
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := a.client.Do(req)
		if err != nil {
			return "cut off"
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return fmt.Sprint(resp.StatusCode)
	}
	const protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	return []attacker{
		{"slow headers", 40, func(ctx context.Context, a *agent, rnd *rand.Rand) string {
			return dribble(ctx, a, "PUT /metrics/job/slow HTTP/1.1\r\nHost: localhost\r\nX: ", rnd)
		}},
		{"slow bodies", 40, func(ctx context.Context, a *agent, rnd *rand.Rand) string {
			return dribble(ctx, a, "PUT /metrics/job/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", rnd)
		}},
		{"gzip bombs", 2, func(ctx context.Context, a *agent, _ *rand.Rand) string {
			return push(ctx, a, "/metrics/job/bomb", bytes.NewReader(bomb), "Content-Encoding", "gzip")
		}},
		{"gzip bombs of comments", 1, func(ctx context.Context, a *agent, _ *rand.Rand) string {
			return push(ctx, a, "/metrics/job/bomb", bytes.NewReader(comments), "Content-Encoding", "gzip")
		}},
		{"zstd bombs", 1, func(ctx context.Context, a *agent, _ *rand.Rand) string {
			return push(ctx, a, "/metrics/job/bomb", bytes.NewReader(zbomb), "Content-Encoding", "zstd")
		}},
		{"protobuf lengths", 2, func(ctx context.Context, a *agent, rnd *rand.Rand) string {
			body := binary.AppendUvarint(nil, 1<<(20+rnd.UintN(43)))
			return push(ctx, a, "/metrics/job/length", bytes.NewReader(append(body, 10, 200, 1)), "Content-Type", protobuf)
		}},
		{"announced bodies", 1, func(ctx context.Context, a *agent, _ *rand.Rand) string {
			conn, err := a.dial()
			if err != nil {
				return "cut off"
			}
			defer conn.Close()
			fmt.Fprintf(conn, "PUT /metrics/job/big HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1099511627776\r\n\r\na 1\n")
			return answerOn(ctx, conn)
		}},
		{"garbage", 2, func(ctx context.Context, a *agent, rnd *rand.Rand) string {
			body := make([]byte, rnd.IntN(100<<10))
			for i := range body {
				body[i] = byte(rnd.Uint32())
			}
			encodings := []string{"", "gzip", "snappy", "zstd", "br"}
			types := []string{"", protobuf, "text/plain; version=0.0.4"}
			return push(ctx, a, "/metrics/job/garbage", bytes.NewReader(body), "Content-Encoding", encodings[rnd.IntN(5)], "Content-Type", types[rnd.IntN(3)])
		}},
		{"labels", 1, func(ctx context.Context, a *agent, rnd *rand.Rand) string {
			// Many values in few groups: the memory of replaced values must be freed.
			var b strings.Builder
			for i := range 5000 {
				fmt.Fprintf(&b, "labels{a=\"%x\",b=\"%x\"} %d\n", rnd.Uint64(), rnd.Uint64(), i)
			}
			return push(ctx, a, fmt.Sprintf("/metrics/job/labels/n/%d", rnd.IntN(3)), strings.NewReader(b.String()))
		}},
		{"too many series", 1, func(ctx context.Context, a *agent, rnd *rand.Rand) string {
			var b strings.Builder
			for i := range 50000 {
				fmt.Fprintf(&b, "series{a=\"%x\"} %d\n", rnd.Uint64(), i)
			}
			return push(ctx, a, "/metrics/job/series", strings.NewReader(b.String()))
		}},
		{"long paths", 2, func(ctx context.Context, a *agent, rnd *rand.Rand) string {
			var b strings.Builder
			for i := range 100 + rnd.IntN(50000) {
				fmt.Fprintf(&b, "/l%d/v", i)
			}
			return push(ctx, a, "/metrics/job/a"+b.String(), strings.NewReader("a 1\n"))
		}},
		{"headers", 2, func(ctx context.Context, a *agent, rnd *rand.Rand) string {
			return push(ctx, a, "/metrics/job/headers", strings.NewReader("a 1\n"), "X-Long", strings.Repeat("x", 300<<10+rnd.IntN(1<<20)))
		}},
		{"groups of failures", 1, func(ctx context.Context, a *agent, rnd *rand.Rand) string {
			return push(ctx, a, fmt.Sprintf("/metrics/job/failed%d", rnd.Uint64()), strings.NewReader("a 1\na 2\n"))
		}},
		{"stuck readers", 10, func(ctx context.Context, a *agent, _ *rand.Rand) string {
			conn, err := a.dial()
			if err != nil {
				return "cut off"
			}
			defer conn.Close()
			fmt.Fprintf(conn, "%s", strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 20))
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
			}
			return "left"
		}},
	}
}

// dribble sends a byte now and then until the connection is closed.
func dribble(ctx context.Context, a *agent, head string, rnd *rand.Rand) string {
	conn, err := a.dial()
	if err != nil {
		return "refused"
	}
	defer conn.Close()
	fmt.Fprint(conn, head)
	begun := time.Now()
	var answered atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		answered.Store(true)
	}()
	for !answered.Load() {
		if _, err := conn.Write([]byte{'x'}); err != nil {
			break
		}
		select {
		case <-ctx.Done():
			return "continued until the end"
		case <-time.After(time.Duration(50+rnd.IntN(200)) * time.Millisecond):
		}
		if time.Since(begun) > 15*time.Second {
			return "200" // counts as accepted
		}
	}
	return "cut off"
}

// answerOn returns the status of a response on a connection.
func answerOn(ctx context.Context, conn io.Reader) string {
	if d, ok := conn.(interface{ SetReadDeadline(time.Time) error }); ok {
		deadline, _ := ctx.Deadline()
		_ = d.SetReadDeadline(deadline)
	}
	line := make([]byte, 12)
	if _, err := io.ReadFull(conn, line); errors.Is(err, os.ErrDeadlineExceeded) {
		return "no answer"
	} else if err != nil {
		return "cut off"
	}
	return string(line[9:])
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data) // in memory
	_ = w.Close()
	return b.Bytes()
}

func zstandard(data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err) // without options it never fails
	}
	return w.EncodeAll(data, nil)
}
