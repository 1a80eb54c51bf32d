package ingest

import (
	"context"
	"net"
	"net/http"
	"slices"

	"github.com/promspool/promspool/filestore/record"
)

// A peer is the user at the other end of a unix socket at the time of the
// connection, as the kernel reports it.
type peer struct {
	uid    uint32
	groups []uint32
}

type peerKey struct{}

// WithPeer is for http.Server.ConnContext. It gives a Handler the user at the other
// end of a unix socket. Without it, and over other connections, the user is unknown.
func WithPeer(ctx context.Context, conn net.Conn) context.Context {
	for {
		switch c := conn.(type) {
		case *net.UnixConn:
			if p, err := peerOf(c); err == nil {
				return context.WithValue(ctx, peerKey{}, p)
			}
			return ctx
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return ctx
		}
	}
}

// An Ownership restricts changes of a group to the user that created it, root, and
// the members of one group of users. Users are known only over unix sockets; other
// clients may change groups without an owner. It is immutable.
type Ownership struct {
	AdminGroup int // -1 for none
}

// writer returns the user of a request, or nil if groups have no owners.
func (o *Ownership) writer(r *http.Request) *record.Writer {
	if o == nil {
		return nil
	}
	p, known := r.Context().Value(peerKey{}).(peer)
	if !known {
		return &record.Writer{}
	}
	admin := p.uid == 0 || o.AdminGroup >= 0 && slices.Contains(p.groups, uint32(o.AdminGroup))
	return &record.Writer{UID: p.uid, Known: true, Admin: admin}
}

// checkAdmin rejects requests about all groups, except from administrators.
func (o *Ownership) checkAdmin(r *http.Request) error {
	if w := o.writer(r); w != nil && !w.Admin {
		return refuse(http.StatusForbidden, "with --push.owner-check only root and the members of --push.admin-group may remove many groups at once, over the unix socket")
	}
	return nil
}
