package jobrun

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
	"github.com/promspool/promspool/ingest"
	"github.com/promspool/promspool/ingest/job"
)

// A remoteRecord is the record of a job on a promspool or Pushgateway, instead of
// the spool. It has no attributes and no locks, so it shows no lost runs and no
// local declarations.
type remoteRecord struct {
	base   string
	group  grouping.Key
	client *http.Client
}

func newRemoteRecord(r Remote, g grouping.Key) *remoteRecord {
	return &remoteRecord{strings.TrimSuffix(r.URL.String(), "/"), g, r.Client}
}

// amend reads the record, applies the transition and writes it back. It retries
// until the timeout.
func (r *remoteRecord) amend(timeout time.Duration, own []byte, transition func(*job.Record)) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var held families
	err := retry(ctx, func() (err error) {
		held, err = r.read(ctx)
		return err
	})
	if err != nil {
		return err
	}
	record := job.Read(held)
	transition(record)
	text := record.AppendText(slices.Clip(own))
	// From here on the numbers are fixed, so that a retry counts nothing twice.
	return retry(ctx, func() error { return r.write(ctx, text) })
}

// errFinal wraps an error that a retry cannot cure.
type errFinal struct{ error }

func (e errFinal) Unwrap() error { return e.error }

// retry tries again, with growing pauses, until it works or the context ends.
func retry(ctx context.Context, try func() error) error {
	var before error
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		err := try()
		var final errFinal
		switch {
		case err == nil || errors.As(err, &final):
			return err
		case before != nil && ctx.Err() != nil:
			return before // which says more than that time is up
		}
		before = err
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (r *remoteRecord) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, errFinal{err}
	}
	req.Header.Set("User-Agent", "promspool")
	req.Header.Set("Content-Type", "text/plain; version=0.0.4")
	if method == http.MethodGet {
		req.Header.Set("Accept", "text/plain; version=0.0.4")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		var asked *url.Error
		if errors.As(err, &asked) {
			err = asked.Err // the URL may have a password
		}
		return nil, fmt.Errorf("asking %s: %w", req.URL.Redacted(), err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	sentence, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	err = fmt.Errorf("%s answers %s: %s", req.URL.Redacted(), resp.Status, wording.Visible(sentence))
	if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout {
		err = errFinal{err}
	}
	return nil, err
}

func (r *remoteRecord) write(ctx context.Context, text []byte) error {
	resp, err := r.do(ctx, http.MethodPost, "/metrics/"+ingest.GroupPath(r.group), text)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // for the next request on the connection
	return resp.Body.Close()
}

// read returns what the other side says of jobs, by its scrape.
func (r *remoteRecord) read(ctx context.Context) (families, error) {
	resp, err := r.do(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return families{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	var text []byte
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Bytes()
		if bytes.HasPrefix(bytes.TrimPrefix(line, []byte("# TYPE ")), []byte(record.RecordPrefix)) {
			text = append(append(text, line...), '\n')
		}
	}
	if err := lines.Err(); err != nil {
		return families{}, err
	}
	view := merge.Merge(nil, map[string][]byte{"scrape" + grouping.Suffix: text})
	f := families{}
	for file := range view.Files() {
		if err := file.Err(); err != nil {
			return families{}, errFinal{fmt.Errorf("GET %s/metrics: %w", r.base, err)}
		}
		for _, family := range view.Families(file) {
			family.Metrics = slices.DeleteFunc(family.Metrics, func(m exposition.Metric) bool { return !r.isOfGroup(m) })
			f[family.Name] = family
		}
	}
	return f, nil
}

// isOfGroup reports whether a metric belongs to the group: it has the labels of the group
// and, apart from empty ones, only the further labels of the record.
func (r *remoteRecord) isOfGroup(m exposition.Metric) bool {
	labels := slices.DeleteFunc(slices.Clone(m.Labels), func(l exposition.Label) bool { return l.Value == "" || l.Name == "outcome" || l.Name == "mode" })
	g, err := grouping.New(labels...)
	return err == nil && g == r.group
}

// families are those of a scrape, by name.
type families map[string]exposition.Family

func (f families) Family(name string) (exposition.Family, bool) {
	family, ok := f[name]
	return family, ok
}

func (families) Attributes(string) []string { return nil }
