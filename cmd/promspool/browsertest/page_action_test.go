package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// Each problem is on every page, with a link to the list of where it is.
func TestPageShowsProblemsFirst(t *testing.T) {
	b := startBrowser(t)
	a := startPageAgent(t)
	for _, width := range []int{390, 1280} {
		p := b.open(t, "about:blank")
		p.sized(width, false)
		for _, view := range []string{"", "?view=files", "?view=jobs", "?view=status", "?view=file&name=job%3Dreport.prom"} {
			p.load(a.URL + "/" + view)
			if got := p.text(".findings"); strings.Join(strings.Fields(got), " ") != "1 file not served 1 push refused 1 job failed 1 job overdue" && strings.Join(strings.Fields(got), " ") != "1 push refused 1 file not served 1 job failed 1 job overdue" {
				t.Errorf("%q has the problems %q", view, got)
			}
			if got := p.eval(`[...document.querySelectorAll(".badge")].map(e => e.textContent).join()`); got != "1 Groups with problems,1 Files with problems,2 Jobs with problems" {
				t.Errorf("%q has the badges %v", view, got)
			}
		}
		links, _ := p.eval(`[...document.querySelectorAll(".findings a, .badge")].map(e => [e.textContent, e.href])`).([]any)
		if len(links) != 7 {
			t.Errorf("there are the links %v", links)
		}
		for _, link := range links {
			text, to := link.([]any)[0].(string), link.([]any)[1].(string)
			p.load(to)
			number, _, _ := strings.Cut(text, " ")
			if said, _, _ := strings.Cut(p.text("#said"), " "); said != number {
				t.Errorf("%q leads to %s with %q", text, to, p.text("#said"))
			}
		}
		p.wellBehaved(a.URL)
	}
	// With the last problem the line goes, without a reload.
	fine := agenttest.StartAgent(t, "")
	p := b.open(t, fine.URL+"/")
	if got := p.text(".health .good"); got != "All well" {
		t.Errorf("an agent without problems says %q", got)
	}
	// The first push is that to the address of the page.
	if got, want := p.text(".empty code"), "echo 'some_metric 3.14' | curl --data-binary @- "+fine.URL+"/metrics/job/some_job"; got != want {
		t.Errorf("the first push is %q, want %q", got, want)
	}
	p.click("button.copy")
	p.waitFor("it is copied", `document.getElementById("live").textContent === "Copied."`)
}

// With a filter the groups that it finds are deleted, and no others.
func TestPageDeletesFoundGroups(t *testing.T) {
	b := startBrowser(t)
	if p := b.open(t, startPageAgent(t).URL+"/?search=backup"); p.eval(`document.querySelector("[data-bulk]")`) != nil {
		t.Error("deletion in bulk is offered where it is switched off")
	}
	for _, width := range []int{390, 1280} {
		a := startPageAgent(t, "--web.enable-admin-api")
		for i := range 60 {
			a.Push(fmt.Sprintf("/metrics/job/ci/branch/fix-%d", i), "m 1\n")
		}
		a.Push("/metrics/job/ci", "m 1\n")
		a.Push("/metrics/job/ci/branch/fix-1/step/lint", "m 1\n")
		p := b.open(t, a.URL+"/")
		p.sized(width, false)
		if p.eval(`document.querySelector("[data-bulk]")`) != nil {
			t.Error("all groups can be deleted from the list")
		}
		p.load(a.URL + "/?search=" + url.QueryEscape(`{job="backup"}`))
		if got := p.text("[data-bulk]"); got != "Delete the 1 group shown" {
			t.Errorf("the button says %q", got)
		}
		p.load(a.URL + "/?search=fix-+%22ci%22")
		if got := p.text("[data-bulk]"); got != "Delete the 61 groups found" {
			t.Errorf("the button says %q", got)
		}
		p.click("[data-bulk]")
		p.waitFor("the groups are listed", `document.querySelectorAll("dialog li").length === 61`)
		p.click("dialog button.danger")
		p.waitFor("they are deleted", `document.getElementById("live").textContent === "Deleted 61 groups."`)
		if p.eval(`document.activeElement.type`) != "search" {
			t.Errorf("the focus is on %v", p.eval(`document.activeElement.outerHTML`))
		}
		left := agenttest.Files(t, a.Spool)
		if slices.ContainsFunc(left, func(name string) bool { return strings.Contains(name, "fix-") }) || !slices.Contains(left, "job=ci.prom") || !slices.Contains(left, "job=backup,instance=db1.example.org.prom") {
			t.Errorf("left are %q", left)
		}
		p.wellBehaved(a.URL)
	}
}

// To delete all groups takes their number, typed.
func TestPageDeletesAllGroups(t *testing.T) {
	b := startBrowser(t)
	if p := b.open(t, startPageAgent(t).URL+"/?view=status"); p.eval(`document.querySelector("button.all")`) != nil {
		t.Error("deletion of all groups is offered where it is switched off")
	}
	a := startPageAgent(t, "--web.enable-admin-api")
	p := b.open(t, a.URL+"/?view=status")
	p.click("button.all")
	for _, typed := range []string{"", "7"} {
		p.write(typed)
		p.click("dialog button.danger")
		if n := len(agenttest.Files(t, a.Spool)); n != 11 || p.eval(`document.querySelector("dialog[open]") !== null`) != true {
			t.Fatalf("with %q typed %d files are left", typed, n)
		}
	}
	p.click("dialog input")
	p.press("Backspace")
	p.write("8")
	p.click("dialog button.danger")
	p.waitFor("nothing is left", `document.getElementById("said")?.innerText === "No groups"`)
	p.waitFor("it is said", `document.getElementById("live")?.textContent === "Deleted all 8 groups"`)
	if left := agenttest.Files(t, a.Spool); slices.ContainsFunc(left, func(name string) bool { return strings.HasPrefix(name, "job=") }) || !slices.Contains(left, "good.prom") {
		t.Errorf("left are %q", left)
	}
	p.wellBehaved(a.URL)
}

// The unfolded panel has the reason, and outlives a deletion of another group.
func TestPageUnfoldsReasons(t *testing.T) {
	b := startBrowser(t)
	a := startPageAgent(t)
	for _, width := range []int{390, 1280} {
		p := b.open(t, a.URL+"/?view=files")
		p.sized(width, width == 390)
		p.click(p.mark(row("broken.prom") + `.querySelector(".problems")`)) // anywhere in the row
		p.waitFor("the line is there", `document.querySelector(".below .source") !== null`)
		if got := strings.Join(strings.Fields(p.text(".below .source")), " "); got != "2 not so fine" {
			t.Errorf("the line with the fault is %q", got)
		}
		if got := p.text(".problems"); strings.Contains(got, "broken.prom") {
			t.Errorf("the problem repeats the name: %q", got)
		}
		p.load(a.URL + "/")
		p.click(p.mark(row(`job="report"`)))
		p.waitFor("the reason is there", `document.querySelector(".below .bad")?.innerText.includes("from 127.0.0.1 (timestamp)")`)
		if got := p.text(".below .own"); got != "Own page" {
			t.Errorf("the link to the group is %q", got)
		}
		a.Push("/metrics/job/aaa", "m 1\n")
		p.load(a.URL + "/")
		p.click(p.mark(row(`job="report"`)))
		p.waitFor("it unfolds", `document.querySelector(".below .family") !== null`)
		p.click(p.mark(row(`job="aaa"`) + `.querySelector("a.unfold")`))
		p.waitFor("it unfolds", `document.querySelectorAll(".below .family").length > 4`)
		p.click(".below button.delete")
		p.click("dialog button.danger")
		p.waitFor("it is deleted", `document.getElementById("live").textContent === 'Deleted {job="aaa"}.'`)
		p.waitFor("the next row has the focus", `document.activeElement.matches("a.unfold") && document.activeElement.textContent.includes('job="backup"')`)
		if p.eval(row(`job="report"`)+`.nextElementSibling.matches(".below:has(.family)")`) != true {
			t.Error("a deletion folds other rows")
		}
		p.wellBehaved(a.URL)
	}
	p := b.open(t, a.URL+"/")
	// Text of a row can be selected without unfolding it.
	p.eval(`getSelection().selectAllChildren(document.querySelector("a.unfold code"))`)
	p.eval(`document.querySelector("a.unfold").dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}))`)
	if p.eval(`document.querySelector(".below")`) != nil {
		t.Error("to select text unfolds the row")
	}
	for seconds, want := range map[int]string{0: "just now", 90: "90 s ago", 600: "10 min ago", 3 * 3600: "3 h ago", 80 * 3600: "3 days ago", -3 * 3600: "in 3 h"} {
		if got := p.eval(fmt.Sprintf(`import("./ui/tick.js").then(m => m.ago(%d * 1000, 0))`, seconds)); got != want {
			t.Errorf("%d seconds ago is %v, want %s", seconds, got, want)
		}
	}
	p.waitFor("the ages count on", `document.querySelector(".list time").textContent !== "just now"`)
}

// The skip link moves the focus, and does not load the page anew.
func TestPageSkipsToTheContent(t *testing.T) {
	a := startPageAgent(t)
	p := startBrowser(t).open(t, "about:blank")
	for _, view := range []string{"groups", "files", "jobs", "status", "file&name=good.prom"} {
		p.load(a.URL + "/?view=" + view)
		p.eval(`window.same = true`)
		p.press("Tab", "Enter")
		p.waitFor("the content has the focus", `document.activeElement.id === "main" && location.hash === "#main"`)
		p.eval(`new Promise(end => requestAnimationFrame(() => requestAnimationFrame(end)))`)
		if p.eval(`window.same`) != true {
			t.Errorf("%s is loaded anew", view)
		}
	}
}

// An agent that hangs is noticed.
func TestPageNoticesAHangingAgent(t *testing.T) {
	a := startPageAgent(t)
	target, err := url.Parse(a.URL)
	agenttest.NoError(t, err)
	var hangs atomic.Bool
	inner := httputil.NewSingleHostReverseProxy(target)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hangs.Load() {
			<-r.Context().Done()
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	p := startBrowser(t).open(t, proxy.URL+"/")
	hangs.Store(true)
	p.click("th:nth-child(2) a")
	p.waitFor("it says that it waits", `document.getElementById("said").textContent === "Loading …"`)
	p.waitFor("it gives up", `document.getElementById("said").textContent.startsWith("The agent has not answered within 10 seconds. The list is as of ")`)
	hangs.Store(false)
	p.click("th:nth-child(2) a")
	p.waitFor("it is back", `document.getElementById("said").textContent.endsWith(" groups")`)
}

// Without an answer the page does not claim that all is well.
func TestPageWithoutAgentKnowsNoHealth(t *testing.T) {
	agenttest.Need(t, "chromium")
	a := agenttest.StartAgent(t, "")
	a.Push("/metrics/job/live", "live 1\n")
	b := startBrowser(t)
	var pages []*tab
	for _, view := range []string{"", "?view=status", "?view=file&name=job%3Dlive.prom"} {
		p := b.open(t, a.URL+"/"+view)
		p.controlClock()
		if got := p.text(".health .good"); got != "All well" {
			t.Fatalf("the health is %q", got)
		}
		pages = append(pages, p)
	}
	a.Stop()
	for _, p := range pages {
		p.passTime()
		p.waitFor("the health is unknown", `document.querySelector(".health").innerText.startsWith("Health unknown")`)
	}
	agenttest.StartServer(t, `Serving.*on"?[=:]"?([0-9.:]+)`, agenttest.Promspool, "--web.listen-address="+a.Addr, "--spool.directory="+a.Spool)
	for _, p := range pages {
		p.passTime()
		p.waitFor("the health is shown again", `document.querySelector(".health .good")?.textContent === "All well"`)
	}
}
