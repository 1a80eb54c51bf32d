// Search, sort and pages without leaving the page. The server does the work and
// answers with the page as it would be; its results are put in place of ours.
import { load } from "./load.js";
import { say } from "./say.js";

const patience = 150; // milliseconds without a key before the search begins

export function search(results, upgrade) {
  const form = document.querySelector("form.search");
  let going; // the request that is on its way
  let timer;

  // show puts the results of a URL of this page in place of what is there, and
  // tells those who do not see it what happened.
  async function show(url, push, happened) {
    clearTimeout(timer);
    going?.abort();
    const mine = going = new AbortController();
    results.setAttribute("aria-busy", "true");
    let fresh;
    try {
      const page = await load(url, mine.signal);
      fresh = page.getElementById("results");
      if (!fresh) {
        throw new Error("The answer is no list.");
      }
    } catch (error) {
      if (mine.signal.aborted) {
        return;
      }
      results.removeAttribute("aria-busy");
      tell(error.message);
      return;
    }
    if (mine.signal.aborted) {
      return;
    }
    const focus = held(results);
    results.replaceChildren(...fresh.childNodes);
    results.removeAttribute("aria-busy");
    upgrade(results);
    refocus(results, focus);
    say(happened ?? document.getElementById("said").textContent);
    if (push) {
      history.pushState(null, "", url);
    } else {
      history.replaceState(null, "", url);
    }
    if (form.elements.sort) {
      form.elements.sort.value = new URLSearchParams(url).get("sort") ?? "";
    }
  }

  function tell(text) {
    const said = document.getElementById("said");
    said.textContent = text;
    said.classList.add("bad");
    say(text);
  }

  function wanted() {
    const parameters = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (value) {
        parameters.set(name, value);
      }
    }
    return "?" + parameters;
  }

  form.classList.add("live");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show(wanted(), true);
  });
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => show(wanted(), false), patience);
  });
  results.addEventListener("click", (event) => {
    const link = event.target.closest("th a, nav.pages a");
    if (link && plain(event)) {
      event.preventDefault();
      show(link.getAttribute("href"), true);
    }
  });
  results.addEventListener("stale", (event) => show(location.search || "?", false, event.detail));
  addEventListener("popstate", () => location.reload());
}

// plain reports whether a click asks for nothing special, such as a new tab.
export function plain(event) {
  return event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
}

// held returns what in the results has the focus, by what it is called.
function held(results) {
  const e = document.activeElement;
  if (!results.contains(e)) {
    return null;
  }
  return e.dataset.key ?? e.textContent;
}

// refocus gives the focus to what is called the same, or to the results.
function refocus(results, name) {
  if (name === null) {
    return;
  }
  const same = [...results.querySelectorAll("th a, nav.pages a")].find((e) => (e.dataset.key ?? e.textContent) === name);
  if (same) {
    same.focus();
  } else {
    document.getElementById("main").focus();
  }
}
