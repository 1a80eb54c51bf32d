// Metrics of a group or file unfold below its row. They are requested only then.
import { load } from "./load.js";
import { replace } from "./replace.js";
import { plain } from "./search.js";
import { say } from "./say.js";

export function unfold(root, upgrade) {
  for (const link of root.querySelectorAll("a.unfold")) {
    link.setAttribute("role", "button");
    link.setAttribute("aria-expanded", "false");
    link.addEventListener("click", (event) => {
      if (plain(event)) {
        event.preventDefault(); // the row unfolds
      }
    });
    link.addEventListener("keydown", (event) => {
      if (event.key === " ") {
        event.preventDefault();
        toggle(link, upgrade);
      }
    });
    const row = link.closest("tr");
    row.closest("table").classList.add("live");
    row.addEventListener("click", (event) => {
      const other = event.target.closest("a, button");
      if (plain(event) && (!other || other === link) && getSelection().isCollapsed) {
        toggle(link, upgrade);
      }
    });
  }
}

async function toggle(link, upgrade) {
  const row = link.closest("tr");
  if (link.getAttribute("aria-expanded") === "true") {
    link.setAttribute("aria-expanded", "false");
    row.nextElementSibling.remove();
    return;
  }
  link.setAttribute("aria-expanded", "true");
  const cell = document.createElement("td");
  cell.colSpan = row.cells.length;
  const below = document.createElement("tr");
  below.className = "below";
  below.append(cell);
  row.after(below);
  await fill(cell, link.getAttribute("href"));
  upgrade(cell);
}

// fill shows in the cell the content of the page of a file.
async function fill(cell, url) {
  cell.setAttribute("aria-busy", "true");
  cell.textContent = "Loading …";
  try {
    put(cell, contentOf(await load(url)));
    say("The metrics are shown below.");
  } catch (error) {
    cell.replaceChildren(error.message);
    say(error.message);
  }
  cell.removeAttribute("aria-busy");
}

// contentOf returns the content of a file in the page of that file.
function contentOf(page) {
  const content = page.getElementById("content");
  if (!content) {
    throw new Error("The answer is not the page of a file.");
  }
  return content;
}

// put shows the content in the cell, and records its version.
function put(cell, content) {
  replace(cell, content);
  cell.dataset.version = content.dataset.version ?? "";
}

// unfolded returns the rows that are unfolded, by their links.
export function unfolded(results) {
  const rows = new Map();
  for (const link of results.querySelectorAll('a.unfold[aria-expanded="true"]')) {
    rows.set(link.getAttribute("href"), link.closest("tr").nextElementSibling);
  }
  return rows;
}

// unfoldAgain puts them below the rows that are there now.
export function unfoldAgain(results, rows) {
  for (const link of results.querySelectorAll("a.unfold")) {
    const below = rows.get(link.getAttribute("href"));
    if (below) {
      link.setAttribute("aria-expanded", "true");
      link.closest("tr").after(below);
    }
  }
}

// updateUnfolded requests the content of the unfolded rows whose version is not the one of
// their row any more. It makes one request after another, so many rows never flood the
// agent. It ends once may returns false.
export async function updateUnfolded(results, upgrade, may) {
  for (const link of results.querySelectorAll('a.unfold[aria-expanded="true"]')) {
    if (link.getAttribute("aria-expanded") !== "true") {
      continue; // folded meanwhile
    }
    const cell = link.closest("tr").nextElementSibling.cells[0];
    if (cell.hasAttribute("aria-busy") || cell.dataset.version === link.dataset.version) {
      continue;
    }
    let content;
    try {
      content = contentOf(await load(link.getAttribute("href")));
    } catch {
      return; // the next refresh retries
    }
    if (!may()) {
      return;
    }
    if (cell.isConnected) {
      put(cell, content);
      upgrade(cell);
    }
  }
}
