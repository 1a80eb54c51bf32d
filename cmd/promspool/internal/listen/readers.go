package listen

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// A client that asks and does not read its answer holds the memory of that
// answer. The timeout of the server for a whole answer must be long enough for a
// slow client, so there is a second one for clients without any progress.
const (
	// readerTimeout is how long a client may read nothing while there is more for
	// it. Its connection is closed then, or its HTTP/2 stream reset.
	readerTimeout = 10 * time.Second
	// stuckReader is how long a client may read nothing before a new connection may
	// take the place of its connection.
	stuckReader = 2 * time.Second
	// progressTick is how often a blocked write is looked at.
	progressTick = time.Second
	// firstTick is when it is looked at first, to learn what the kernel has taken at once.
	firstTick = time.Second / 10
	// streamsInAll bounds the HTTP/2 streams that are served at once over all
	// connections of a listener: each costs some 45 KiB even if its client reads nothing.
	// It is shared out evenly, so that no connection takes the streams of others. A
	// client with more to ask waits or opens another connection.
	streamsInAll = 2048
	leastStreams = 4
	mostStreams  = 100
	// streamPiece is how much of an answer must get through in readerTimeout over
	// HTTP/2, where nothing tells about less. It is the usual size of a frame.
	streamPiece = 16 << 10
	// leastData is the size of a write over HTTP/2 that is progress of a stream. A
	// smaller one may be an answer to a ping.
	leastData = 1000
	// streamRest is how much the server may have of an answer when its handler ends.
	streamRest = 4 << 10
)

// streamsAtOnce returns the number of HTTP/2 streams that one of so many connections
// may have.
func streamsAtOnce(connections int) int {
	if connections == 0 { // any number
		return leastStreams
	}
	return min(max(streamsInAll/connections, leastStreams), mostStreams)
}

// progress tracks how a client sends requests and reads answers.
type progress struct {
	mu       sync.Mutex // guards all below, and the write deadline of the connection; taken after that of connections
	deadline time.Time  // as the server has set it; zero for none
	transfer
}

// transfer is the state of a connection at one moment.
type transfer struct {
	reads     bool      // a call of Read runs
	requested bool      // there was a request
	writes    int       // calls of Write that run
	began     time.Time // when they did
	moved     time.Time // progress of these calls
	queued    int       // bytes that the kernel had to send when it was last asked; -1 if that is not known
	taken     time.Time // when the client last took a part of an answer, as far as is known

	// HTTP/2 only.
	http2        bool
	handlers     int       // that run
	blocked      int       // of these, the ones that wait for their client
	streamsMoved time.Time // when a stream last began, took something or ended
}

// look updates the progress with what the kernel has sent, and returns it.
func (x *connection) look(now time.Time) transfer {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ask(now)
	return x.transfer
}

// ask updates the progress with what the kernel has sent. The caller holds the lock.
func (x *connection) ask(now time.Time) {
	left, known := unsent(x.Conn)
	switch {
	case !known:
		x.queued = -1
		return
	case x.writes > 0 && left != x.queued:
		x.moved = now // more than before is progress as well: the kernel has had room
	case left < x.queued:
		x.taken = now
	}
	x.queued = left
}

// waitsForReader returns the time since which the client has read nothing, and
// whether the connection waits for that alone.
func (p *transfer) waitsForReader() (since time.Time, waits bool) {
	switch {
	case p.writes > 0:
		return p.moved, true
	case p.http2 && p.handlers == p.blocked:
		// An answer that its handler has left is under way without a call of Write.
		if p.taken.After(p.streamsMoved) {
			return p.taken, true
		}
		return p.streamsMoved, true
	}
	return since, false
}

// slow reports whether the kernel's buffer has been full for a while because the
// client reads slowly.
func (p *progress) slow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writes > 0 && time.Since(p.began) >= progressTick
}

// setRequested records that there was a request.
func (p *progress) setRequested() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requested = true
}

// stream counts a change of the streams of the connection.
func (p *progress) stream(handlers, blocked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.http2 = true
	p.handlers += handlers
	p.blocked += blocked
	p.streamsMoved = time.Now()
}

// errStuckReader says why a connection was closed.
var errStuckReader = errors.New("the client has read nothing for " + readerTimeout.String())

// Read reads a part of a request.
func (x *connection) Read(b []byte) (int, error) {
	x.setReads(true)
	defer x.setReads(false)
	return x.Conn.Read(b)
}

func (x *connection) setReads(reads bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reads = reads
}

// Write writes b. It fails at the deadline of the server, and before that if
// the client takes nothing for [readerTimeout]. What the client has taken of b so
// far is progress, however little it is.
func (x *connection) Write(b []byte) (n int, err error) {
	start := time.Now()
	x.mu.Lock()
	x.moved, x.queued = start, -1
	if x.writes++; x.writes == 1 {
		x.began = start
	}
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		now := time.Now()
		x.ask(now)
		x.writes--
		if !x.http2 || len(b) >= leastData {
			x.taken = now
		}
	}()
	for next := start.Add(firstTick); ; {
		x.arm(next)
		m, err := x.Conn.Write(b[n:])
		n += m
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		now := time.Now()
		x.mu.Lock()
		// The kernel takes more only when a good part of its buffer is free, which
		// can be seconds of a slow client. So ask how much it has sent.
		if x.ask(now); m > 0 {
			x.moved = now
		}
		next = now.Add(progressTick)
		if last := x.moved.Add(readerTimeout); last.Before(next) {
			next = last
		}
		stuck, over := now.Sub(x.moved) >= readerTimeout, !x.deadline.IsZero() && !x.deadline.After(now)
		x.mu.Unlock()
		switch {
		case over:
			return n, err
		case stuck:
			x.abort()
			return n, errStuckReader
		}
	}
}

// arm sets the deadline for the next look at a write.
func (x *connection) arm(at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.deadline.IsZero() && x.deadline.Before(at) {
		at = x.deadline
	}
	_ = x.Conn.SetWriteDeadline(at) // the write fails as well
}

// SetWriteDeadline sets the deadline for all writes, those under way as well.
func (x *connection) SetWriteDeadline(t time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.deadline = t
	if x.writes > 0 && (t.IsZero() || time.Until(t) > progressTick) {
		return nil // the next look will find it
	}
	return x.Conn.SetWriteDeadline(t)
}

// SetDeadline sets the deadline for reads and writes.
func (x *connection) SetDeadline(t time.Time) error {
	return errors.Join(x.Conn.SetReadDeadline(t), x.SetWriteDeadline(t))
}

type connectionKey struct{}

// withConnection is for http.Server.ConnContext and [paceStreams].
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, connectionOf(conn))
}

// paceStreams resets HTTP/2 streams whose client takes nothing for
// [readerTimeout]. A connection with such streams may be well: the client has not
// opened its window for them.
func paceStreams(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(connectionKey{}).(*connection)
		if conn != nil {
			conn.setRequested()
		}
		if r.ProtoMajor < 2 || conn == nil {
			next.ServeHTTP(w, r)
			return
		}
		s := &stream{ResponseWriter: w, conn: conn}
		conn.stream(1, 0)
		complete := false
		defer func() { s.end(complete) }()
		next.ServeHTTP(s, r)
		complete = true
	})
}

// A stream is the answer to a request over HTTP/2. Its methods are for one
// goroutine.
type stream struct {
	http.ResponseWriter
	conn    *connection
	written int

	mu      sync.Mutex  // held while the answer is reset
	waiting bool        // for the client
	timer   *time.Timer // runs out if that takes too long
}

// Write writes b in pieces, each of which has its own time.
func (s *stream) Write(b []byte) (n int, err error) {
	for first := true; first || n < len(b) && err == nil; first = false {
		var m int
		s.wait(func() { m, err = s.ResponseWriter.Write(b[n:min(len(b), n+streamPiece)]) })
		n += m
		s.written += m
	}
	return n, err
}

// Flush sends the buffered part of the answer.
func (s *stream) Flush() {
	s.wait(func() { _ = http.NewResponseController(s.ResponseWriter).Flush() })
}

// Unwrap is for http.ResponseController.
func (s *stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// wait calls write, and resets the stream if that takes too long.
func (s *stream) wait(write func()) {
	s.conn.stream(0, 1)
	s.mu.Lock()
	s.waiting = true
	if s.timer == nil {
		s.timer = time.AfterFunc(readerTimeout, s.expire)
	} else {
		s.timer.Reset(readerTimeout)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.waiting = false
		s.timer.Stop()
		s.mu.Unlock()
		s.conn.stream(0, -1)
	}()
	write()
}

// expire resets the stream if its client is to blame.
func (s *stream) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.waiting:
	case s.conn.slow():
		// The connection is slow, and Write of it decides for how long. All streams
		// share it, so a piece of one may take long.
		s.timer.Reset(readerTimeout)
	default:
		_ = http.NewResponseController(s.ResponseWriter).SetWriteDeadline(time.Unix(1, 0))
	}
}

// end sends the rest of a large answer. What a handler left of a small one the
// server sends, with its length, and in the time for a piece.
func (s *stream) end(sent bool) {
	defer s.conn.stream(-1, 0)
	switch {
	case sent && s.written > streamRest:
		s.Flush()
	case !s.conn.slow():
		_ = http.NewResponseController(s.ResponseWriter).SetWriteDeadline(time.Now().Add(readerTimeout))
	}
}
