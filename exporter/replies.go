package exporter

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promspool/promspool/filestore/merge"
)

// Limits of the memory of all answers in flight, whatever the number of clients that
// do not read.
const (
	// scrapeMemory is for what a scrape renders itself, mostly the metrics of the
	// agent. Text of the view is not copied.
	scrapeMemory = 32 << 20
	// renderMemory is for pages, lists, and scrapes that are rendered as a whole
	// (protobuf, zstd, escaped names). An answer counts as half of it at most, so
	// two of any size are possible. Scrapes of text do not wait for these.
	renderMemory = 32 << 20
	// oldViewMemory is for the text of views that are not the newest one of those
	// that are being sent. It is not reserved: readers that make progress keep
	// their view.
	oldViewMemory = 64 << 20
	// buffersAtOnce bounds the buffers for gathering text. Without one an answer
	// is sent in smaller pieces.
	buffersAtOnce   = 16
	bufferSize      = 256 << 10
	smallBufferSize = 32 << 10
	// pieceSize is how much is written at once without one.
	pieceSize = 64 << 10
)

const (
	// stuckAfter is how long a write may take before its answer is given up where
	// another one needs the memory.
	stuckAfter = 2 * time.Second
	// roomTimeout is how long a request waits for memory before it gets 503.
	roomTimeout = 6 * time.Second
	reliefTick  = 100 * time.Millisecond
)

// replies are the answers under way. They hold no more memory than the constants
// say: a request that needs more waits, and if that does not help takes the
// memory of the answer whose reader has been stuck for longest.
type replies struct {
	scrapes, renders *memory
	buffers          atomic.Int32 // that are taken

	mu        sync.Mutex // guards all below; it is taken before that of a reply
	under     map[*reply]struct{}
	views     map[*merge.View]int // how many answers hold it
	newest    *merge.View         // of views; nil if nothing holds it any more
	relieving bool                // a goroutine runs
}

func newReplies() *replies {
	return &replies{scrapes: newMemory(scrapeMemory), renders: newMemory(renderMemory), under: map[*reply]struct{}{}, views: map[*merge.View]int{}}
}

// A reply is an answer that is under way. Its methods are for one goroutine, which
// must call end.
type reply struct {
	w     http.ResponseWriter
	of    *replies
	from  *memory
	held  int64 // bytes of memory; changed under the lock of replies
	view  *merge.View
	since atomic.Int64 // when the write that runs began, in nanoseconds; 0 for none

	mu    sync.Mutex // guards what follows, and the write deadline
	ended bool
}

// begin waits for so many bytes of memory. If there are none it answers with 503
// and returns nil.
func (s *replies) begin(w http.ResponseWriter, r *http.Request, from *memory, size int64) *reply {
	a := &reply{w: w, of: s, from: from}
	if !a.acquire(r.Context(), size, roomTimeout) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many answers are being sent to slow clients; try again", http.StatusServiceUnavailable)
		return nil
	}
	s.mu.Lock()
	s.under[a] = struct{}{}
	s.mu.Unlock()
	return a
}

// acquire takes memory for an answer that has none.
func (a *reply) acquire(ctx context.Context, size int64, timeout time.Duration) bool {
	size = min(size, a.from.most)
	if !a.from.tryAcquire(size) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if !a.from.acquire(ctx, size, a.of.relieveWaiting) {
			return false
		}
	}
	a.setHeld(size)
	return true
}

func (a *reply) setHeld(size int64) {
	a.of.mu.Lock()
	a.held = size
	a.of.mu.Unlock()
}

// shrink returns the memory beyond that size.
func (a *reply) shrink(size int64) {
	if spare := a.held - size; spare > 0 {
		a.setHeld(size)
		a.from.release(spare)
	}
}

// hold notes that the answer needs the view until its end.
func (a *reply) hold(v *merge.View) {
	s := a.of
	s.mu.Lock()
	defer s.mu.Unlock()
	a.view = v
	s.views[v]++
	if s.newest != v && s.views[v] == 1 {
		s.newest = v
	}
	if len(s.views) > 1 && s.oldViews() > oldViewMemory {
		s.relieve()
	}
}

// oldViews returns how much text views hold that are not the newest. What they
// share is counted several times.
func (s *replies) oldViews() (n int64) {
	for v := range s.views {
		if v != s.newest {
			n += int64(v.Len())
		}
	}
	return n
}

// end gives back all that the answer holds.
func (a *reply) end() {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	s := a.of
	s.mu.Lock()
	delete(s.under, a)
	held := a.held
	a.held = 0
	if v := a.view; v != nil {
		if s.views[v]--; s.views[v] == 0 {
			delete(s.views, v)
			if s.newest == v {
				s.newest = nil
			}
		}
	}
	s.mu.Unlock()
	a.from.release(held)
}

// Write sends b. Meanwhile the answer can be given up.
func (a *reply) Write(b []byte) (int, error) {
	a.since.Store(time.Now().UnixNano())
	defer a.since.Store(0)
	return a.w.Write(b)
}

// writeAll sends b in pieces, so that a slow reader is not taken for a stuck one.
func (a *reply) writeAll(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), pieceSize)
		if _, err := a.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// giveUp makes the write that runs fail, and with it the answer.
func (a *reply) giveUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended && a.since.Load() != 0 { // else the writer is not ours any more
		_ = http.NewResponseController(a.w).SetWriteDeadline(time.Unix(1, 0)) // the server may not have deadlines
	}
}

func (s *replies) relieveWaiting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relieve()
}

// relieve starts to give up answers, until nothing waits any more. The caller
// holds the lock.
func (s *replies) relieve() {
	if s.relieving {
		return
	}
	s.relieving = true
	go func() {
		tick := time.NewTicker(reliefTick)
		defer tick.Stop()
		for range tick.C {
			chosen, more := s.choose(time.Now())
			for _, a := range chosen {
				a.giveUp()
			}
			if !more {
				return
			}
		}
	}()
}

// choose returns the answers to give up now, and whether to come back.
func (s *replies) choose(now time.Time) (chosen []*reply, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	need := map[*memory]int64{s.scrapes: s.scrapes.wanted(), s.renders: s.renders.wanted()}
	old := s.oldViews() - oldViewMemory
	if need[s.scrapes] == 0 && need[s.renders] == 0 && old <= 0 {
		s.relieving = false
		return nil, false
	}
	type stuck struct {
		since int64
		*reply
	}
	var all []stuck
	for a := range s.under {
		if since := a.since.Load(); since != 0 && now.UnixNano()-since >= int64(stuckAfter) {
			all = append(all, stuck{since, a})
		}
	}
	slices.SortFunc(all, func(a, b stuck) int { return cmp.Compare(a.since, b.since) })
	holders := maps.Clone(s.views)
	for _, a := range all {
		ofOld := old > 0 && a.view != nil && a.view != s.newest
		if !ofOld && need[a.from] <= 0 {
			continue
		}
		need[a.from] -= a.held
		if holders[a.view]--; ofOld && holders[a.view] == 0 {
			old -= int64(a.view.Len())
		}
		chosen = append(chosen, a.reply)
	}
	return chosen, true
}
