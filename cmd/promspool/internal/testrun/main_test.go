package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReport runs go test on packages of its own, through the program itself.
func TestReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "testrun")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for name, text := range map[string]string{
		"go.mod":            "module example\n\ngo 1.24\n",
		"good/a_test.go":    "package good\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) { t.Log(\"unsaid\") }\n\nfunc TestSkip(t *testing.T) { t.Log(\"first\"); t.Skip(\"needs root\") }\n\nfunc TestOther(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.Skip(\"needs root\") }) }\n",
		"left/a_test.go":    "package left\n\nimport (\n\t\"fmt\"\n\t\"testing\"\n)\n\nfunc TestMain(*testing.M) { fmt.Println(\"SKIP: all of them: because\") }\n",
		"bad/a_test.go":     "package bad\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) { t.Log(\"unsaid\") }\n\nfunc TestBad(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.Error(\"it is bad\") }) }\n",
		"panics/a_test.go":  "package panics\n\nimport \"testing\"\n\nfunc TestPanic(*testing.T) { panic(\"it panics\") }\n",
		"slow/a_test.go":    "package slow\n\nimport \"testing\"\n\nfunc TestSlow(*testing.T) { select {} }\n",
		"broken/a_test.go":  "package broken\n\nfunc broken() { return 1 }\n",
		"skipped/a_test.go": "package skipped\n\nimport \"testing\"\n\nfunc TestSkip(t *testing.T) { t.SkipNow() }\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args   string
		status int
		has    []string
		not    []string
		last   string
	}{
		{"./good", 0, []string{"ok  \texample/good\t"}, []string{"unsaid", "---", "==="}, "skipped: 2 because: needs root"},
		{"-v ./good", 0, []string{"=== RUN   TestGood", "unsaid", "--- SKIP: TestSkip"}, nil, "skipped: 2 because: needs root"},
		{"./good ./left ./skipped", 0, []string{"ok  \texample/left\t"}, []string{"SKIP:"}, "skipped: all of them: because; 2 because: needs root; 1 because: no reason given"},
		{"-run Good ./good", 0, nil, nil, "skipped: nothing"},
		{"./bad -- ./good", 1, []string{"--- FAIL: TestBad (", "--- FAIL: TestBad/sub (0.00s)\n    a_test.go:7: it is bad\n", "FAIL\texample/bad\t", "ok  \texample/good\t"}, []string{"unsaid"}, "skipped: 2 because: needs root"},
		{"./good -- ./bad", 1, nil, nil, "skipped: 2 because: needs root"},
		{"./panics", 1, []string{"panic: it panics", "TestPanic(", "FAIL\texample/panics\t"}, nil, "skipped: nothing"},
		{"-timeout=1s ./slow", 1, []string{"panic: test timed out after 1s", "FAIL\texample/slow\t"}, nil, "skipped: nothing"},
		{"-vet=off ./broken ./good", 1, []string{"too many return values", "FAIL\texample/broken [build failed]", "ok  \texample/good\t"}, nil, "skipped: 2 because: needs root"},
		{"-count=x ./good", 2, []string{"invalid value"}, nil, "skipped: nothing"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			cmd := exec.Command(program, strings.Fields(tt.args)...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
			text, _ := cmd.CombinedOutput() // the state has the status
			out := string(text)
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("exit status %d, want %d", got, tt.status)
			}
			for _, part := range tt.has {
				if strings.Count(out, part) != 1 {
					t.Errorf("%q is there %d times, want once", part, strings.Count(out, part))
				}
			}
			for _, part := range tt.not {
				if strings.Contains(out, part) {
					t.Errorf("there is %q", part)
				}
			}
			if !strings.HasSuffix(out, "\n"+tt.last+"\n") {
				t.Errorf("the last line is not %q", tt.last)
			}
			if t.Failed() {
				t.Logf("it prints\n%s", out)
			}
		})
	}
}
