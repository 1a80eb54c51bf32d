package agents

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// renewed returns the agents that the mark finds now.
func renewed(m *Mark) []Agent {
	m.mu.Lock()
	m.at = m.at.Add(-maxAge)
	m.mu.Unlock()
	return m.Others()
}

func TestMarks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs abstract sockets")
	}
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	count := func(want int) {
		t.Helper()
		found, err := Find("/proc", dir)
		if err != nil || len(found) != want {
			t.Fatalf("Find = %v, %v, want %d", found, err, want)
		}
	}
	count(0)
	one := New(dir)
	defer one.Close()
	count(1)
	if got := one.Others(); len(got) != 0 {
		t.Errorf("a single agent has the others %v", got)
	}
	elsewhere := New(t.TempDir())
	defer elsewhere.Close()
	two := New(link)
	count(2)
	if got := two.Others(); len(got) != 1 || got[0].Own != os.Getpid() {
		t.Errorf("the second agent has the others %v", got)
	}
	if got := renewed(one); len(got) != 1 {
		t.Errorf("the first agent has the others %v", got)
	}
	if got := elsewhere.Others(); len(got) != 0 {
		t.Errorf("the agent of another spool has the others %v", got)
	}
	two.Close()
	count(1)
	if got := renewed(one); len(got) != 0 {
		t.Errorf("after the second agent: %v", got)
	}
	if got := two.Others(); len(got) > 1 {
		t.Errorf("a closed mark has the others %v", got)
	}
	count(1) // a closed mark does not come back

	// Another directory takes the place of the spool.
	if err := os.Rename(dir, dir+"-old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	count(0)
	if got := renewed(one); len(got) != 0 {
		t.Errorf("in the new directory: %v", got)
	}
	count(1)
	if found, err := Find("/proc", dir+"-old"); err != nil || len(found) != 0 {
		t.Errorf("the old directory has the agents %v, %v", found, err)
	}
}

func TestManyMarks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs abstract sockets")
	}
	dir := t.TempDir()
	for range mostMarks + 10 {
		defer New(dir).Close()
	}
	if found, err := Find("/proc", dir); err != nil || len(found) != mostMarks {
		t.Errorf("Find returns %d agents, %v, want %d", len(found), err, mostMarks)
	}
}

func TestFindWithoutProc(t *testing.T) {
	if found, err := Find(t.TempDir(), t.TempDir()); err == nil {
		t.Errorf("Find = %v without a process file system", found)
	}
}
