package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// open opens the spool for a command that works on it itself, whether or not an
// agent does as well. The command closes it.
func (c *common) open(opts *filestore.Options) (*filestore.Store, error) {
	if opts.Own == nil {
		own, err := ownFamilies()
		if err != nil {
			return nil, err
		}
		opts.Own = own
	}
	opts.NoSweep = true
	return openSpool(c.spool, opts)
}

// settle gives what is just being written a moment to come to its end: a
// command has not seen what was there before. It returns the names of what is
// still being written after that.
func settle(store *filestore.Store) (writing []string, err error) {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) {
		writing, err = store.Rescan()
		if err != nil || len(writing) == 0 || time.Now().After(deadline) {
			return writing, err
		}
	}
}

// find returns the file that an argument names: by the name of the file, with or
// without its end or the quotes that ls gives it, or by the group.
//
// An argument that cannot be a name is an error of usage.
func find(v *merge.View, arg string) (*record.File, error) {
	if arg == grouping.Suffix {
		return nil, &usageError{fmt.Errorf("the name of the file is empty, apart from its end %s", grouping.Suffix)}
	}
	unquoted, _ := strconv.Unquote(arg)
	for _, name := range [...]string{arg, arg + grouping.Suffix, unquoted} {
		if f := v.File(name); f != nil {
			return f, nil
		}
	}
	if strings.HasSuffix(arg, grouping.Suffix) || !strings.ContainsAny(arg, "={") {
		return nil, fmt.Errorf("the spool has no file %s", oneLine(arg))
	}
	g, err := grouping.ParseGroup(arg)
	if err != nil {
		return nil, &usageError{err}
	}
	if f := v.File(g.FileName()); f != nil {
		return f, nil
	}
	ms, err := grouping.ParseMatchers(arg)
	if err != nil {
		return nil, err
	}
	more := 0
	for f := range v.Files() {
		if ms.Match(f.Group()) {
			more++
		}
	}
	if more > 0 {
		return nil, fmt.Errorf("the spool has no group %s, but %s with further labels: --match selects groups by some of their labels", g.Name(), wording.Count(more, "group"))
	}
	return nil, fmt.Errorf("the spool has no group %s", g.Name())
}

// groupOf returns the group that arguments of the form LABEL=VALUE name.
func groupOf(args []string) (grouping.Key, error) {
	g, err := grouping.ParseGroup(strings.Join(args, ","))
	if err != nil {
		return g, &usageError{err}
	}
	return g, nil
}

// selection is made by --match and a flag for the age.
type selection struct {
	match []string
	older duration
}

// parse returns what the flags select. That may be every group.
func (s *selection) parse(now time.Time) (*record.Selection, error) {
	sel := &record.Selection{OlderThan: time.Duration(s.older), Now: now}
	for _, m := range s.match {
		ms, err := grouping.ParseMatchers(m)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--match: %w", err)}
		}
		sel.Match = append(sel.Match, ms)
	}
	return sel, nil
}

// duration is a flag that takes what Prometheus takes, such as 7d or 1h30m.
type duration time.Duration

func (d *duration) Set(s string) error {
	parsed, err := model.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is no duration such as 12h or 7d", s)
	}
	*d = duration(parsed)
	return nil
}

func (d *duration) String() string { return model.Duration(*d).String() }
