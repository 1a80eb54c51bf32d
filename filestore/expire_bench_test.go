package filestore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

// BenchmarkExpireMany expires many groups at once and reports the longest time that a
// push to another group took meanwhile.
//
//	EXPIRE_GROUPS=100000 go test -run - -bench ExpireMany -benchtime 1x ./filestore
func BenchmarkExpireMany(b *testing.B) {
	groups := 1000
	if n, err := strconv.Atoi(os.Getenv("EXPIRE_GROUPS")); err == nil {
		groups = n
	}
	for range b.N {
		b.StopTimer()
		dir, c := b.TempDir(), newCalendar()
		for i := range groups {
			g := group(b, "job", fmt.Sprint(i))
			text := fmt.Sprintf("# promspool:group %v\n# promspool:ttl 1h\n", g)
			for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
				text += fmt.Sprintf("# TYPE %s gauge\n%s{job=\"%d\"} %d\n", name, name, i, i)
			}
			text += fmt.Sprintf("# TYPE push_failure_time_seconds gauge\npush_failure_time_seconds{job=\"%d\"} 0\n# TYPE push_time_seconds gauge\npush_time_seconds{job=\"%d\"} 1.763628e+09\n", i, i)
			must(b, os.WriteFile(filepath.Join(dir, g.FileName()), []byte(text), 0o644))
		}
		s := must1(filestore.Open(dir, &filestore.Options{Now: c.now}))
		c.pass(time.Hour)
		done := make(chan time.Duration)
		ctx, cancel := context.WithCancel(b.Context())
		go func() {
			longest := time.Duration(0)
			for i := 0; ctx.Err() == nil; i++ {
				start := time.Now()
				must(b, s.Replace(group(b, "job", "other"), families(b, fmt.Sprintf("m %d\n", i)), record.PushOptions{}))
				longest = max(longest, time.Since(start))
			}
			done <- longest
		}()
		b.StartTimer()
		var once sync.Once
		start := time.Now()
		must(b, s.Expire(b.Context(), func(filestore.ExpiryEvent) { // the first event comes after all have expired in the view
			once.Do(func() { b.ReportMetric(time.Since(start).Seconds(), "withheld-s") })
		}))
		b.StopTimer()
		cancel()
		b.ReportMetric(float64((<-done).Microseconds())/1000, "longest-push-ms")
		if got := s.View().Totals().Expired; got != groups {
			b.Errorf("%d of %d have expired", got, groups)
		}
		must(b, s.Close())
	}
}
