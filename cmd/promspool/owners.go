package main

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"slices"
	"strconv"

	"github.com/promspool/promspool/ingest"
)

// ownership returns who may change which groups, nil if everybody may each.
func (s *serve) ownership(listeners []net.Listener) (*ingest.Ownership, error) {
	switch {
	case !s.ownerCheck && s.adminGroup != "":
		return nil, &usageError{errors.New("--push.admin-group is for --push.owner-check, which is not given")}
	case !s.ownerCheck:
		return nil, nil
	case !ingest.PeersAreKnown:
		return nil, &usageError{errors.New("--push.owner-check is for Linux only")}
	case !slices.ContainsFunc(listeners, func(l net.Listener) bool { return l.Addr().Network() == "unix" }):
		return nil, &usageError{errors.New("--push.owner-check needs --push.socket: over the network it is not known who pushes")}
	}
	gid, err := groupNumber(s.adminGroup)
	if err != nil {
		return nil, fmt.Errorf("--push.admin-group: %w", err)
	}
	return &ingest.Ownership{AdminGroup: gid}, nil
}

// groupNumber returns the number of a group of users that is given by name or
// number, -1 for none.
func groupNumber(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	found, err := user.LookupGroup(group)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(found.Gid)
}
