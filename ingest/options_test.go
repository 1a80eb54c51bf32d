package ingest_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
)

func TestLifetimeOfAPush(t *testing.T) {
	a := start(t, nil, nil)
	g, err := grouping.New(exposition.Label{Name: "job", Value: "j"})
	if err != nil {
		t.Fatal(err)
	}
	const none = time.Duration(-1)
	for _, test := range []struct {
		method, query, header string
		want                  time.Duration
	}{
		{"PUT", "?ttl=24h", "", 24 * time.Hour},
		{"POST", "", "", 24 * time.Hour},
		{"POST", "?ttl=0", "", 0},
		{"PUT", "?x=y", "", none},
		{"POST", "", " 2w ", 14 * 24 * time.Hour},
		{"PUT", "?ttl=1h30m&x=y", "2w", 90 * time.Minute},
	} {
		a.want(200, test.method, "/metrics/job/j"+test.query, "m 1\n", "X-Promspool-TTL", test.header)
		got, stated := a.store.View().File(g.FileName()).TTL()
		if !stated {
			got = none
		}
		if got != test.want {
			t.Errorf("%s %q with header %q: the lifetime is %v, want %v", test.method, test.query, test.header, got, test.want)
		}
	}
	before := a.scrape()
	for query, header := range map[string]string{"?ttl=": "", "?ttl=soon": "1h", "?ttl=-1h": "", "?ttl=3600": "", "": "1 day", "?ttl=99999999999w": ""} {
		got := a.want(400, "PUT", "/metrics/job/j"+query, "m 2\n", "X-Promspool-TTL", header)
		if !strings.Contains(strings.ToLower(got.body), "ttl: ") {
			t.Errorf("the answer to %q, %q does not say where the fault is: %q", query, header, got.body)
		}
	}
	if got := a.scrape(); got != before {
		t.Errorf("refused pushes have left\n%s\nof\n%s", got, before)
	}
}

// A malformed parameter is rejected if it may be one that promspool reads.
func TestMalformedQueries(t *testing.T) {
	a := start(t, nil, nil)
	for _, query := range []string{"ttl=1s;accumulate=1", "ttl=%zz", "x=%&accumulate=%", "token=a;ttl=1s"} {
		for _, method := range []string{"PUT", "POST"} {
			if got := a.want(400, method, "/metrics/job/j?"+query, "m 1\n"); !strings.Contains(got.body, strconv.Quote(query[strings.Index(query, "&")+1:])) {
				t.Errorf("%s ?%s is answered with %q", method, query, got.body)
			}
		}
	}
	a.wantSamples()
	a.want(200, "PUT", "/metrics/job/j?token=a%3Bttl=1s&x=%zz;y", "m 1\n")
	a.wantSamples(`m{job="j"} 1`)
}

// Each request that is acknowledged counts once, and no other.
func TestAccumulate(t *testing.T) {
	a := start(t, nil, nil)
	const path = "/metrics/job/j"
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for k := range 10 {
				query, header := "?accumulate", ""
				if k%2 == 0 {
					query, header = "", "Accumulate"
				}
				a.want(200, "POST", path+query, fmt.Sprintf("# TYPE c counter\nc 1\n# TYPE g gauge\ng %d\n", i), "X-Promspool-Mode", header)
			}
		})
	}
	group.Wait()
	if got := a.samples(); len(got) != 2 || got[0] != `c{job="j"} 40` {
		t.Errorf("scrape has %q", got)
	}
	a.want(200, "POST", path+"?accumulate=false", "# TYPE c counter\nc 1\n# TYPE g gauge\ng 7\n", "X-Promspool-Mode", "accumulate")
	a.wantSamples(`c{job="j"} 1`, `g{job="j"} 7`)
	for _, refused := range [][3]string{
		{"PUT", "?accumulate=1", ""}, {"PUT", "", "accumulate"}, {"POST", "?accumulate=maybe", ""}, {"POST", "", "add"},
	} {
		a.want(400, refused[0], path+refused[1], "# TYPE c counter\nc 1\n", "X-Promspool-Mode", refused[2])
	}
	a.want(400, "POST", path+"?accumulate", "# TYPE s summary\ns{quantile=\"0.5\"} 1\n")
	a.wantSamples(`c{job="j"} 1`, `g{job="j"} 7`)
}

// TestMistakesInNamesAreRejected: a misspelled parameter would do nothing, without a
// sign of it.
func TestMistakesInNamesAreRejected(t *testing.T) {
	a := start(t, nil, nil)
	for query, want := range map[string]string{
		"tll=1h": "ttl", "TTL=1h": "ttl", "Ttl=1h": "ttl", "tl=1h": "ttl", "tlt=1h": "ttl", "ttll=1h": "ttl", "ttlss=1h": "ttl",
		"acumulate=1": "accumulate", "Accumulate": "accumulate", "accumulat": "accumulate", "accumulated=1": "accumulate", "acumulat=1": "accumulate", "accmuulate=1": "accumulate",
	} {
		got := a.want(400, "POST", "/metrics/job/j?"+query, "a 1\n").body
		if !strings.Contains(got, "did you mean "+want+"?") {
			t.Errorf("?%s is answered with %q, want %s", query, got, want)
		}
	}
	for header, want := range map[string]string{
		"X-Promspool-TTLL": "X-Promspool-TTL", "X-Promspool-Tll": "X-Promspool-TTL", "x-promspool-mod": "X-Promspool-Mode", "X-Promspool-Modes": "X-Promspool-Mode",
		"X-Promspool-Lifetime": "X-Promspool-TTL", "X-Promspool-": "X-Promspool-TTL",
	} {
		for _, method := range []string{"POST", "PUT"} {
			got := a.want(400, method, "/metrics/job/j", "a 1\n", header, "1h").body
			if !strings.Contains(got, want) {
				t.Errorf("%s is answered with %q, want %s", header, got, want)
			}
		}
	}
	a.wantSamples()
	for _, query := range []string{"token=x", "t=1", "ts=1", "url=x", "_=1", "", "cumulative=1", "a=b&c", "x%zz"} {
		a.want(200, "POST", "/metrics/job/j?"+query, "a 1\n", "X-Prometheus", "1", "X-Promspooler", "1")
	}
}
