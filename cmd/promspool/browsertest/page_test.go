package browsertest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// hostile is a label value that breaks a page without escaping.
const hostile = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>'\n{{.}} \u202egnp.exe \\ &amp; ü"

// shownHostile is its text on the page.
const shownHostile = `"<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>'\n{{.}} \u202egnp.exe \\ &amp; ü"`

// startPageAgent starts an agent with one of each kind of content.
func startPageAgent(t *testing.T, flags ...string) *agenttest.Agent {
	t.Helper()
	agenttest.Need(t, "chromium")
	a := agenttest.StartAgent(t, "", flags...)
	now := time.Now().Unix()
	for _, f := range flags {
		if prefix, ok := strings.CutPrefix(f, "--web.route-prefix="); ok {
			a.URL += prefix
		}
	}
	a.Push("/metrics/job/backup/instance/db1.example.org", fmt.Sprintf(`# HELP backup_last_size_bytes Size of the last backup.
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
# TYPE backup_last_success_timestamp_seconds gauge
backup_last_success_timestamp_seconds %d
`, now-7200))
	a.Push("/metrics/job/report", "# TYPE rows summary\nrows{quantile=\"0.5\"} 12\nrows{quantile=\"0.99\"} 80\nrows_sum 900\nrows_count 60\n")
	if code, _ := a.Send("POST", "/metrics/job/report", "rows 1 1700000000\n"); code != http.StatusBadRequest {
		t.Fatalf("a timestamp is taken: %d", code)
	}
	a.Push("/metrics/job@base64/"+agenttest.Base64(hostile)+"/path@base64/"+agenttest.Base64("/"), "# HELP odd <b>odd</b> & more\nodd{l=\"<i>\"} 1\n")
	a.Push("/metrics/job/long/value/"+strings.Repeat("x", 10000), "long 1\n")
	a.Drop("good.prom", "# HELP disk_ok Whether the disk is.\n# TYPE disk_ok gauge\ndisk_ok{disk=\"sda\"} 1\n")
	a.Drop("broken.prom", "fine 1\nnot so fine\n")
	a.Drop("<b>&\u202e.prom", "odd_file 1\n")
	a.PushJob("nightly", "start", now-3600, "end", now-3500, "success", now-3500, "duration", 100, "due", now+82800)
	a.PushJob("overdue", "start", now-90000, "end", now-89000, "success", now-89000, "duration", 1000, "due", now-300)
	a.PushJob("failed", "start", now-60, "end", now-50, "success", now-800000, "duration", 10.25, "due", now+600, "exit", 3)
	a.PushJob("running", "start", now-5, "running", 1, "due", now+600)
	agenttest.WaitFor(t, "the files are served", func() bool {
		_, list := a.Send("GET", "/api/v1/files?kind=file", "")
		return strings.Contains(list, `"matched":3`)
	})
	return a
}

// row is the row of the group whose displayed labels contain the text.
func row(text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(".list > tbody > tr:not(.below)")].find(r => r.querySelector("code").textContent.includes(%q))`, text)
}

// mark names the element that an expression returns, for clicks.
func (p *tab) mark(expression string) string {
	p.t.Helper()
	p.eval(`document.querySelector("[data-marked]")?.removeAttribute("data-marked")`)
	if p.eval(`(() => { const e = `+expression+`; e?.setAttribute("data-marked", ""); return !!e })()`) != true {
		p.t.Fatalf("the page has no %s", expression)
	}
	return "[data-marked]"
}

// wellBehaved fails the test if the browser reported an error or requested anything
// outside the URL.
func (p *tab) wellBehaved(url string) {
	p.t.Helper()
	if c := p.complained(); len(c) > 0 {
		p.t.Errorf("the browser complains: %q", c)
	}
	for _, request := range p.asked() {
		if _, to, _ := strings.Cut(request, " "); !strings.HasPrefix(to, url+"/") && to != "about:blank" {
			p.t.Errorf("the page asks for %s", request)
		}
	}
}

func TestPageUnfoldsAndRemoves(t *testing.T) {
	b := startBrowser(t)
	plain := startPageAgent(t)
	prefixed := startPageAgent(t, "--web.route-prefix=/own/prefix")
	inner := startPageAgent(t)
	target, err := url.Parse(inner.URL)
	agenttest.NoError(t, err)
	proxy := httptest.NewServer(http.StripPrefix("/tools/spool", httputil.NewSingleHostReverseProxy(target)))
	defer proxy.Close()
	for name, c := range map[string]struct {
		agent *agenttest.Agent
		url   string
	}{
		"at the root": {plain, plain.URL}, "under a route prefix": {prefixed, prefixed.URL}, "behind a proxy under a path": {inner, proxy.URL + "/tools/spool"},
	} {
		t.Run(name, func(t *testing.T) {
			a, p := c.agent, b.open(t, c.url+"/")
			for _, group := range []struct{ text, file string }{{shownHostile, ""}, {`job="backup"`, "job=backup,instance=db1.example.org.prom"}} {
				_, before := a.Send("GET", "/api/v1/metrics", "")
				p.click(p.mark(row(group.text) + `.querySelector("button.delete")`))
				p.waitFor("it asks", `document.querySelector("dialog[open]") !== null`)
				if text := p.text("dialog"); !strings.Contains(text, group.text) {
					t.Errorf("the question is %q", text)
				}
				p.click("dialog button:not(.danger)")
				p.waitFor("the question is gone", `document.querySelector("dialog") === null`)
				if _, after := a.Send("GET", "/api/v1/metrics", ""); after != before {
					t.Errorf("to cancel removed something: %s\n%s", before, after)
				}
				p.click(p.mark(row(group.text) + `.querySelector("button.delete")`))
				p.click("dialog button.danger")
				p.waitFor("the group is gone from the page", `!`+row(group.text))
				_, after := a.Send("GET", "/api/v1/metrics", "")
				if n, m := strings.Count(before, `"last_push_successful"`), strings.Count(after, `"last_push_successful"`); n != m+1 || group.file != "" && a.HasFile(group.file) {
					t.Errorf("of %d groups %d are left", n, m)
				}
				p.waitFor("it is said", `document.getElementById("live").textContent.startsWith("Deleted {")`)
			}

			p.click(p.mark(row(`job="report"`) + `.querySelector("a.unfold")`))
			p.waitFor("the metrics are there", `document.querySelector(".below .family") !== null`)
			for _, want := range []string{"rows", "summary", "60 observations, sum 900", "2 quantiles", "push_time_seconds"} {
				if text := p.text(".below"); !strings.Contains(text, want) {
					t.Errorf("%q lacks %q", text, want)
				}
			}
			p.click(p.mark(row(`job="report"`) + `.querySelector("a.unfold")`))
			p.waitFor("they are folded again", `document.querySelector(".below") === null`)

			// The page of a single group links back to the list.
			p.load(c.url + "/?view=file&name=job%3Dreport.prom")
			p.click("button.delete")
			p.click("dialog button.danger")
			p.waitFor("the list is shown, without the group", `document.querySelector(".list") !== null && !`+row(`job="report"`))
			p.wellBehaved(c.url)

			// Links on the page lead to the agent.
			for _, link := range p.eval(`[...document.querySelectorAll("footer a")].map(a => a.href)`).([]any) {
				resp, err := agenttest.Client.Get(link.(string))
				agenttest.NoError(t, err)
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s is %s", link, resp.Status)
				}
			}
		})
	}
	t.Run("when the agent is gone", func(t *testing.T) {
		p := b.open(t, plain.URL+"/")
		plain.Stop()
		p.click("button.delete")
		p.click("dialog button.danger")
		p.waitFor("it says so", `document.querySelector("dialog [role=alert]").textContent === "The agent does not answer."`)
		p.press("Escape")
		p.waitFor("the question is gone", `document.querySelector("dialog") === null`)
		p.click("a.unfold")
		p.waitFor("it says so", `document.querySelector(".below td")?.textContent === "The agent does not answer."`)
		p.click("th:nth-child(2) a")
		p.waitFor("it says so", `document.getElementById("said").textContent.startsWith("The agent does not answer. The list is as of ")`)
	})
}

func TestPageShowsHostileValuesAsText(t *testing.T) {
	a := startPageAgent(t)
	p := startBrowser(t).open(t, a.URL+"/")
	for _, view := range []string{"/", "/?view=files", "/?view=jobs", "/?search=" + url.QueryEscape(hostile), "/?view=" + url.QueryEscape(hostile), "/?view=file&name=" + url.QueryEscape("<b>&\u202e.prom")} {
		p.load(a.URL + view)
		if got := p.eval(`document.querySelectorAll("main img, b, i, main script, iframe").length`); got != 0.0 {
			t.Errorf("%s has elements that were pushed: %v", view, got)
		}
		if title, _ := p.eval(`document.title`).(string); !strings.Contains(title, "promspool") {
			t.Errorf("%s was taken: %q", view, title)
		}
		if text := p.text("#main"); strings.Contains(text, "\u202e") {
			t.Errorf("%s turns text around: %q", view, text)
		}
	}
	p.load(a.URL + "/")
	if text := p.text("#main"); !strings.Contains(text, "{job="+shownHostile+`, path="/"}`) {
		t.Errorf("the group is not shown as it is: %s", text)
	}
	p.click(p.mark(row(shownHostile) + `.querySelector("a.unfold")`))
	p.waitFor("the metrics are there", `document.querySelector(".below .family") !== null`)
	if text := p.text(".below"); !strings.Contains(text, "<b>odd</b> & more") || !strings.Contains(text, `l="<i>"`) {
		t.Errorf("the metrics are not shown as they are: %s", text)
	}
	p.wellBehaved(a.URL)
}

func TestPageSearchesAndSortsTenThousandGroups(t *testing.T) {
	agenttest.Need(t, "chromium")
	const groups = 10_000
	spool := filepath.Join(t.TempDir(), "spool")
	agenttest.NoError(t, os.Mkdir(spool, 0o755))
	for i := range groups {
		job := fmt.Sprintf("batch-%05d", i)
		text := fmt.Sprintf("# promspool:group {job=%q}\n# TYPE batch_seconds gauge\nbatch_seconds{job=%[1]q} %[2]d\n# TYPE push_time_seconds gauge\npush_time_seconds{job=%[1]q} %[3]d\n", job, i, 1_700_000_000+i*7919%groups)
		agenttest.NoError(t, os.WriteFile(filepath.Join(spool, "job="+job+".prom"), []byte(text), 0o644))
	}
	a := agenttest.StartAgent(t, spool)
	p := startBrowser(t).open(t, a.URL+"/")
	p.sized(1280, false)
	said := func(text string) {
		t.Helper()
		p.waitFor("it says "+text, fmt.Sprintf(`document.getElementById("said").innerText === %q && !document.querySelector("[aria-busy]")`, text))
	}
	first := func(job string) {
		t.Helper()
		if got := p.text(".list > tbody code"); got != fmt.Sprintf(`{job=%q}`, job) {
			t.Errorf("the first row is %s, want %s", got, job)
		}
	}
	said("1 to 50 of 10,000 groups")
	first("batch-00000")
	p.picture("many")
	p.click(`a[rel="next"]`)
	said("51 to 100 of 10,000 groups")
	first("batch-00050")
	if focus := p.eval(`document.activeElement.textContent`); focus != "Next" {
		t.Errorf("after a page the focus is on %v", focus)
	}
	p.click(p.mark(`[...document.querySelectorAll("nav.pages a")].at(-1)`))
	said("9,951 to 10,000 of 10,000 groups")

	p.click(`th a[data-key="time"]`)
	said("1 to 50 of 10,000 groups")
	latest := func(rank int) string {
		for i := range groups {
			if i*7919%groups == rank {
				return fmt.Sprintf("batch-%05d", i)
			}
		}
		return ""
	}
	first(latest(groups - 1))
	if got := p.eval(`document.querySelector("[aria-sort]").ariaSort`); got != "descending" {
		t.Errorf("sorted %v", got)
	}
	p.click(`th a[data-key="time"]`)
	p.waitFor("it is turned around", `document.querySelector("[aria-sort]").ariaSort === "ascending"`)
	first(latest(0))

	p.click(`input[type="search"]`)
	p.write("77 Batch-0")
	said("1 to 50 of 280 groups")
	if focus := p.eval(`document.activeElement.type`); focus != "search" {
		t.Errorf("while searching the focus goes to %v", focus)
	}
	if live := p.eval(`document.getElementById("live").textContent`); live != "1 to 50 of 280 groups" {
		t.Errorf("those who listen hear %q", live)
	}
	if sorted := p.eval(`document.querySelector("[aria-sort] a").dataset.key`); sorted != "time" {
		t.Errorf("a search forgets the order: %v", sorted)
	}
	at, _ := p.eval(`location.href`).(string)
	if p.load(at); p.eval(`document.getElementById("said").innerText`) != "1 to 50 of 280 groups" {
		t.Errorf("%s has changed", at)
	}
	p.eval(`document.querySelector("input[type=search]").value = ""`)
	p.click(`input[type="search"]`)
	p.write(`{job=~".*(4|5)2.$"}`)
	said("1 to 50 of 200 groups")
	p.write(`x`)
	p.waitFor("the error is shown", `document.querySelector(".said .bad")?.innerText.includes("expected")`)
	p.wellBehaved(a.URL)

	// The page's requests are fast, during a scrape as well.
	for _, query := range []string{"", "?sort=-time&offset=5000", "?search=77", "?search=" + url.QueryEscape(`{job=~".*77"}`)} {
		begin := time.Now()
		if code, _ := a.Send("GET", "/"+query, ""); code != http.StatusOK {
			t.Errorf("%s is %d", query, code)
		}
		t.Logf("%s took %v", query, time.Since(begin))
	}
}

// The page shows the records of "promspool run".
func TestPageTellsOfRuns(t *testing.T) {
	a := agenttest.StartAgent(t, "")
	for job, c := range map[string]struct {
		script string
		status int
	}{"fine": {"true", 0}, "broken": {"exit 3", 3}} {
		if _, stderr, status := (agenttest.Command{Name: agenttest.Promspool, Args: []string{"run", "--spool.directory=" + a.Spool, "--job=" + job, "--every=1d", "--", "sh", "-c", c.script}}).Run(t); status != c.status {
			t.Fatalf("the run of %s ends with %d: %s", job, status, stderr)
		}
	}
	var page string
	agenttest.WaitFor(t, "both runs are on the page", func() bool {
		_, page = a.Send("GET", "/?view=jobs", "")
		return strings.Contains(page, ">2 jobs<") && !strings.Contains(page, "running") && !strings.Contains(page, "never ran")
	})
	for _, part := range []string{">failed, exit status 3<", ">succeeded<", ">in 23 h<", "1 succeeded", "1 failed"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page has no %s: %s", part, page)
		}
	}
	if strings.Index(page, "failed") > strings.Index(page, ">succeeded<") {
		t.Error("what failed does not come first")
	}
}

// TestPageByKeyboard uses the keyboard only and checks that the focus is visible.
func TestPageByKeyboard(t *testing.T) {
	a := startPageAgent(t)
	p := startBrowser(t).open(t, a.URL+"/")
	tabTo := func(selector string) {
		t.Helper()
		for range 60 {
			p.press("Tab")
			if p.eval(`(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 })()`) != true {
				t.Errorf("the focus is not seen on %v", p.eval(`document.activeElement.outerHTML`))
			}
			if p.eval(fmt.Sprintf(`document.activeElement.matches(%q)`, selector)) == true {
				return
			}
		}
		t.Fatalf("Tab does not lead to %s", selector)
	}
	tabTo("a.skip")
	tabTo(`input[type="search"]`)
	p.write("report")
	p.waitFor("it is found", `document.getElementById("said").innerText === "1 group"`)
	tabTo("select")
	tabTo(`th a[data-key="size"]`)
	p.press("Enter")
	p.waitFor("it is sorted", `document.querySelector("th:nth-child(3)").ariaSort === "descending"`)
	if p.eval(`document.activeElement.dataset.key`) != "size" {
		t.Error("to sort loses the focus")
	}
	tabTo("a.unfold")
	if p.eval(`document.activeElement.getAttribute("role") + document.activeElement.ariaExpanded`) != "buttonfalse" {
		t.Error("what unfolds does not say so")
	}
	p.press(" ")
	p.waitFor("it unfolds", `document.querySelector(".below summary") !== null && document.activeElement.ariaExpanded === "true"`)
	tabTo("button.delete")
	tabTo("summary")
	p.press("Enter")
	p.waitFor("the quantiles unfold", `document.querySelector(".below details").open`)
	p.press("Shift+Tab")
	p.press("Enter")
	p.waitFor("it asks", `document.activeElement.closest("dialog") !== null`)
	if p.text("dialog button:focus") != "Cancel" {
		t.Error("the question does not begin at Cancel")
	}
	p.press("Escape")
	p.waitFor("the focus is back", `document.querySelector("dialog") === null && document.activeElement.matches("button.delete")`)
	if !a.HasFile("job=report.prom") {
		t.Fatal("to escape removes the group")
	}
	p.press("Enter")
	p.waitFor("it asks", `document.activeElement.closest("dialog") !== null`)
	p.press("Tab", "Enter")
	p.waitFor("it is removed", `document.getElementById("said").innerText === "No groups"`)
	if a.HasFile("job=report.prom") {
		t.Error("the group is still there")
	}
	p.wellBehaved(a.URL)
}

// A page of another origin changes nothing, reads nothing and cannot embed the page.
func TestPagesOfOtherOriginsAreKeptOut(t *testing.T) {
	a := startPageAgent(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<iframe name="in"></iframe><form method="post" target="in" enctype="text/plain" action="%[1]s/metrics/job/report"><input name="taken" value="1"></form>`, a.URL)
	}))
	defer other.Close()
	_, before := a.Send("GET", "/api/v1/metrics", "")
	p := startBrowser(t).open(t, other.URL+"/")
	for _, request := range []string{
		`{method: "DELETE"}`, `{method: "PUT", body: "taken 1\n"}`, `{method: "POST", body: "taken 1\n", mode: "no-cors"}`, `{method: "POST", body: "", mode: "no-cors"}`,
	} {
		p.eval(fmt.Sprintf(`fetch("%s/metrics/job/report", %s).then(r => r.type, e => "refused")`, a.URL, request))
	}
	p.eval(`document.querySelector("form").submit()`)
	p.waitFor("the form is refused", `(() => { try { return !frames.in.document } catch { return true } })()`)
	for _, path := range []string{"/", "/api/v1/files", "/api/v1/metrics", "/ui/page.js"} {
		if got := p.eval(fmt.Sprintf(`fetch("%s%s").then(r => r.text(), e => "refused")`, a.URL, path)); got != "refused" {
			t.Errorf("another origin reads %s: %.100v", path, got)
		}
	}
	if _, after := a.Send("GET", "/api/v1/metrics", ""); after != before {
		t.Errorf("another origin changed something:\n%s\n%s", before, after)
	}
	p.eval(fmt.Sprintf(`document.querySelector("iframe").src = "%s/"`, a.URL))
	agenttest.WaitFor(t, "the page is not framed", func() bool {
		return strings.Contains(strings.Join(p.complained(), " "), "frame-ancestors")
	})
}

// controlClock makes the clock of the page adjustable. It also counts how often the page
// reads the selection, which it does before each refresh.
func (p *tab) controlClock() {
	p.t.Helper()
	p.eval(`(() => {
		window.ahead = 0; window.looks = 0;
		const now = Date.now, selection = window.getSelection;
		Date.now = () => now() + window.ahead;
		window.getSelection = () => { window.looks++; return selection.call(window); };
	})()`)
}

// passTime moves the clock of the page beyond the longest pause between two refreshes.
func (p *tab) passTime() {
	p.t.Helper()
	p.eval(`window.ahead += 600_000`)
}

// A refresh requests the content of unfolded rows again if it has changed.
func TestPageRefreshesUnfoldedRows(t *testing.T) {
	a := startPageAgent(t)
	p := startBrowser(t).open(t, a.URL+"/")
	p.controlClock()
	contents := func() (n int) {
		for _, request := range p.asked() {
			if strings.Contains(request, "view=file") {
				n++
			}
		}
		return n
	}
	below := func(group, text string) string {
		return row(group) + fmt.Sprintf(`?.nextElementSibling.matches(".below") && %s.nextElementSibling.innerText.includes(%q)`, row(group), text)
	}
	idle := func() { t.Helper(); p.eval(`document.activeElement.blur()`) }
	a.Push("/metrics/job/live", "live 1\n")
	p.passTime()
	p.waitFor("the group is there", row(`job="live"`)+` !== undefined`)
	for group, text := range map[string]string{`job="live"`: `live{job="live"} 1`, `job="report"`: "60 observations"} {
		p.click(p.mark(row(group) + `.querySelector("a.unfold")`))
		p.waitFor("the content of "+group+" is there", below(group, text))
	}
	p.click(p.mark(row(`job="report"`) + `.nextElementSibling.querySelector("summary")`))
	idle()
	before := contents()

	a.Push("/metrics/job/live", "live 2\nmore 3\n")
	p.passTime()
	p.waitFor("the content is new", below(`job="live"`, `live{job="live"} 2`)+` && `+below(`job="live"`, `more{job="live"} 3`))
	if n := contents() - before; n != 1 {
		t.Errorf("for one change the page requests %d contents", n)
	}

	// Details that are open stay open.
	a.Push("/metrics/job/report", "# TYPE rows summary\nrows{quantile=\"0.5\"} 13\nrows_sum 901\nrows_count 61\n")
	p.passTime()
	p.waitFor("the content is new", below(`job="report"`, "61 observations"))
	if p.eval(row(`job="report"`)+`.nextElementSibling.querySelector("details").open`) != true {
		t.Error("a refresh folds the quantiles")
	}

	// A refused push changes the content as well, and so does a change that a search finds.
	if code, _ := a.Send("POST", "/metrics/job/live", "live 1 1700000000\n"); code != http.StatusBadRequest {
		t.Fatalf("a timestamp is taken: %d", code)
	}
	p.passTime()
	p.waitFor("the refusal is shown", below(`job="live"`, "Push refused"))
	a.Push("/metrics/job/live", "live 4\n")
	p.click(`input[type="search"]`)
	p.write("live")
	p.waitFor("the content is new", below(`job="live"`, `live{job="live"} 4`))

	// A row that a deletion of another one leaves shows its new content.
	p.load(a.URL + "/")
	p.controlClock()
	p.click(p.mark(row(`job="live"`) + `.querySelector("a.unfold")`))
	p.waitFor("the content is there", below(`job="live"`, `live{job="live"} 4`))
	a.Push("/metrics/job/live", "live 5\n")
	p.click(p.mark(row(`job="report"`) + `.querySelector("button.delete")`))
	p.click("dialog button.danger")
	p.waitFor("the group is deleted", row(`job="report"`)+` === undefined`)
	p.waitFor("the content is new", below(`job="live"`, `live{job="live"} 5`))

	// A row that has disappeared takes its content along.
	idle()
	if code, _ := a.Send("DELETE", "/metrics/job/live", ""); code != http.StatusAccepted {
		t.Fatalf("a deletion is %d", code)
	}
	p.passTime()
	p.waitFor("the row is gone", row(`job="live"`)+` === undefined && document.querySelector(".below") === null`)
	p.wellBehaved(a.URL)
}

// The own page of a file is refreshed too, also when the file disappears and returns.
func TestPageOfFileRefreshes(t *testing.T) {
	a := startPageAgent(t)
	p := startBrowser(t).open(t, a.URL+"/?view=file&name=job%3Dreport.prom")
	p.controlClock()
	p.click("summary")
	p.eval(`document.activeElement.blur()`)
	a.Push("/metrics/job/report", "# TYPE rows summary\nrows{quantile=\"0.5\"} 13\nrows_sum 901\nrows_count 61\n")
	p.passTime()
	p.waitFor("the content is new", `document.getElementById("content").innerText.includes("61 observations")`)
	if p.eval(`document.querySelector("details").open`) != true {
		t.Error("a refresh folds the quantiles")
	}
	if code, _ := a.Send("DELETE", "/metrics/job/report", ""); code != http.StatusAccepted {
		t.Fatalf("a deletion is %d", code)
	}
	p.passTime()
	p.waitFor("the file is gone", `document.getElementById("main").innerText.includes("There is no file") && document.title.startsWith("Not found")`)
	if c := p.complained(); len(c) != 1 || !strings.Contains(c[0], "404") {
		t.Errorf("the browser complains: %q, want one 404", c)
	}
	a.Push("/metrics/job/report", "rows 7\n")
	p.passTime()
	p.waitFor("the file is back", `document.getElementById("content").innerText.includes("rows{job=\"report\"} 7") && document.querySelector("button.delete").hidden === false`)
	p.wellBehaved(a.URL)
	a.Stop()
	p.passTime()
	p.waitFor("it says so", `document.getElementById("live").textContent.startsWith("The agent does not answer. The page is as of ")`)
}

// An open page is kept up to date, without a word and only while it is not in use.
func TestPageRefreshes(t *testing.T) {
	a := startPageAgent(t)
	p := startBrowser(t).open(t, a.URL+"/")
	watch, pass := p.controlClock, p.passTime
	requests := func() int { return len(p.asked()) }
	// calmly reports that the page leaves all as it is, however long it waits.
	calmly := func(why string) {
		t.Helper()
		before := requests()
		p.eval(`window.looks = 0`)
		pass()
		p.waitFor("the page looks "+why, `window.looks > 2`)
		if now := requests(); now != before {
			t.Errorf("%s the page asks: %v", why, p.asked()[before:])
		}
	}
	watch()
	p.click(p.mark(row(`job="report"`) + `.querySelector("a.unfold")`))
	p.waitFor("the metrics are there", `document.querySelector(".below .family") !== null`)
	p.eval(`document.getElementById("live").textContent = "as before"; document.activeElement.blur()`)
	a.Push("/metrics/job/fresh", "fresh 1\n")
	pass()
	p.waitFor("the new group is there", row(`job="fresh"`)+` !== undefined`)
	if p.eval(`document.getElementById("live").textContent === "as before" && document.querySelector(".below .family") !== null && document.activeElement === document.body && location.search === ""`) != true {
		t.Errorf("a refresh says %v, or folds rows, or takes the focus", p.eval(`document.getElementById("live").textContent`))
	}
	if tab := p.text("#tabs"); !strings.Contains(tab, "Groups 9") {
		t.Errorf("the tabs are %q", tab)
	}

	a.Push("/metrics/job/later", "later 1\n")
	p.click(p.mark(row(`job="fresh"`) + `.querySelector("button.delete")`))
	p.waitFor("it asks", `document.querySelector("dialog[open]") !== null`)
	calmly("behind a question")
	p.click("dialog button:not(.danger)")
	p.waitFor("the question is gone", `document.querySelector("dialog") === null`)
	p.eval(`document.activeElement.blur(); getSelection().selectAllChildren(document.querySelector(".list code"))`)
	calmly("with a selection")
	p.eval(`getSelection().removeAllRanges(); document.querySelector("select[name=state]").focus()`)
	calmly("with an open choice")
	if p.eval(row(`job="later"`)+` === undefined`) != true {
		t.Error("the page has changed")
	}
	p.click(`input[type="search"]`)
	p.write("late")
	p.waitFor("it is found", `document.getElementById("said").innerText === "1 group"`)
	a.Push("/metrics/job/latest", "latest 1\n")
	pass()
	p.waitFor("the search is refreshed", `document.getElementById("said").innerText === "2 groups" && document.querySelector("input[type=search]").value === "late" && document.activeElement.type === "search"`)
	if live := p.eval(`document.getElementById("live").textContent`); live != "1 group" {
		t.Errorf("those who listen hear %q", live)
	}

	// The view of the agent has no list.
	p.load(a.URL + "/?view=status")
	watch()
	a.Push("/metrics/job/last", "last 1\n")
	pass()
	p.waitFor("the number of groups is right", `document.getElementById("main").innerText.match(/Pushed groups\s+12/) !== null`)
	p.wellBehaved(a.URL)
	a.Stop()
	pass()
	p.waitFor("it says so", `document.getElementById("live").textContent.startsWith("The agent does not answer. The page is as of ")`)
}

// This tests the driver itself: keys and clicks arrive, and errors are reported.
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
