// Search, sort and pages without leaving the page. The server does the work and
// answers with the whole page; its results replace those that are shown.
import { load } from "./load.js";
import { say } from "./say.js";
import { synchronize } from "./tick.js";
import { unfolded, unfoldAgain, updateUnfolded } from "./unfold.js";

const pause = 150; // milliseconds without a key before a search begins
const slow = 300; // milliseconds before "Loading" is shown

export function search(results, upgrade) {
  const form = document.querySelector("form.search");
  let going; // the request in flight
  let timer; // of a search that begins soon
  let shown = location.search;

  // show replaces the results by those of a URL of this page, and announces them.
  // After a deletion it announces that, and the row at its place gets the focus. With
  // calm it announces nothing, and changes nothing unless calm returns true.
  async function show(url, { push = false, deleted, calm } = {}) {
    stop();
    going?.abort();
    const mine = going = new AbortController();
    let loading;
    if (!calm) {
      results.setAttribute("aria-busy", "true");
      loading = setTimeout(() => { document.getElementById("said").textContent = "Loading …"; }, slow);
    }
    let page;
    let fresh;
    try {
      page = await load(url, mine.signal);
      fresh = page.getElementById("results");
      if (!fresh) {
        throw new Error("The answer is not a list.");
      }
    } catch (error) {
      if (!mine.signal.aborted) {
        results.removeAttribute("aria-busy");
        fail(`${deleted ? deleted.text + ". " : ""}${error.message} The list is as of ${document.getElementById("asof").textContent}.`);
      }
      return;
    } finally {
      clearTimeout(loading);
    }
    if (mine.signal.aborted || calm && !calm()) {
      return;
    }
    const focus = held(results);
    const open = unfolded(results);
    results.replaceChildren(...fresh.childNodes);
    results.removeAttribute("aria-busy");
    synchronize(page);
    for (const id of ["health", "tabs"]) {
      document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
    }
    keepChoices(page.querySelector("form.search select[name=state]"));
    upgrade(results);
    unfoldAgain(results, open);
    if (deleted) {
      const rows = results.querySelectorAll("a.unfold");
      (rows[Math.min(deleted.row, rows.length - 1)] ?? form.elements.search).focus();
      say(`${deleted.text}.`, true);
    } else {
      refocus(results, focus);
      if (calm) {
        await updateUnfolded(results, upgrade, () => mine === going && calm());
        return;
      }
      say(document.getElementById("said").textContent);
    }
    history[push ? "pushState" : "replaceState"](null, "", url);
    shown = location.search;
    form.elements.sort.value = new URLSearchParams(url).get("sort") ?? "";
    updateUnfolded(results, upgrade, () => mine === going && !document.querySelector("dialog[open]") && getSelection().isCollapsed);
  }

  // keepChoices brings the numbers of the states up to date.
  function keepChoices(fresh) {
    const select = form.elements.state;
    const value = select.value;
    select.replaceChildren(...fresh.childNodes);
    select.value = value;
  }

  function stop() {
    clearTimeout(timer);
    timer = undefined;
  }

  function fail(text) {
    const said = document.getElementById("said");
    if (said.textContent === text) {
      return; // announced before
    }
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
    show(wanted(), { push: true });
  });
  form.addEventListener("input", () => {
    stop();
    timer = setTimeout(() => show(wanted()), pause);
  });
  results.addEventListener("click", (event) => {
    const link = event.target.closest("th a, nav.pages a");
    if (link && plain(event)) {
      event.preventDefault();
      show(link.getAttribute("href"), { push: true });
    }
  });
  results.addEventListener("stale", (event) => show(location.search || "?", { deleted: event.detail }));
  addEventListener("popstate", () => {
    if (location.search !== shown) { // else only the fragment has changed
      location.reload();
    }
  });

  // The returned function brings the results up to date, unless a request of the user
  // does that already.
  return (calm) => {
    if (timer === undefined && !results.hasAttribute("aria-busy")) {
      return show(location.search || "?", { calm });
    }
  };
}

// plain reports whether a click asks for nothing special, such as a new tab.
export function plain(event) {
  return event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
}

// held returns the name of the element in the results that has the focus.
function held(results) {
  const e = document.activeElement;
  if (!results.contains(e)) {
    return null;
  }
  return e.dataset.key ?? e.textContent;
}

// refocus gives the focus to the element of that name, or else to the results.
function refocus(results, name) {
  if (name === null) {
    return;
  }
  const same = [...results.querySelectorAll("th a, nav.pages a, a.unfold")].find((e) => (e.dataset.key ?? e.textContent) === name);
  if (same) {
    same.focus();
  } else {
    document.getElementById("main").focus();
  }
}
