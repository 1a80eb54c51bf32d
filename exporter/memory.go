package exporter

import (
	"context"
	"slices"
	"sync"
)

// memory is a number of bytes that answers share. Of the requests that wait for
// some the last one is served first: under an attack by clients that do not read
// it is most likely one whose client still waits. It is safe for concurrent use.
type memory struct {
	most int64 // for one answer

	mu      sync.Mutex // guards all below
	free    int64
	waiting []*waiter // the first of them is served last
}

type waiter struct {
	size  int64
	ready chan struct{} // closed when it has been served
}

func newMemory(size int64) *memory { return &memory{free: size, most: size / 2} }

// tryAcquire takes memory if there is enough.
func (m *memory) tryAcquire(size int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.free < size {
		return false
	}
	m.free -= size
	return true
}

// acquire waits for memory until ctx is done, and reports whether it has it. It
// calls waits once it is among those that wait.
func (m *memory) acquire(ctx context.Context, size int64, waits func()) bool {
	m.mu.Lock()
	if m.free >= size {
		m.free -= size
		m.mu.Unlock()
		return true
	}
	w := &waiter{size, make(chan struct{})}
	m.waiting = append(m.waiting, w)
	m.mu.Unlock()
	waits()
	select {
	case <-w.ready:
		return true
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.waiting, w); i >= 0 {
		m.waiting = slices.Delete(m.waiting, i, i+1)
		m.serve() // there may be enough for the others
		return false
	}
	return true // served in the same moment
}

// release gives memory back.
func (m *memory) release(size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free += size
	m.serve()
}

// serve gives memory to those that wait for it. The caller holds the lock.
func (m *memory) serve() {
	for n := len(m.waiting) - 1; n >= 0 && m.waiting[n].size <= m.free; n-- {
		m.free -= m.waiting[n].size
		close(m.waiting[n].ready)
		m.waiting = slices.Delete(m.waiting, n, n+1)
	}
}

// wanted returns how many bytes are waited for.
func (m *memory) wanted() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.waiting {
		n += w.size
	}
	return n
}
