package listen

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// drainPatience is how long a connection may take to bring its first request
// once the agent stops. A program that connects has one to send.
const drainPatience = time.Second

// A drain is a listener for one server, whose end loses no connection that was
// accepted. [http.Server.Shutdown] would: it hangs up on a connection whose first
// request is still on its way. So accepting ends first, while the server goes
// on, and the server is told only when every connection has come as far as the
// handler. Where the service manager holds the socket, what is not accepted any
// more waits for the next agent.
type drain struct {
	net.Listener
	stop     func() error  // closes the listener below, once
	ended    chan struct{} // closed when no connection is accepted any more
	release  func()        // closes released, once
	released chan struct{} // closed when the server may know that

	mu      sync.Mutex
	silent  map[net.Conn]bool // connections without a request so far
	stopped bool
	none    chan struct{} // closed when silent is empty; nil while nobody waits for that
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
			d.heard(c)
		}
	}
	handler := srv.Handler
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connection{}).(net.Conn)
		d.heard(c)
		handler.ServeHTTP(w, r)
	})
	return d
}

// Accept hides from the server that the drain has stopped: it would return, and
// leave it at that.
func (d *drain) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	d.mu.Lock()
	stopped := d.stopped
	d.mu.Unlock()
	if err != nil && stopped {
		close(d.ended) // the server is in here once, and does not come again
		<-d.released
	}
	return c, err
}

// Close is what the server calls in its Shutdown, or when it fails.
func (d *drain) Close() error {
	defer d.release()
	return d.stop()
}

// finish ends accepting and waits for the first requests of what was accepted,
// as long as that has patience.
func (d *drain) finish(srv *http.Server) {
	patience := time.NewTimer(drainPatience)
	defer patience.Stop()
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	_ = d.stop()                    // the server would be told by Accept
	srv.SetKeepAlivesEnabled(false) // closes idle connections, and others after their answer
	select {
	case <-d.ended:
	case <-patience.C:
		return
	}
	d.mu.Lock()
	none := make(chan struct{})
	d.none = none
	d.mu.Unlock()
	d.heard(nil) // there may be none already
	select {
	case <-none:
	case <-patience.C:
	}
}

// heard notes that a connection has brought a request, or is gone.
func (d *drain) heard(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.silent, c)
	if d.none != nil && len(d.silent) == 0 {
		close(d.none)
		d.none = nil
	}
}
