// Metrics of a group or file unfold below its row. They are asked for only then.
import { load } from "./load.js";
import { plain } from "./search.js";
import { say } from "./say.js";

export function unfold(root) {
  for (const link of root.querySelectorAll("a.unfold")) {
    link.setAttribute("role", "button");
    link.setAttribute("aria-expanded", "false");
    link.addEventListener("click", (event) => {
      if (plain(event)) {
        event.preventDefault();
        toggle(link);
      }
    });
    link.addEventListener("keydown", (event) => {
      if (event.key === " ") {
        event.preventDefault();
        toggle(link);
      }
    });
  }
}

async function toggle(link) {
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
}

// fill shows in the cell what a page says of the content of a file.
async function fill(cell, url) {
  cell.setAttribute("aria-busy", "true");
  try {
    const page = await load(url);
    const content = page.getElementById("content") ?? page.getElementById("main");
    cell.replaceChildren(...content.childNodes);
    say("The metrics are shown below.");
  } catch (error) {
    cell.replaceChildren(error.message);
    say(error.message);
  }
  cell.removeAttribute("aria-busy");
}
