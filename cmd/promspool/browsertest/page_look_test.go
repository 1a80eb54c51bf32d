package browsertest

import (
	"fmt"
	"strings"
	"testing"
)

// tooFaint lists the texts with a contrast below 4.5, the minimum of WCAG level AA for
// text that is not large.
const tooFaint = `(() => {
	const channels = (color) => color.match(/[\d.]+/g).map(Number);
	const luminance = ([r, g, b]) => [[r, 0.2126], [g, 0.7152], [b, 0.0722]].reduce((sum, [c, weight]) => {
		c /= 255;
		return sum + weight * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
	}, 0);
	const below = (e) => {
		for (; e; e = e.parentElement) {
			const c = channels(getComputedStyle(e).backgroundColor);
			if (c.length === 3 || c[3] === 1) return c;
		}
		return [255, 255, 255];
	};
	const faint = [];
	const look = (e, color, what) => {
		const [a, b] = [luminance(channels(color)), luminance(below(e))];
		const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (contrast < 4.5) faint.push(contrast.toFixed(2) + " " + what);
	};
	let texts = 0;
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const text = walk.currentNode, e = text.parentElement;
		if (!text.data.trim() || e.closest(".unseen, .skip") || !e.checkVisibility()) continue;
		texts++;
		look(e, getComputedStyle(e).color, text.data);
	}
	for (const e of document.querySelectorAll("input[type=search]")) look(e, getComputedStyle(e, "::placeholder").color, e.placeholder);
	return texts > 10 ? faint.join("\n") : "there are only " + texts + " texts";
})()`

// unlabelled lists the elements without a label for screen readers.
const unlabelled = `(() => {
	const wrong = [];
	for (const e of document.querySelectorAll("a, button, input:not([type=hidden]), select, summary")) {
		const name = e.getAttribute("aria-label") ?? (e.labels?.length ? e.labels[0].textContent : e.textContent);
		if (!name.trim()) wrong.push(e.outerHTML);
		if (e.tabIndex !== 0) wrong.push("not for the keyboard: " + e.outerHTML);
	}
	for (const table of document.querySelectorAll("table")) {
		if (!table.querySelector("th[scope]")) wrong.push("no headers: " + table.outerHTML.slice(0, 200));
	}
	for (const id of new Set([...document.querySelectorAll("[id]")].map(e => e.id))) {
		if (document.querySelectorAll("#" + id).length > 1) wrong.push("twice: " + id);
	}
	if (document.querySelectorAll("h1").length !== 1 || document.querySelectorAll("main").length !== 1 || !document.documentElement.lang) wrong.push("no outline");
	return wrong.join("\n");
})()`

// TestPageLooks checks measurable properties of the appearance, in both colour schemes
// and at the width of a phone and a desktop.
func TestPageLooks(t *testing.T) {
	a := startPageAgent(t)
	b := startBrowser(t)
	for _, width := range []int{320, 700, 1280} {
		for _, dark := range []bool{false, true} {
			p := b.open(t, "about:blank")
			p.sized(width, dark)
			scheme := "light"
			if dark {
				scheme = "dark"
			}
			look := func(name string) {
				t.Helper()
				name = fmt.Sprintf("%s-%s-%d", name, scheme, width)
				if got := p.eval(`document.documentElement.scrollWidth`); got != float64(width) {
					t.Errorf("%s is %v pixels wide", name, got)
				}
				if faint := p.eval(tooFaint); faint != "" {
					t.Errorf("%s: texts with too little contrast:\n%v", name, faint)
				}
				if wrong := p.eval(unlabelled); wrong != "" {
					t.Errorf("%s: %v", name, wrong)
				}
				p.picture(name)
			}
			for _, view := range []string{"groups", "files", "jobs", "status"} {
				p.load(a.URL + "/?view=" + view)
				look(view)
			}
			p.load(a.URL + "/?view=file&name=job%3Dreport.prom")
			look("file")
			p.load(a.URL + "/")
			p.click(p.mark(row(`job="backup"`) + `.querySelector("a.unfold")`))
			p.waitFor("it unfolds", `document.querySelector(".below .family") !== null`)
			p.click(".below summary")
			look("unfolded")
			p.click(".below button.delete")
			p.waitFor("it asks", `document.querySelector("dialog[open]") !== null`)
			look("question")
			if background := p.eval(`getComputedStyle(document.body).backgroundColor`); dark == (background == "rgb(255, 255, 255)") {
				t.Errorf("in the %s scheme the background is %v", scheme, background)
			}
			p.wellBehaved(a.URL)
		}
	}
}

// On paper are the table and its problems, in dark letters, and nothing to click.
func TestPageOnPaper(t *testing.T) {
	a := startPageAgent(t)
	p := startBrowser(t).open(t, "about:blank")
	p.looking(1280, true, false)
	p.do("Emulation.setEmulatedMedia", map[string]any{"media": "print", "features": []map[string]string{{"name": "prefers-color-scheme", "value": "dark"}}})
	for _, view := range []string{"groups", "files", "jobs", "status", "file&name=job%3Dreport.prom"} {
		p.load(a.URL + "/?view=" + view)
		seen := func(selector string) []any {
			list, _ := p.eval(fmt.Sprintf(`[...document.querySelectorAll(%q)].filter(e => e.checkVisibility()).map(e => e.outerHTML.slice(0, 100))`, selector)).([]any)
			return list
		}
		if left := seen("nav, form, button, footer, .badge, .skip"); len(left) > 0 {
			t.Errorf("%s: on paper are %v", view, left)
		}
		if len(seen("h1")) != 1 || len(seen("main table, main .family")) == 0 || len(seen(".health")) != 1 {
			t.Errorf("%s: on paper is only %s", view, p.text("body"))
		}
		if dark := p.eval(`getComputedStyle(document.body).color.match(/\d+/g).slice(0, 3).every(c => c < 100)`); dark != true {
			t.Errorf("%s: the text has the color %v", view, p.eval(`getComputedStyle(document.body).color`))
		}
		p.picture("print-" + view)
	}
	p.load(a.URL + "/")
	if rows := p.eval(`document.querySelectorAll(".list > tbody > tr").length === [...document.querySelectorAll(".list > tbody > tr")].filter(r => r.getBoundingClientRect().height > 0).length`); rows != true {
		t.Error("rows are missing on paper")
	}
}

// Without scripts only the deletion of groups is missing.
func TestPageWithoutScript(t *testing.T) {
	a := startPageAgent(t)
	p := startBrowser(t).open(t, "about:blank")
	p.do("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	p.load(a.URL + "/")
	if p.eval(`[...document.querySelectorAll("button.delete")].some(b => b.checkVisibility())`) == true {
		t.Error("there are buttons that do nothing")
	}
	if note := p.text("noscript"); !strings.HasPrefix(note, "Without JavaScript this page shows everything, but ") {
		t.Errorf("the note about scripts is %q", note)
	}
	p.click(`input[type="search"]`)
	p.write("backup")
	p.click(".search button")
	p.waitFor("it is found", `document.getElementById("said").innerText === "1 group"`)
	p.click(`th a[data-key="size"]`)
	p.waitFor("it is sorted", `document.querySelector("th:nth-child(3)").ariaSort === "descending" && document.querySelectorAll(".list > tbody > tr").length === 1`)
	p.click("a.unfold")
	p.waitFor("the metrics are there", `document.querySelector(".family") !== null`)
	if text := p.text("#main"); !strings.Contains(text, "backup_last_size_bytes") || !strings.Contains(text, "1345120000") {
		t.Errorf("the metrics are %s", text)
	}
	for _, request := range p.asked() {
		if strings.HasSuffix(request, ".js") {
			t.Errorf("without script %s is asked for", request)
		}
	}
	if c := p.complained(); len(c) > 0 {
		t.Errorf("the browser complains: %q", c)
	}
}
