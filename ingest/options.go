package ingest

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// What a push asks for beside its body stands in the query of its URL or in its
// header, for clients that cannot change the one or the other. The query goes
// first. Other parameters are not looked at, as in Pushgateway.
const (
	ttlHeader  = "X-Promspool-TTL"
	modeHeader = "X-Promspool-Mode"

	startHeader = "X-Promspool-Start"
)

// startTime reads the start time that the request gives its metrics; zero if none.
func startTime(r *http.Request) (time.Time, error) {
	text, where := r.Header.Get(startHeader), "header "+startHeader
	if query := r.URL.Query(); query.Has("start") {
		text, where = query.Get("start"), "parameter start"
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := ParseStart(text)
	if err != nil {
		return at, refuse(http.StatusBadRequest, "%s: %s", where, err)
	}
	return at, nil
}

// ParseStart reads a start time: Unix time in seconds, or as RFC 3339 has it.
func ParseStart(text string) (time.Time, error) {
	if seconds, err := exposition.ParseFloat(text); err == nil && seconds > 0 && seconds < 1e11 {
		return time.UnixMicro(int64(math.Round(seconds * 1e6))), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Year() < 1970 {
		return at, fmt.Errorf("%s is no time: use Unix time in seconds, or 2006-01-02T15:04:05Z", grouping.QuoteShort(text))
	}
	return at, nil
}

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
