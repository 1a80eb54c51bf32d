package main_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

// hostile is a label value that a careless page would come to grief with.
const hostile = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>'\n{{.}} \u202egnp.exe \\ &amp; ü"

// pageAgent is an agent with some of everything.
func pageAgent(t *testing.T) *agent {
	a := startAgent(t, "")
	now := float64(time.Now().Unix())
	a.push("/metrics/job/backup/instance/db1.example.org", `# HELP backup_last_size_bytes Size of the last backup.
# TYPE backup_last_size_bytes gauge
backup_last_size_bytes{target="nas"} 1.34512e+09
backup_last_size_bytes{target="tape"} 8.2e+08
# HELP backup_file_seconds How long single files took.
# TYPE backup_file_seconds histogram
backup_file_seconds_bucket{le="0.1"} 120
backup_file_seconds_bucket{le="1"} 180
backup_file_seconds_bucket{le="+Inf"} 181
backup_file_seconds_sum 42.5
backup_file_seconds_count 181
# HELP backup_last_success_timestamp_seconds When it last worked.
# TYPE backup_last_success_timestamp_seconds gauge
`+fmt.Sprintf("backup_last_success_timestamp_seconds %g\n", now-7200))
	a.push("/metrics/job/report", "# TYPE rows summary\nrows{quantile=\"0.5\"} 12\nrows{quantile=\"0.99\"} 80\nrows_sum 900\nrows_count 60\n")
	if code, _ := a.send("POST", "/metrics/job/report", "rows 1 1700000000\n"); code != 400 {
		t.Fatalf("a timestamp is taken: %d", code)
	}
	a.push("/metrics/job@base64/"+base64.RawURLEncoding.EncodeToString([]byte(hostile))+"/path@base64/"+base64.RawURLEncoding.EncodeToString([]byte("/")), "odd 1\n")
	a.push("/metrics/job/long/value/"+strings.Repeat("x", 10000), "long 1\n")
	a.drop("good.prom", "# HELP disk_ok Whether the disk is.\n# TYPE disk_ok gauge\ndisk_ok{disk=\"sda\"} 1\n")
	a.drop("broken.prom", "fine 1\nnot so fine\n")
	a.drop("<b>&\u202e.prom", "odd_file 1\n")
	a.pushJob("nightly", "start", now-3600, "end", now-3500, "success", now-3500, "duration", 100, "due", now+82800)
	a.pushJob("overdue", "start", now-90000, "end", now-89000, "success", now-89000, "duration", 1000, "due", now-300)
	a.pushJob("failed", "start", now-60, "end", now-50, "success", now-8e5, "duration", 10.25, "due", now+600, "exit", 3)
	a.pushJob("running", "start", now-5, "running", 1, "due", now+600)
	waitFor(t, "the files are there", func() bool { return strings.Count(a.page(), "promspool_file_mtime") >= 3 })
	return a
}

// pushJob pushes what a job would have recorded, given by name and value.
func (a *agent) pushJob(job string, pairs ...any) {
	names := map[string]string{
		"start": "start_timestamp_seconds", "end": "end_timestamp_seconds", "success": "success_timestamp_seconds", "duration": "duration_seconds",
		"due": "next_due_timestamp_seconds", "exit": "exit_code", "running": "running",
	}
	text := "# TYPE promspool_job_runs_total counter\npromspool_job_runs_total{outcome=\"success\"} 41\npromspool_job_runs_total{outcome=\"failure\"} 2\npromspool_job_runs_total{outcome=\"lost\"} 0\n"
	for i := 0; i < len(pairs); i += 2 {
		name := "promspool_job_" + names[pairs[i].(string)]
		text += fmt.Sprintf("# TYPE %s gauge\n%s %v\n", name, name, pairs[i+1])
	}
	a.push("/metrics/job/"+job, text)
}

func TestPageLooks(t *testing.T) {
	a := pageAgent(t)
	b := startBrowser(t)
	for _, width := range []int{320, 1280} {
		for _, dark := range []bool{false, true} {
			p := b.open(t, "about:blank")
			p.sized(width, dark)
			for _, view := range []string{"groups", "files", "jobs", "status"} {
				p.load(a.url + "/?view=" + view)
				p.picture(fmt.Sprintf("%s-%d-%v", view, width, dark))
			}
			p.load(a.url + "/")
			if heading := p.text("h1"); !strings.HasPrefix(heading, "promspool") {
				t.Errorf("the heading is %q", heading)
			}
			p.click("tr:nth-child(2) a.unfold")
			p.waitFor("unfolded", `document.querySelector(".below .family") !== null`)
			p.picture(fmt.Sprintf("unfolded-%d-%v", width, dark))
			p.click("button.remove")
			p.picture(fmt.Sprintf("dialog-%d-%v", width, dark))
			if c := p.complained(); len(c) > 0 {
				t.Errorf("the browser complains: %q", c)
			}
		}
	}
}

// Who drives the browser is tried here: keys and clicks arrive, and complaints are heard.
func TestBrowserIsDriven(t *testing.T) {
	p := startBrowser(t).open(t, `data:text/html,<input autofocus><button onclick="this.textContent=document.querySelector('input').value; console.error('a complaint')">press</button>`)
	p.click("input")
	p.write("ünö")
	p.press("Tab", "Enter")
	p.waitFor("the key is felt", `document.querySelector("button").textContent === "ünö"`)
	p.click("input")
	p.press("Backspace")
	p.click("button")
	p.waitFor("the click is felt", `document.querySelector("button").textContent === "ün"`)
	if c := p.complained(); len(c) != 2 {
		t.Errorf("heard %q, want two complaints", c)
	}
	if asked := p.asked(); len(asked) != 1 {
		t.Errorf("asked for %q, want one page", asked)
	}
}
