package exporter_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"

	dto "github.com/prometheus/client_model/go"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore"
)

// Scrapes of every kind while groups come, change and go: each is one state of
// the spool.
func TestScrapesWhileTheSpoolChanges(t *testing.T) {
	s, err := filestore.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reg := registry()
	reg.MustRegister(exporter.NewCollector(s.View))
	e := exporter.New(exporter.Config{View: s.View, Own: reg})
	stop := make(chan struct{})
	var pushers, scrapers sync.WaitGroup
	for p := range 2 {
		pushers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(p), 1))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				g, err := grouping.New(exposition.Label{Name: "job", Value: fmt.Sprintf("j%d-%d", p, r.IntN(20))})
				if err != nil {
					t.Error(err)
					return
				}
				if r.IntN(5) == 0 {
					err = s.Delete(g)
				} else {
					var f *exposition.Families
					f, err = exposition.Parse(fmt.Appendf(nil, "one %d\nthe_other %d\n{\"ut.f8\",\"l.x\"=\"1\"} 1\n", i, i), exposition.Limits{}, true)
					if err == nil {
						err = s.Replace(g, f, record.PushOptions{})
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, header := range [][]string{
		{"Accept-Encoding", "gzip", "Accept", allowUTF8}, {}, {"Accept", allowUTF8}, {"Accept-Encoding", "zstd"}, {"Accept", protobuf},
	} {
		scrapers.Go(func() {
			for range 60 {
				w := get(e.Metrics, "/", header...)
				var mfs map[string]*dto.MetricFamily
				switch {
				case slices.Contains(header, protobuf):
					mfs = map[string]*dto.MetricFamily{}
					for _, mf := range decode(t, w) {
						mfs[mf.GetName()] = mf
					}
				case slices.Contains(header, "zstd"):
					continue // decoding it is another test's business
				case slices.Contains(header, "gzip"):
					mfs = parse(t, one(t, w.Body))
				default:
					mfs = parse(t, w.Body.Bytes())
				}
				values := func(name string) string {
					var list []string
					for _, m := range mfs[name].GetMetric() {
						list = append(list, fmt.Sprint(m.Label[0].GetValue(), "=", m.Untyped.GetValue()))
					}
					return strings.Join(list, " ")
				}
				if a, b := values("one"), values("the_other"); a != b {
					t.Errorf("a scrape shows half of a push:\n%s\n%s", a, b)
				}
			}
		})
	}
	scrapers.Wait()
	close(stop)
	pushers.Wait()
}
