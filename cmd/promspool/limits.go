package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/ingest"
)

// pushLimits are the limits of a push and of the spool. The agent and every command
// that writes to the spool have them as flags, so that both accept the same pushes.
type pushLimits struct {
	emptyInstance bool
	unchecked     bool
	utf8Names     bool
	maxBytes      size
	startTime     bool
	limits        exposition.Limits
	maxFailed     int
	maxGroups     int
	maxSpoolBytes size
	maxFileBytes  size
}

func (r *pushLimits) addFlags(cmd *kingpin.CmdClause) {
	cmd.Flag("push.empty-instance-label", `Label pushed metrics without an instance with instance="", as Pushgateway does.`).BoolVar(&r.emptyInstance)
	cmd.Flag("push.disable-consistency-check", "Accept conflicting pushes; the scrape omits conflicting series.").BoolVar(&r.unchecked)
	cmd.Flag("push.enable-utf8-names", "Accept names outside of [a-zA-Z_:][a-zA-Z0-9_:]*. node_exporter rejects files with such names.").BoolVar(&r.utf8Names)
	cmd.Flag("push.start-time", "Set the start time of counters, histograms and summaries in text to the time of the push.").BoolVar(&r.startTime)
	cmd.Flag("push.max-bytes", "Maximum size of the body of a push, decompressed.").Default("16MiB").SetValue(&r.maxBytes)
	cmd.Flag("push.max-series", "Maximum number of samples in a push; 0 for no limit.").Default("100000").SetValue((*wholeNumber)(&r.limits.Series))
	cmd.Flag("push.max-labels", "Maximum number of labels of a sample or a grouping key; 0 for no limit.").Default("64").SetValue((*wholeNumber)(&r.limits.Labels))
	cmd.Flag("push.max-label-name-bytes", "Maximum length of a label name; 0 for no limit.").Default("256").SetValue((*wholeNumber)(&r.limits.LabelName))
	cmd.Flag("push.max-label-value-bytes", "Maximum length of a label value; 0 for no limit.").Default("16384").SetValue((*wholeNumber)(&r.limits.LabelValue))
	cmd.Flag("push.max-buckets", "Maximum number of native buckets in a histogram; 0 for 100000, the limit for files.").Default("10000").SetValue((*wholeNumber)(&r.limits.Buckets))
	cmd.Flag("push.max-exemplars", "Maximum number of exemplars of a metric; 0 for 10000, the limit for files.").Default("1000").SetValue((*wholeNumber)(&r.limits.Exemplars))
	cmd.Flag("push.max-failed-groups", "Maximum number of groups that exist only because a push to them failed.").Default("1000").SetValue((*wholeNumber)(&r.maxFailed))
	cmd.Flag("spool.max-groups", "Maximum number of pushed groups; 0 for no limit.").Default("0").SetValue((*wholeNumber)(&r.maxGroups))
	cmd.Flag("spool.max-bytes", "Maximum total size of the files of pushed groups; 0 for no limit.").Default("0B").SetValue(&r.maxSpoolBytes)
	cmd.Flag("spool.max-file-bytes", "Maximum size of a file.").Default("16MiB").SetValue(&r.maxFileBytes)
}

// size is a flag value in bytes, such as 16MiB or 65536.
type size int64

func (n *size) Set(s string) error {
	if bytes, err := strconv.ParseInt(s, 10, 64); err == nil {
		*n = size(bytes)
		return nil
	}
	bytes, err := units.ParseBase2Bytes(s)
	if err != nil {
		return fmt.Errorf("invalid size %q: want e.g. 16MiB or 65536", s)
	}
	*n = size(bytes)
	return nil
}

func (n *size) String() string { return units.Base2Bytes(*n).String() }

// bounds returns the limits that need a lower bound.
func (r *pushLimits) bounds() []bound {
	return []bound{
		{"push.max-bytes", int64(r.maxBytes), 1},
		{"push.max-series", int64(r.limits.Series), 0},
		{"push.max-labels", int64(r.limits.Labels), 0},
		{"push.max-label-name-bytes", int64(r.limits.LabelName), 0},
		{"push.max-label-value-bytes", int64(r.limits.LabelValue), 0},
		{"push.max-buckets", int64(r.limits.Buckets), 0},
		{"push.max-exemplars", int64(r.limits.Exemplars), 0},
		{"push.max-failed-groups", int64(r.maxFailed), 0},
		{"spool.max-groups", int64(r.maxGroups), 0},
		{"spool.max-bytes", int64(r.maxSpoolBytes), 0},
		{"spool.max-file-bytes", int64(r.maxFileBytes), 1},
	}
}

// check rejects invalid limits.
func (r *pushLimits) check(more ...bound) error {
	if err := checkBounds(append(r.bounds(), more...)...); err != nil {
		return err
	}
	return r.fileLimits()
}

// fileLimits returns an error if a limit is above that of files.
func (r *pushLimits) fileLimits() error {
	for _, l := range []struct {
		flag        string
		value, most int
	}{
		{"push.max-buckets", r.limits.Buckets, exposition.FileLimits.Buckets},
		{"push.max-exemplars", r.limits.Exemplars, exposition.FileLimits.Exemplars},
	} {
		if l.value > l.most {
			return &usageError{fmt.Errorf("--%s must be at most %d, the limit for files", l.flag, l.most)}
		}
	}
	return nil
}

// bound is the value of a flag and its minimum, 0 or 1.
type bound struct {
	flag  string
	value int64
	least int64
}

// checkBounds rejects values below the minimum.
func checkBounds(all ...bound) error {
	for _, b := range all {
		switch {
		case b.value >= b.least:
		case b.least == 0:
			return &usageError{fmt.Errorf("--%s must not be negative", b.flag)}
		default:
			return &usageError{fmt.Errorf("--%s must be greater than zero", b.flag)}
		}
	}
	return nil
}

// store returns the options of a store with these limits.
func (r *pushLimits) store(own map[string]merge.Own) *filestore.Options {
	opts := &filestore.Options{
		Own: own, EmptyInstance: r.emptyInstance, Unchecked: r.unchecked,
		MaxGroups: r.maxGroups, MaxBytes: int64(r.maxSpoolBytes), MaxFailedGroups: r.maxFailed, MaxFileBytes: int64(r.maxFileBytes),
	}
	if opts.MaxFailedGroups == 0 {
		opts.MaxFailedGroups = -1 // none instead of the default
	}
	return opts
}

// body returns the limits of a request body.
func (r *pushLimits) body() ingest.Options {
	return ingest.Options{Limits: r.limits, MaxBytes: int64(r.maxBytes), UTF8Names: r.utf8Names, StartTime: r.startTime}
}

// duration is a flag value in Prometheus' notation, such as 7d or 1h30m.
type duration time.Duration

func (d *duration) Set(s string) error {
	parsed, err := model.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("invalid duration %q: want e.g. 12h or 7d", s)
	}
	*d = duration(parsed)
	return nil
}

func (d *duration) String() string { return model.Duration(*d).String() }

// timeout is a flag value in Go's notation, such as 1.5s, or in Prometheus'.
type timeout time.Duration

func (d *timeout) Set(s string) error {
	parsed, err := time.ParseDuration(s)
	if err != nil {
		days, errDays := model.ParseDuration(s)
		parsed, err = time.Duration(days), errDays
	}
	switch {
	case err != nil:
		return fmt.Errorf("invalid duration %q: want e.g. 10s or 5m", s)
	case parsed < 0:
		return fmt.Errorf("invalid duration %q: must not be negative", s)
	}
	*d = timeout(parsed)
	return nil
}

func (d *timeout) String() string { return time.Duration(*d).String() }

// wholeNumber is a flag value without a unit. The library's own accepts 1.5 and NaN.
type wholeNumber int

func (n *wholeNumber) Set(s string) error {
	parsed, err := strconv.Atoi(s)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("invalid value %q: use a smaller number", s)
	case err != nil:
		return fmt.Errorf("invalid value %q: use a whole number", s)
	}
	*n = wholeNumber(parsed)
	return nil
}

func (n *wholeNumber) String() string { return strconv.Itoa(int(*n)) }
