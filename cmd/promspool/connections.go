package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections bounds how many connections of one listener are open. Whoever
// comes beyond that takes the place of one on which nothing happens: the one
// that has been idle for longest between two requests, or else the one that has
// been open for longest without a word. While all are at work it waits, which the
// time-outs of the server bound. So clients that keep connections, or open
// them for nothing, do not shut out a scrape.
type connections struct {
	net.Listener
	limit int

	mu     sync.Mutex
	room   sync.Cond // for one more, or the listener is closed
	closed bool
	open   map[*connection]struct{}
}

// connection is one that counts.
type connection struct {
	net.Conn
	of *connections

	// Under the lock of connections.
	state http.ConnState
	since time.Time
}

// quiet is how long a connection may be open without a word before another may
// take its place: clients send their request at once.
const quiet = time.Second

// limitConnections bounds the connections of the listener, which srv is going to
// serve. No limit is zero.
func limitConnections(l net.Listener, limit int, srv *http.Server) net.Listener {
	if limit == 0 {
		return l
	}
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
	for len(c.open) >= c.limit && !c.closed {
		spare, in := c.spare()
		switch {
		case spare == nil && in == 0:
			c.room.Wait()
		case spare == nil:
			again := time.AfterFunc(in, c.room.Broadcast)
			c.room.Wait()
			again.Stop()
		default:
			delete(c.open, spare)
			_ = spare.Conn.Close() // the server finds out by itself
		}
	}
	// The last one before Close may be one too many.
	c.open[added] = struct{}{}
	return added, nil
}

// spare returns the connection to give up, or in how long there may be one if
// nothing happens, zero for never.
func (c *connections) spare() (spare *connection, in time.Duration) {
	for x := range c.open {
		better := spare == nil || x.state == http.StateIdle && spare.state == http.StateNew ||
			x.state == spare.state && x.since.Before(spare.since)
		if (x.state == http.StateIdle || x.state == http.StateNew) && better {
			spare = x
		}
	}
	if spare != nil && spare.state == http.StateNew {
		if in = quiet - time.Since(spare.since); in > 0 {
			return nil, in
		}
	}
	return spare, 0
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

// NetConn returns the connection below, as that of TLS does.
func (x *connection) NetConn() net.Conn { return x.Conn }

// noteState is for http.Server.ConnState.
func noteState(conn net.Conn, state http.ConnState) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	x, ok := conn.(*connection)
	if !ok {
		return
	}
	x.of.mu.Lock()
	x.state, x.since = state, time.Now()
	x.of.mu.Unlock()
	if state == http.StateIdle {
		x.of.room.Signal()
	}
}
