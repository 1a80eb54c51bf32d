package ingest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/promspool/promspool/filestore/record"
)

// What a push asks for beside its body stands in the query of its URL or in its
// header, for clients that cannot change the one or the other. The query goes
// first. Other parameters are not looked at, as in Pushgateway, unless they look like a
// misspelled name.
const (
	ttlHeader  = "X-Promspool-TTL"
	modeHeader = "X-Promspool-Mode"

	headerPrefix = "X-Promspool-"

	ttlParameter        = "ttl"
	accumulateParameter = "accumulate"
)

// checkNames returns an error for a parameter or header that would say nothing although
// it was probably meant to.
func checkNames(query url.Values, header http.Header) error {
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch name {
		case ttlParameter, accumulateParameter:
			continue
		}
		if known := Nearest(name, ttlParameter, accumulateParameter); known != "" {
			return refuse(http.StatusBadRequest, "unknown parameter %s: did you mean %s?", quote(name), known)
		}
	}
	unknown := ""
	for name := range header {
		if len(name) >= len(headerPrefix) && strings.EqualFold(name[:len(headerPrefix)], headerPrefix) &&
			!strings.EqualFold(name, ttlHeader) && !strings.EqualFold(name, modeHeader) && (unknown == "" || name < unknown) {
			unknown = name
		}
	}
	if unknown == "" {
		return nil
	}
	if known := Nearest(unknown[len(headerPrefix):], "TTL", "Mode"); known != "" {
		return refuse(http.StatusBadRequest, "unknown header %s: did you mean %s?", quote(unknown), headerPrefix+known)
	}
	return refuse(http.StatusBadRequest, "unknown header %s: there are %s and %s", quote(unknown), ttlHeader, modeHeader)
}

// pushOptions reads what the request asks for.
func pushOptions(r *http.Request) (o record.PushOptions, err error) {
	query := r.URL.Query()
	if err := checkNames(query, r.Header); err != nil {
		return o, err
	}
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
