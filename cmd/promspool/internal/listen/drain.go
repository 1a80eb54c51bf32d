package listen

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// drainTimeout bounds the wait for the first request of a connection once the
// agent stops. A program that connects has one to send.
const drainTimeout = time.Second

// A drain is a listener for one server that loses no accepted connection when it
// stops. [http.Server.Shutdown] closes a connection whose first request is still
// on its way. So the drain stops accepting first, while the server still runs, and
// reports the end to the server only when every connection has reached the
// handler. Where the service manager holds the socket, later connections wait for
// the next agent.
type drain struct {
	net.Listener
	stop     func() error  // closes the listener below, once
	ended    chan struct{} // closed when no connection is accepted any more
	release  func()        // closes released, once
	released chan struct{} // closed when Accept may report that

	mu      sync.Mutex
	silent  map[net.Conn]bool // connections without a request so far
	stopped bool
	none    chan struct{} // closed when silent is empty; nil while finish does not wait
}

// newDrain sets the server up for it, whose handler and hooks must be complete.
func newDrain(l net.Listener, srv *http.Server) *drain {
	ended, released := make(chan struct{}), make(chan struct{})
	d := &drain{
		Listener: l, stop: sync.OnceValue(l.Close), silent: map[net.Conn]bool{},
		ended: ended, released: released, release: sync.OnceFunc(func() { close(released) }),
	}
	type connection struct{}
	further := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if further != nil {
			ctx = further(ctx, c)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.silent[c] = true
		return context.WithValue(ctx, connection{}, c)
	}
	note := srv.ConnState
	srv.ConnState = func(c net.Conn, state http.ConnState) {
		if note != nil {
			note(c, state)
		}
		if state == http.StateClosed || state == http.StateHijacked {
			d.noteRequest(c)
		}
	}
	handler := srv.Handler
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connection{}).(net.Conn)
		d.noteRequest(c)
		handler.ServeHTTP(w, r)
	})
	return d
}

// Accept hides from the server that the drain has stopped, because the server
// would stop serving as well.
func (d *drain) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	d.mu.Lock()
	stopped := d.stopped
	d.mu.Unlock()
	if err != nil && stopped {
		close(d.ended) // the server calls Accept from one goroutine, which does not return
		<-d.released
	}
	return c, err
}

// Close stops accepting. The server calls it in Shutdown and when it fails.
func (d *drain) Close() error {
	defer d.release()
	return d.stop()
}

// finish stops accepting. It waits up to [drainTimeout] for the first request of
// each accepted connection.
func (d *drain) finish(srv *http.Server) {
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	_ = d.stop()                    // Accept reports an error
	srv.SetKeepAlivesEnabled(false) // closes idle connections, and others after their answer
	select {
	case <-d.ended:
	case <-timeout.C:
		return
	}
	d.mu.Lock()
	none := make(chan struct{})
	d.none = none
	d.mu.Unlock()
	d.noteRequest(nil) // there may be none already
	select {
	case <-none:
	case <-timeout.C:
	}
}

// noteRequest records that a connection has had a request, or was closed.
func (d *drain) noteRequest(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.silent, c)
	if d.none != nil && len(d.silent) == 0 {
		close(d.none)
		d.none = nil
	}
}
