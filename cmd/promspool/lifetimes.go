package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

// lifetimes are the flags that say what becomes of what nobody renews.
type lifetimes struct {
	policy           []string
	retention        duration
	archive          string
	archiveRetention duration
	dropped          bool
}

func (l *lifetimes) addFlags(cmd *kingpin.CmdClause) {
	cmd.Flag("spool.ttl", `Lifetime of groups that state none themselves, as MATCHER=TTL such as {job=~"ci_.+"}=7d, from their last push on; repeatable, the first that matches counts. After it only the push times are served.`).StringsVar(&l.policy)
	cmd.Flag("spool.retention", "How long a group stays in the spool after its lifetime, before it moves to the archive; 0 for ever.").Default("0s").SetValue(&l.retention)
	cmd.Flag("spool.archive-directory", "The archive, on the file system of the spool; default is .archive in the spool.").StringVar(&l.archive)
	cmd.Flag("spool.archive-retention", "How long a file stays in the archive; 0 for ever.").Default("90d").SetValue(&l.archiveRetention)
	cmd.Flag("spool.expire-dropped", "Move dropped files to the archive as well, which state a lifetime themselves. Otherwise they are withheld and stay where they are.").BoolVar(&l.dropped)
}

// parse returns what the flags say.
func (l *lifetimes) parse() (record.Lifetimes, error) {
	parsed := record.Lifetimes{
		Retention: time.Duration(l.retention), Archive: l.archive, ArchiveRetention: time.Duration(l.archiveRetention), Dropped: l.dropped,
	}
	for _, rule := range l.policy {
		lifetime, err := record.ParseLifetime(rule)
		if err != nil {
			return parsed, &usageError{fmt.Errorf("--spool.ttl: %w", err)}
		}
		parsed.Policy = append(parsed.Policy, lifetime)
	}
	if l.dropped && l.retention == 0 {
		return parsed, &usageError{errors.New("--spool.expire-dropped needs a --spool.retention, after which files are moved")}
	}
	return parsed, nil
}

// ageTeller logs and counts what becomes of files with age.
type ageTeller struct {
	logger                                   *slog.Logger
	groups, files, archived, removed, failed prometheus.Counter
}

func newAgeTeller(reg prometheus.Registerer, logger *slog.Logger) *ageTeller {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	return &ageTeller{
		logger:   logger,
		groups:   counter("promspool_expired_groups_total", "Groups whose payload was withheld because their lifetime had ended."),
		files:    counter("promspool_expired_files_total", "Dropped files that were withheld because their lifetime had ended."),
		archived: counter("promspool_archived_files_total", "Files moved to the archive after their lifetime and the retention."),
		removed:  counter("promspool_archive_removed_files_total", "Files removed from the archive after its retention."),
		failed:   counter("promspool_expiry_failures_total", "Files with which that failed; it is tried again."),
	}
}

func (t *ageTeller) tell(a filestore.Aged) {
	if a.Err != nil {
		t.failed.Inc()
		t.logger.Error("A file whose time has come could not be put aside, trying again", "file", record.PrintableName(a.File), "err", a.Err)
		return
	}
	what := ""
	switch {
	case a.Step == filestore.Archived:
		t.archived.Inc()
		what = "A file was moved to the archive"
	case a.Step == filestore.Removed:
		t.removed.Inc()
		what = "A file was removed from the archive"
	case a.Group.IsZero():
		t.files.Inc()
		what = "The lifetime of a dropped file has ended: it is withheld"
	default:
		t.groups.Inc()
		what = "The lifetime of a group has ended: its metrics are withheld, its push times stay"
	}
	t.logger.Info(what, "file", record.PrintableName(a.File), "since", a.Since.UTC().Format(time.RFC3339))
}
