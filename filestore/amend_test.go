package filestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

// addOne is an edit that increments a counter.
func addOne(t testing.TB) func(*record.Held) (*record.Edit, error) {
	return func(held *record.Held) (*record.Edit, error) {
		n := 0.0
		if f, ok := held.Family("counted_total"); ok {
			n = f.Metrics[0].Value
		}
		return &record.Edit{Put: families(t, fmt.Sprintf("# TYPE counted_total counter\ncounted_total %v\n", n+1))}, nil
	}
}

func TestAmendIncrements(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	g := group(t, "job", "a")
	for range 3 {
		if err := s.Amend(g, addOne(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Update(g, families(t, "other 1\n"), record.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Amend(g, addOne(t)); err != nil {
		t.Fatal(err)
	}
	got := string(s.View().AppendTo(nil))
	for _, want := range []string{"\ncounted_total{job=\"a\"} 4\n", "\nother{job=\"a\"} 1\n", "push_time_seconds{job=\"a\"} "} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if f, ok := s.View().Family(s.View().File(g.FileName()), "counted_total"); !ok || f.Metrics[0].Value != 4 {
		t.Errorf("View.Family = %v, %v, want the value 4", f, ok)
	}
	if f, ok := s.View().Family(s.View().File(g.FileName()), "none"); ok {
		t.Errorf("View.Family of a missing family = %v", f)
	}

	// An edit deletes only the families in Remove.
	err := s.Amend(g, func(held *record.Held) (*record.Edit, error) {
		if !held.Exists() {
			t.Error("the group does not exist for the edit")
		}
		return &record.Edit{Remove: []string{"counted_total", "none"}}, nil
	})
	got = string(s.View().AppendTo(nil))
	if err != nil || strings.Contains(got, "counted_total") || !strings.Contains(got, "\nother{job=\"a\"} 1\n") {
		t.Errorf("after Remove: %v and\n%s", err, got)
	}
}

func TestAmendKeepsAttributes(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	g := group(t, "job", "a")
	set := func(attributes map[string][]string) {
		t.Helper()
		err := s.Amend(g, func(*record.Held) (*record.Edit, error) {
			return &record.Edit{Attributes: attributes}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(key string, values ...string) {
		t.Helper()
		if got := s.View().File(g.FileName()).Attributes(key); !slices.Equal(got, values) {
			t.Errorf("attributes %s = %q, want %q", key, got, values)
		}
	}
	set(map[string][]string{"run": {"one", "two\nlines"}, "job": {"x"}})
	want("run", "one", "two\nlines")
	err := s.Amend(g, func(held *record.Held) (*record.Edit, error) {
		if got := held.Attributes("run"); len(got) != 2 || held.Attributes("none") != nil {
			t.Errorf("the edit gets %q", got)
		}
		return &record.Edit{Put: families(t, "a 1\n")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want("run", "one", "two\nlines")
	set(map[string][]string{"run": {"three"}, "job": {}})
	want("run", "three")
	want("job")
}

func TestRejectedAmend(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	g := group(t, "job", "a")
	if err := s.Amend(g, addOne(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(group(t, "job", "b"), families(t, "# TYPE b gauge\nb 1\n"), record.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	before := show(s.View())
	mine := errors.New("mine")
	var conflict *record.Conflict
	for _, tt := range []struct {
		name string
		edit *record.Edit
		err  error
		want func(error) bool
	}{
		{"by the edit", nil, mine, func(err error) bool { return err == mine }},
		{"nothing to do", nil, nil, func(err error) bool { return err == nil }},
		{"type of another group", &record.Edit{Put: families(t, "# TYPE b counter\nb 1\n")}, nil, func(err error) bool { return errors.As(err, &conflict) }},
		{"part of its own histogram", &record.Edit{Put: families(t, "# TYPE counted histogram\ncounted_bucket{le=\"+Inf\"} 1\ncounted_sum 1\ncounted_count 1\ncounted_total_count 1\n# TYPE counted_total summary\ncounted_total_sum 1\n")}, nil, func(err error) bool { return err != nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Amend(g, func(*record.Held) (*record.Edit, error) { return tt.edit, tt.err })
			if !tt.want(err) {
				t.Errorf("Amend = %v", err)
			}
			if got := show(s.View()); got != before {
				t.Errorf("the view changed from\n%s\nto\n%s", before, got)
			}
		})
	}
	broken := group(t, "job", "broken")
	if err := os.WriteFile(dir+"/"+broken.FileName(), []byte("rubbish\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rescan(); err != nil {
		t.Fatal(err)
	}
	if err := s.Amend(broken, addOne(t)); err == nil || !strings.Contains(err.Error(), "the content of the group is unknown") {
		t.Errorf("Amend of a group with an invalid file = %v, want that its content is unknown", err)
	}
}

// TestAmendOfSeveralProcesses increments one counter from several processes. No
// increment may be lost.
func TestAmendOfSeveralProcesses(t *testing.T) {
	const processes, times = 3, 25
	g := group(t, "job", "a")
	if dir := os.Getenv("FILESTORE_TEST_AMEND"); dir != "" {
		s, err := filestore.Open(dir, &filestore.Options{NoSweep: true})
		if err != nil {
			t.Fatal(err)
		}
		for range times {
			if err := s.Amend(g, addOne(t)); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	dir := t.TempDir()
	var commands []*exec.Cmd
	var said [processes]bytes.Buffer
	for i := range processes {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAmendOfSeveralProcesses$")
		cmd.Env = append(os.Environ(), "FILESTORE_TEST_AMEND="+dir)
		cmd.Stdout, cmd.Stderr = &said[i], &said[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, cmd)
	}
	for i, cmd := range commands {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, said[i].String())
		}
	}
	s := open(t, dir, nil)
	want := fmt.Sprintf("\ncounted_total{job=\"a\"} %d\n", processes*times)
	if got := string(s.View().AppendTo(nil)); !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
}
