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

// processAge is how old what is told of the process may be. Scrapes come less
// often; it is for those who ask many times in a row.
const processAge = time.Second

// A passage is a part of an exposition that is ready to be sent.
type passage struct {
	families []*dto.MetricFamily // not to be changed
	told     bool                // whether the store was told of all of them
	text     []byte
	packed   []byte // by filestore.Deflate
}

// process keeps the metrics of the process for a moment: asking the runtime and
// the kernel for them, rendering and compressing them costs more than the rest
// of a scrape where nothing has changed.
type process struct {
	mu      sync.Mutex
	at      time.Time
	passage *passage
}

// get returns the metrics of the process as they were at most processAge ago.
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
