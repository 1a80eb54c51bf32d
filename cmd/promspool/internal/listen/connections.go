package listen

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections bounds how many connections of one listener are open. A new
// connection beyond that takes the place of another one, in this order: one that
// is idle between two requests, one that has not sent anything, one whose
// client does not read its answer. While all others are at work the new one
// waits, which the timeouts of the server bound. So clients that keep connections,
// open them for nothing or never read do not shut out a scrape.
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

// quiet is how long a connection may be open without a word before another may
// take its place: clients send their request at once.
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
		spare, in := c.spare()
		if spare == nil {
			retry := time.AfterFunc(in, c.room.Broadcast)
			c.room.Wait()
			retry.Stop()
			continue
		}
		delete(c.open, spare)
		spare.abort()
	}
	// The last one before Close may be one too many.
	c.open[added] = struct{}{}
	return added, nil
}

// spare returns the connection to give up, or in how long there may be one if
// nothing happens.
func (c *connections) spare() (spare *connection, in time.Duration) {
	now := time.Now()
	in = recheck
	var best int
	var since time.Time
	for x := range c.open {
		rank, from, free := x.spareFrom()
		switch wait := free.Sub(now); {
		case rank == 0:
		case wait > 0:
			in = min(in, wait)
		case spare == nil || rank < best || rank == best && from.Before(since):
			spare, best, since = x, rank, from
		}
	}
	return spare, in
}

// recheck is how often connections are looked at while a new one waits: no event
// says that a client has stopped reading.
const recheck = time.Second

// spareFrom returns the moment from which the connection may be given up and
// since when nothing has happened on it. The lowest rank is given up first; zero
// means that the connection is at work.
func (x *connection) spareFrom() (rank int, since, free time.Time) {
	switch x.state {
	case http.StateIdle:
		if x.hasStreams() { // its last answer may still be in a buffer of the server
			return 1, x.since, x.since.Add(quiet)
		}
		return 1, x.since, x.since
	case http.StateNew:
		return 2, x.since, x.since.Add(quiet)
	}
	if since, stuck := x.stuck(); stuck {
		return 3, since, since.Add(stuckReader)
	}
	return 0, since, free
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

// connectionOf returns what a server's connection is based on, nil if that is
// none of ours.
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
