package main_test

import "testing"

func TestPageLoads(t *testing.T) {
	a := startAgent(t, "")
	p := startBrowser(t).open(t, a.url+"/")
	if got := p.text("h1"); got != "promspool" {
		t.Errorf("the heading is %q", got)
	}
	if c := p.complained(); len(c) > 0 {
		t.Errorf("the browser complains: %q", c)
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
