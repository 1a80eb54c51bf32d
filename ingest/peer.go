package ingest

import (
	"context"
	"net"
	"net/http"
	"slices"

	"github.com/promspool/promspool/filestore/record"
)

// A peer is the user at the other end of a unix socket, as the kernel knows him:
// what he was when he connected.
type peer struct {
	uid    uint32
	groups []uint32
}

type peerKey struct{}

// WithPeer is for http.Server.ConnContext: it lets a Handler know who is at the
// other end, which only a unix socket tells. Without it, and over every other
// connection, who pushes is nobody in particular.
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

// An Ownership says who may change which groups: the user who created a group,
// root, and the members of one group of users. Users are known over unix sockets
// only; whoever pushes otherwise may change what nobody owns. It is immutable.
type Ownership struct {
	AdminGroup int // -1 for none
}

// writer returns in whose name a request changes groups, nil where they have no
// owners.
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

// checkAdmin refuses what is about the groups of everybody.
func (o *Ownership) checkAdmin(r *http.Request) error {
	if w := o.writer(r); w != nil && !w.Admin {
		return refuse(http.StatusForbidden, "with --push.owner-check only root and the members of --push.admin-group may remove many groups at once, over the unix socket")
	}
	return nil
}
