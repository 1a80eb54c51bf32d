package ingest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/ingest"
)

const bulk = "/api/v1/admin/groups"

func withAdmin(c *ingest.Config) { c.Admin = true }

// removes sends a deletion in bulk and returns the names that it answers.
func (a *agent) removes(dryRun bool, query string) []string {
	a.t.Helper()
	got := a.do(http.MethodDelete, bulk+"?"+query, nil)
	if got.code != 200 || got.header.Get("Content-Type") != "application/json" {
		a.t.Fatalf("DELETE %s?%s = %d %q %v", bulk, query, got.code, got.body, got.header)
	}
	var doc struct {
		Status string
		Data   ingest.Removed
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil || doc.Status != "success" || doc.Data.DryRun != dryRun || doc.Data.Groups == nil {
		a.t.Fatalf("%v, %q", err, got.body)
	}
	names := []string{}
	for _, g := range doc.Data.Groups {
		names = append(names, g.Name)
	}
	return names
}

func query(match ...string) string { return url.Values{"match[]": match}.Encode() }

func TestRemoveGroups(t *testing.T) {
	long := time.Now().Add(-48 * time.Hour)
	clock := long
	a := start(t, &filestore.Options{Now: func() time.Time { return clock }}, withAdmin)
	for _, path := range []string{"job/ci_1", "job/ci_2", "job/backup/instance/db1", "job/keep"} {
		a.want(200, "PUT", "/metrics/"+path, "m 1\n")
	}
	clock = time.Now()
	a.want(200, "PUT", "/metrics/job/ci_3", "m 1\n")

	for _, tt := range []struct {
		query string
		want  []string
	}{
		{query(`job="none"`), []string{}},
		{query(`job=~"ci_.*"`) + "&older_than=1d&dry_run=1", []string{"job=ci_1.prom", "job=ci_2.prom"}},
		{query(`job=~"ci_.*"`) + "&older_than=0s&dry_run=", []string{"job=ci_1.prom", "job=ci_2.prom", "job=ci_3.prom"}},
		{query(`{instance="db1"}`, `job="keep"`) + "&dry_run=true", []string{"job=backup,instance=db1.prom", "job=keep.prom"}},
		{"name[]=job=keep.prom&name[]=job=none.prom&dry_run=1", []string{"job=keep.prom"}},
		{"name[]=job=backup.prom&dry_run=1", []string{}},
		{"name[]=job=ci_1.prom&older_than=1h&dry_run=1&" + query(`job="keep"`), []string{"job=ci_1.prom", "job=keep.prom"}},
		{"name[]=job=ci_3.prom&older_than=1h&dry_run=1", []string{}},
	} {
		if got := a.removes(strings.Contains(tt.query, "dry"), tt.query); !slices.Equal(got, tt.want) {
			t.Errorf("%s would remove %q, want %q", tt.query, got, tt.want)
		}
	}
	if n := len(a.samples()); n != 5 {
		t.Fatalf("a dry run left %d groups", n)
	}
	if got := a.removes(false, query(`job=~"ci_.*"`, `instance="db1"`)+"&older_than=24h&dry_run=false"); !slices.Equal(got, []string{"job=backup,instance=db1.prom", "job=ci_1.prom", "job=ci_2.prom"}) {
		t.Errorf("removed %q", got)
	}
	a.wantSamples(`m{job="ci_3"} 1`, `m{job="keep"} 1`)

	// The answer lists the deleted groups.
	got := a.do("DELETE", bulk+"?"+query("job=ci_3"), nil)
	want := `{"status":"success","data":{"dry_run":false,"groups":[{"name":"job=ci_3.prom","labels":{"job":"ci_3"},"size_bytes":`
	if !strings.HasPrefix(got.body, want) || !strings.Contains(got.body, `"series":3,"last_push":"`) || strings.Contains(got.body, "last_failure") {
		t.Errorf("the answer is %s", got.body)
	}
}

// Names without a group are listed. They are not an error, as in the deletion of a
// single group, so that a client can repeat a request whose answer was lost.
func TestRemoveGroupsNotFound(t *testing.T) {
	now := time.Now()
	a := start(t, &filestore.Options{Now: func() time.Time { return now }}, withAdmin)
	a.want(200, "PUT", "/metrics/job/a", "m 1\n")
	a.want(200, "PUT", "/metrics/job/b", "m 1\n")
	for _, tt := range []struct{ query, want string }{
		{"name[]=job=b.prom&older_than=1h", `{"dry_run":false,"groups":[]}`},
		{"name[]=none&name[]=job=c.prom&dry_run=1", `{"dry_run":true,"groups":[],"not_found":["job=c.prom","none"]}`},
		{"name[]=none", `{"dry_run":false,"groups":[],"not_found":["none"]}`},
		{query(`job="none"`), `{"dry_run":false,"groups":[]}`},
	} {
		got := a.do(http.MethodDelete, bulk+"?"+tt.query, nil)
		if got.code != 200 || strings.TrimSpace(got.body) != `{"status":"success","data":`+tt.want+`}` {
			t.Errorf("%s = %d %s, want %s", tt.query, got.code, got.body, tt.want)
		}
	}
	for _, found := range []bool{true, false} {
		got := a.do(http.MethodDelete, bulk+"?name[]=job=a.prom&name[]=none", nil)
		if want := map[bool]string{true: `"not_found":["none"]`, false: `"groups":[],"not_found":["job=a.prom","none"]`}[found]; got.code != 200 || strings.Contains(got.body, `"labels":{"job":"a"}`) != found || !strings.Contains(got.body, want) {
			t.Errorf("deletion = %d %s, want %s", got.code, got.body, want)
		}
	}
}

// TestDeleteWhatIsNotRegular has directories, links and special files with the names of
// groups. A deletion of the group keeps them and says so. A regular file that promspool
// did not write is kept as well, and there is no group to delete.
func TestDeleteWhatIsNotRegular(t *testing.T) {
	t.Parallel()
	a := start(t, nil, withAdmin)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere.prom")
	for _, err := range []error{
		os.WriteFile(elsewhere, []byte("elsewhere 1\n"), 0o644),
		os.WriteFile(filepath.Join(a.dir, "job=regular.prom"), []byte("b 1\n"), 0o644),
		os.Symlink(elsewhere, filepath.Join(a.dir, "job=link.prom")),
		os.Symlink("none", filepath.Join(a.dir, "job=dangling.prom")),
		os.Mkdir(filepath.Join(a.dir, "job=dir.prom"), 0o755),
		syscall.Mkfifo(filepath.Join(a.dir, "job=pipe.prom"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.store.Rescan(); err != nil {
		t.Fatal(err)
	}
	for job, kind := range map[string]string{"link": "link", "dangling": "link", "dir": "directory", "pipe": "named pipe", "regular": "", "none": ""} {
		name := "job=" + job + ".prom"
		message := fmt.Sprintf("%q is a %s: delete it", name, kind)
		bulkWant := fmt.Sprintf(`"groups":[],"failed":[{"name":%q,"error":%q}]}`, name, message)
		if kind == "" {
			a.want(202, "DELETE", "/metrics/job/"+job, "")
			bulkWant = fmt.Sprintf(`"groups":[],"not_found":[%q]}`, name)
		} else if got := a.want(500, "DELETE", "/metrics/job/"+job, ""); !strings.HasSuffix(got.body, ": "+message+"\n") {
			t.Errorf("DELETE of %s answers %q, want %q", job, got.body, message)
		}
		for _, dry := range []string{"0", "1"} {
			if got := a.do("DELETE", bulk+"?name[]="+name+"&dry_run="+dry, nil); got.code != 200 || !strings.Contains(got.body, bulkWant) {
				t.Errorf("bulk deletion of %s answers %s, want %s", job, got.body, bulkWant)
			}
		}
		if _, err := os.Lstat(filepath.Join(a.dir, name)); (err == nil) != (job != "none") {
			t.Errorf("after the deletion of %s: %v", job, err)
		}
	}
}

func TestRemoveGroupsRefused(t *testing.T) {
	a := start(t, nil, withAdmin)
	a.want(200, "PUT", "/metrics/job/a", "m 1\n")
	for query, sentence := range map[string]string{
		"":                                  "at least one match[]",
		"older_than=1d":                     "at least one match[]",
		"match[]=":                          "names no label",
		"match[]={}":                        "names no label",
		"match[]=up":                        "expected one of",
		"match=job%3Da":                     `the parameter "match" is not known`,
		query("job=a") + "&older_then=7d":   `the parameter "older_then" is not known`,
		query("job=a") + "&older_than=x":    `older_than: invalid duration "x"`,
		query("job=a") + "&older_than=-1h":  "invalid duration",
		query("job=a") + "&older_than=":     "invalid duration",
		query("job=a") + "&dry_run=perhaps": "neither true nor false",
		query("job=a") + "&older_than=1h&older_than=2h": "older_than is given twice",
		"name[]=":                             "the value of name[] is empty",
		"name[]=job=a.prom&name[]=&dry_run=1": "the value of name[] is empty",
		"match[]=%zz":                         `"match[]=%zz": write %25`,
		query("job=a", "{"):                   "the braces are not closed",
	} {
		if got := a.want(400, "DELETE", bulk+"?"+query, ""); !strings.Contains(got.body, sentence) {
			t.Errorf("%s: %q, want %q", query, got.body, sentence)
		}
	}
	a.want(405, "GET", bulk+"?"+query("job=a"), "")
	a.want(405, "POST", bulk+"?"+query("job=a"), "")
	a.want(200, "OPTIONS", bulk, "")
	a.want(403, "DELETE", bulk+"?"+query("job=a"), "", "Sec-Fetch-Site", "cross-site")
	a.want(421, "DELETE", bulk+"?"+query("job=a"), "", "Sec-Fetch-Site", "same-origin", "Host", "attacker.example")
	a.wantSamples(`m{job="a"} 1`)

	without := start(t, nil, nil)
	without.want(404, "DELETE", bulk+"?"+query("job=a"), "")
}
