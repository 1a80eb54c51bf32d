// Package listen opens the sockets of an agent and serves HTTP on them.
//
// # The idea
//
// A listener, a connection and a server each wrap one of net and net/http, and
// do not depend on the handler. [On] opens addresses, [Socket] opens a unix
// socket with its own permissions, and [Serve] serves one handler on all of them
// until its context ends.
//
// # The promise
//
//   - Clients that open connections, keep them or never read do not shut out
//     others. The number of connections at each address is bounded. A new one
//     replaces one that is idle, silent or unread. A client that reads nothing for
//     ten seconds is disconnected; over HTTP/2 its stream is reset.
//   - A stop loses no accepted request: requests on open connections are answered
//     before Serve returns, within a bounded time.
//   - A unix socket has its final permissions from the start, and replaces only one
//     on which no process listens.
//
// # Limits
//
// Only Linux reports how far a client has read. On other systems the kernel's
// buffer counts as read.
package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sync/errgroup"
)

// On opens one address: host:port, or vsock://:port as in the exporter toolkit.
func On(address string) (net.Listener, error) {
	l, err := listenOn(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listening on %s: %w: stop the other program (ss -ltnp lists it), or set another --web.listen-address", address, plainCause(err))
	case err != nil:
		return nil, fmt.Errorf("listening on %s: %w", address, plainCause(err))
	}
	return l, nil
}

func listenOn(address string) (net.Listener, error) {
	port, ok := strings.CutPrefix(address, "vsock://:")
	if !ok {
		return net.Listen("tcp", address)
	}
	n, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("invalid port %q", port)
	}
	return vsock.Listen(uint32(n), nil)
}

// plainCause returns the error without the address, which the message has already.
func plainCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Config configures [Serve]. Handler, ReadTimeout and Logger are required.
type Config struct {
	// Handler answers all requests. It is called from many goroutines at once.
	Handler http.Handler
	// MaxConnections bounds the open connections of each address; zero means any number.
	MaxConnections int
	// ReadTimeout is how long a request may take to arrive.
	ReadTimeout time.Duration
	// ConnContext adds to the context of a new connection; nil adds nothing.
	ConnContext func(ctx context.Context, c net.Conn) context.Context
	// Serve serves one listener, as [http.Server.Serve] does, which is the default.
	Serve func(l net.Listener, srv *http.Server) error
	// Stopping is called for each listener when its end begins; nil is not called.
	Stopping func()
	// Logger gets errors of connections, at debug level.
	Logger *slog.Logger
}

// shutdownTimeout bounds the wait for requests in flight after a signal.
const shutdownTimeout = 15 * time.Second

// Serve serves the listeners until ctx ends, and then answers the requests in
// flight. If one listener fails, all stop. It closes the listeners.
func Serve(ctx context.Context, listeners []net.Listener, c Config) error {
	serve := c.Serve
	if serve == nil {
		serve = func(l net.Listener, srv *http.Server) error { return srv.Serve(l) }
	}
	var group errgroup.Group
	done, stop := context.WithCancel(ctx)
	defer stop()
	for _, l := range listeners {
		srv := c.newServer() // one for each: the toolkit wraps its handler
		l := newDrain(limitConnections(l, c.MaxConnections, srv), srv)
		group.Go(func() error {
			defer stop()
			if err := serve(l, srv); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving on %s: %w", l.Addr(), err)
			}
			return nil
		})
		group.Go(func() error {
			<-done.Done()
			if c.Stopping != nil {
				c.Stopping()
			}
			l.finish(srv)
			ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
			defer cancel()
			if err := srv.Shutdown(ctx); err != nil {
				return fmt.Errorf("stopping: requests were still in flight after %s", shutdownTimeout)
			}
			return nil
		})
	}
	return group.Wait()
}

// newServer returns a server with all timeouts set.
func (c *Config) newServer() *http.Server {
	return &http.Server{
		Handler: paceStreams(c.Handler),
		HTTP2:   &http.HTTP2Config{MaxConcurrentStreams: streamsAtOnce(c.MaxConnections)},
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if c.ConnContext != nil {
				ctx = c.ConnContext(ctx, conn)
			}
			return withConnection(ctx, conn)
		},
		ReadHeaderTimeout: min(c.ReadTimeout, 10*time.Second),
		ReadTimeout:       c.ReadTimeout,
		WriteTimeout:      c.ReadTimeout + time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    256 << 10,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
}
