package listen

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections bounds the number of open connections of one listener. A new
// connection beyond the limit replaces another one: one that is idle between two
// requests, else one without a request so far, else one whose client does not
// read. While all others are in use the new one waits, which the timeouts of the
// server bound.
type connections struct {
	net.Listener
	limit int // 0 for none

	mu     sync.Mutex
	room   sync.Cond // for one more, or the listener is closed
	closed bool
	open   map[*connection]struct{}
}

// connection is one that counts.
type connection struct {
	net.Conn
	progress
	of *connections

	// Under the lock of connections.
	state http.ConnState
	since time.Time
}

// quiet is how long a connection may be open without a request before another may
// replace it: clients send their request at once.
const quiet = time.Second

// limitConnections bounds the connections of the listener, which srv is going to
// serve, and the time for which their clients may read nothing. A limit of zero
// is any number of connections.
func limitConnections(l net.Listener, limit int, srv *http.Server) net.Listener {
	c := &connections{Listener: l, limit: limit, open: map[*connection]struct{}{}}
	c.room.L = &c.mu
	srv.ConnState = noteState
	return c
}

// Accept waits for a connection and for room for it.
func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	added := &connection{Conn: conn, of: c, state: http.StateNew, since: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.limit > 0 && len(c.open) >= c.limit && !c.closed {
		spare, in := c.spare(time.Now())
		if spare.connection == nil {
			retry := time.AfterFunc(in, c.room.Broadcast)
			c.room.Wait()
			retry.Stop()
			continue
		}
		delete(c.open, spare.connection)
		if spare.rank == unread {
			spare.abort()
		} else {
			_ = spare.Conn.Close() // its client has taken all
		}
	}
	// The last one before Close may be one too many.
	c.open[added] = struct{}{}
	return added, nil
}

// A candidate is a connection that may be closed for a new one.
type candidate struct {
	*connection
	rank  rank
	since time.Time // of its last activity
}

// A rank says why a connection may be closed. The lowest one goes first, and of a
// rank the connection that has been inactive for longest.
type rank int

const (
	inUse  rank = iota // it must stay
	idle               // its client has all of the last answer and no new request
	silent             // it had no request yet
	unread             // its client does not read
)

// spare returns the connection to close. If there is none it returns the time
// after which to look for one.
func (c *connections) spare(now time.Time) (spare candidate, in time.Duration) {
	in = recheck
	for x := range c.open {
		rank, since, free := x.spareFrom(now)
		switch wait := free.Sub(now); {
		case wait > 0:
			in = min(in, wait)
		case rank == inUse:
		case spare.connection == nil || rank < spare.rank || rank == spare.rank && since.Before(spare.since):
			spare = candidate{x, rank, since}
		}
	}
	return spare, in
}

const (
	// recheck is the longest wait between two searches for a connection to close:
	// no event says that a client has stopped reading.
	recheck = time.Second
	// soon is the wait where the server is between two states.
	soon = 10 * time.Millisecond
)

// spareFrom returns the moment from which the connection may be closed, and the
// time of its last activity.
func (x *connection) spareFrom(now time.Time) (rank rank, since, free time.Time) {
	p := x.look(now)
	switch {
	case x.state != http.StateIdle && x.state != http.StateNew:
		if since, waits := p.waitsForReader(); waits {
			return unread, since, since.Add(stuckReader)
		}
		return inUse, since, free
	case p.queued > 0:
		// The handler has ended, and the kernel still sends its answer.
		return unread, p.taken, p.taken.Add(stuckReader)
	case !p.reads || unreceived(x.Conn) > 0:
		return inUse, since, now.Add(soon) // the server has a request to read
	case !p.requested:
		return silent, x.since, x.since.Add(quiet)
	case p.http2: // its last answer may still be in a buffer of the server
		return idle, x.since, x.since.Add(quiet)
	}
	return idle, x.since, x.since
}

// Close closes the listener. Open connections stay.
func (c *connections) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.room.Broadcast()
	return c.Listener.Close()
}

// Close closes the connection and makes room.
func (x *connection) Close() error {
	c := x.of
	c.mu.Lock()
	delete(c.open, x)
	c.mu.Unlock()
	c.room.Signal()
	return x.Conn.Close()
}

// abort closes the connection and what the kernel still has to send over it,
// which would stay there for minutes. The server finds out by itself.
func (x *connection) abort() {
	if tcp, ok := x.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = x.Conn.Close()
}

// NetConn returns the connection below, as that of TLS does.
func (x *connection) NetConn() net.Conn { return x.Conn }

// connectionOf returns the connection below one of the server, or nil if it was
// not accepted by this package.
func connectionOf(conn net.Conn) *connection {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	x, _ := conn.(*connection)
	return x
}

// noteState is for http.Server.ConnState.
func noteState(conn net.Conn, state http.ConnState) {
	x := connectionOf(conn)
	if x == nil {
		return
	}
	x.of.mu.Lock()
	x.state, x.since = state, time.Now()
	x.of.mu.Unlock()
	if state == http.StateIdle {
		x.of.room.Signal()
	}
}
