// Ages go on while the page is open. They count from the clock of the agent, which
// may differ from that of the browser.
let offset = 0; // milliseconds that the agent is ahead
let loaded = 0; // time of the last load, by the clock of the browser

const every = 1000; // milliseconds

export function ticking() {
  synchronize(document);
  setInterval(tick, every);
}

// synchronize takes the time of the agent from a page that was just loaded.
export function synchronize(page) {
  loaded = Date.now();
  const at = page.getElementById("asof");
  if (at) {
    offset = Date.parse(at.dateTime) - Date.now();
  }
}

// age returns the milliseconds since the last load.
export function age() {
  return Date.now() - loaded;
}

function tick() {
  if (document.hidden) {
    return;
  }
  const now = Date.now() + offset;
  for (const time of document.querySelectorAll("time[title]")) {
    const text = ago(now, Date.parse(time.dateTime));
    if (time.textContent !== text) {
      time.textContent = text;
    }
  }
}

// ago returns what the function of that name in page.go does.
export function ago(now, then) {
  const seconds = (now - then) / 1000;
  if (seconds <= -1) {
    return "in " + roughly(-seconds);
  }
  return seconds < 1 ? "just now" : roughly(seconds) + " ago";
}

function roughly(seconds) {
  const whole = Math.trunc;
  if (seconds < 120) {
    return `${whole(seconds)} s`;
  }
  if (seconds < 7200) {
    return `${whole(seconds / 60)} min`;
  }
  return seconds < 172800 ? `${whole(seconds / 3600)} h` : `${whole(seconds / 86400)} days`;
}
