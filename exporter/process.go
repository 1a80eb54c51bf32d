package exporter

import (
	"bytes"
	"sync"
	"time"

	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// processAge bounds the age of the metrics of the process. Scrapes come less often;
// it is for clients that send many requests in a row.
const processAge = time.Second

// A passage is a part of an exposition in its final form.
type passage struct {
	families []*dto.MetricFamily // read-only
	told     bool                // whether OwnFamilies has all of them
	text     []byte
	packed   []byte // by filestore.Deflate
}

// process keeps the metrics of the process for a moment. To gather, render and compress
// them costs more than the rest of a scrape without changes.
type process struct {
	mu      sync.Mutex
	at      time.Time
	passage *passage
}

// get returns the metrics of the process, at most processAge old.
func (p *process) get(cfg Config, now time.Time) *passage {
	if cfg.Process == nil {
		return &passage{told: true}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if age := now.Sub(p.at); p.passage == nil || age < 0 || age >= processAge {
		p.passage, p.at = gatherProcess(cfg), now
	}
	return p.passage
}

func gatherProcess(cfg Config) *passage {
	mfs, err := cfg.Process.Gather()
	if err != nil {
		cfg.Logger.Warn("gathering the metrics of the process", "err", err)
	}
	p := &passage{families: mfs, told: true}
	var b bytes.Buffer
	for _, mf := range mfs {
		name, start := mf.GetName(), b.Len()
		if _, told := cfg.OwnFamilies[name]; !told && !record.IsReserved(name) {
			p.told = false
		}
		if _, err := expfmt.MetricFamilyToText(&b, mf); err != nil {
			cfg.Logger.Warn("rendering the metrics of the process", "family", name, "err", err)
			b.Truncate(start)
		}
	}
	p.text = b.Bytes()
	p.packed = merge.Deflate(nil, p.text)
	return p
}
