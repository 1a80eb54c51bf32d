package ingest

import (
	"net/http"
	"strings"

	"github.com/promspool/promspool/filestore/record"
)

// What a push asks for beside its body stands in the query of its URL or in its
// header, for clients that cannot change the one or the other. The query goes
// first. Other parameters are not looked at, as in Pushgateway.
const (
	ttlHeader  = "X-Promspool-TTL"
	modeHeader = "X-Promspool-Mode"
)

// pushOptions reads what the request asks for.
func pushOptions(r *http.Request) (o record.PushOptions, err error) {
	query := r.URL.Query()
	ttl, where := r.Header.Get(ttlHeader), "header "+ttlHeader
	if query.Has("ttl") {
		ttl, where = query.Get("ttl"), "parameter ttl"
	}
	if ttl = strings.TrimSpace(ttl); ttl != "" || query.Has("ttl") {
		d, err := record.ParseTTL(ttl)
		if err != nil {
			return o, refuse(http.StatusBadRequest, "%s: %s", where, err)
		}
		o.TTL = &d
	}
	switch mode := r.Header.Get(modeHeader); strings.ToLower(strings.TrimSpace(mode)) {
	case "":
	case "accumulate":
		o.Accumulate = true
	default:
		return o, refuse(http.StatusBadRequest, "header %s: %q is no mode; there is only accumulate", modeHeader, mode)
	}
	if query.Has("accumulate") {
		switch v := query.Get("accumulate"); v {
		case "", "1", "true":
			o.Accumulate = true
		case "0", "false":
			o.Accumulate = false
		default:
			return o, refuse(http.StatusBadRequest, "parameter accumulate: %q is neither true nor false", v)
		}
	}
	if o.Accumulate && r.Method != http.MethodPost {
		return o, refuse(http.StatusBadRequest, "to accumulate is to add to what the group holds, and %s replaces it: use POST", r.Method)
	}
	return o, nil
}
