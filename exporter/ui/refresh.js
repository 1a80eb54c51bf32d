// An open page is kept up to date by the request that a search makes. It is made only
// while the page is seen and not in use, so nothing moves under a pointer or a finger.
import { load } from "./load.js";
import { replace } from "./replace.js";
import { say } from "./say.js";
import { age, synchronize } from "./tick.js";

const every = 30_000; // milliseconds between two requests
const rest = 10_000; // milliseconds without input before the page may change
const share = 100; // the pause after a slow request is this times its duration,
const most = 300_000; // and at most this, in milliseconds
const step = 1000; // milliseconds between two looks at the clock

let used = 0; // time of the last input
let tried = 0; // time of the last request
let took = 0; // its duration

// refreshing calls refresh again and again. refresh gets a function that reports
// whether the page may change at the moment.
export function refreshing(refresh) {
  for (const input of ["keydown", "input", "pointerdown", "pointermove", "wheel", "touchmove"]) {
    addEventListener(input, () => { used = Date.now(); }, { capture: true, passive: true });
  }
  let going = false;
  const look = async () => {
    const pause = Math.min(Math.max(every, share * took), most);
    if (going || !calm() || age() < pause || Date.now() - tried < pause) {
      return;
    }
    going = true;
    tried = Date.now();
    try {
      await refresh(calm);
    } finally {
      took = Date.now() - tried;
      going = false;
    }
  };
  setInterval(look, step);
  document.addEventListener("visibilitychange", look);
}

function calm() {
  return !document.hidden && Date.now() - used >= rest && getSelection().isCollapsed
    && !document.querySelector("dialog[open]") && !document.activeElement.closest("select, main button, main summary, #tabs, #health");
}

// whole returns a function that replaces the content of a page without a list.
export function whole(upgrade) {
  const main = document.getElementById("main");
  let failed = false;
  return async (calm) => {
    let page;
    try {
      page = await load(location.href);
    } catch (error) {
      if (!failed) {
        say(`${error.message} The page is as of ${document.getElementById("asof").textContent}.`, true);
      }
      failed = true;
      return;
    }
    if (!calm() || main.contains(document.activeElement) && document.activeElement !== main) {
      return;
    }
    if (failed) {
      say("");
    }
    failed = false;
    replace(main, page.getElementById("main"));
    document.title = page.title;
    document.getElementById("tabs").replaceChildren(...page.getElementById("tabs").childNodes);
    synchronize(page);
    upgrade(main);
  };
}
