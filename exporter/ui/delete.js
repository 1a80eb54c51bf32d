// Groups are deleted after a question. The server offers that only to clients that may
// do it, and checks again when it is asked to.
import { ask } from "./load.js";
import { sayLater } from "./say.js";

export function deletion(root) {
  for (const button of root.querySelectorAll("button.delete")) {
    if (!button.hidden) {
      continue; // upgraded already
    }
    button.hidden = false;
    button.addEventListener("click", () => start(button));
  }
}

function start(button) {
  const { path, samples, bulk, count } = button.dataset;
  if (path) {
    const labels = button.querySelector("code");
    question({
      title: "Delete this group?",
      body: [paragraph(labels.cloneNode(true)), paragraph(`Its file with ${samples} sample${samples === "1" ? "" : "s"} is deleted. The next push recreates the group.`)],
      run: () => ask(path, "DELETE"),
      ended: () => finish(button, `Deleted ${labels.textContent}`),
    });
  } else if (bulk) {
    deleteFound(button, bulk);
  } else {
    deleteAll(button, count);
  }
}

// deleteFound deletes the groups that a filter finds, by their names.
async function deleteFound(button, query) {
  const list = document.createElement("ul");
  list.tabIndex = 0;
  list.setAttribute("aria-label", "Groups");
  let names = [];
  const dialog = question({
    title: button.textContent + "?",
    body: [list, paragraph("The next push to a group recreates it.")],
    run: async () => {
      let deleted = 0;
      for (const part of parts(names)) {
        try {
          const answer = await ask("api/v1/admin/groups?" + part, "DELETE");
          deleted += (await answer.json()).data.groups.length;
        } catch (error) {
          throw new Error(deleted ? `After ${deleted} groups were deleted: ${error.message}` : error.message);
        }
      }
      return deleted;
    },
    ended: (deleted) => finish(button, deleted === 1 ? "Deleted 1 group" : `Deleted ${deleted} groups`),
    ready: false,
  });
  try {
    const { data } = await (await ask("api/v1/files" + query)).json();
    names = data.map((file) => file.name);
    list.append(...data.map(({ labels }) => {
      const item = document.createElement("li");
      const code = document.createElement("code");
      code.textContent = "{" + Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(", ") + "}";
      item.append(code);
      return item;
    }));
    dialog.ready(true);
  } catch (error) {
    dialog.fail(error.message);
  }
}

// parts returns queries with all names, each short enough for proxies.
function parts(names) {
  const list = [];
  for (const name of names) {
    const one = new URLSearchParams({ "name[]": name }).toString();
    if (list.length && list.at(-1).length + one.length < 4000) {
      list[list.length - 1] += "&" + one;
    } else {
      list.push(one);
    }
  }
  return list;
}

// deleteAll deletes all groups, once their number was typed.
function deleteAll(button, count) {
  const input = document.createElement("input");
  input.inputMode = "numeric";
  input.autocomplete = "off";
  const label = document.createElement("label");
  label.append(`Type ${count} to confirm:`, input);
  const dialog = question({
    title: `Delete all ${count} groups?`,
    body: [paragraph("All pushed groups are deleted. Dropped files stay."), label],
    run: () => ask("api/v1/admin/wipe", "PUT"),
    ended: () => finish(button, `Deleted all ${count} groups`),
    ready: false,
    focus: input,
  });
  input.addEventListener("input", () => dialog.ready(input.value.replace(/[\s,]/g, "") === count.replace(/,/g, "")));
}

// question shows a dialog that runs a deletion. The focus stays in it until the end.
function question({ title, body, run, ended, ready = true, focus }) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "question");
  const heading = document.createElement("h2");
  heading.id = "question";
  heading.textContent = title;
  const trouble = paragraph("");
  trouble.className = "bad";
  trouble.setAttribute("role", "alert");
  const cancel = document.createElement("button");
  cancel.type = "button";
  cancel.textContent = "Cancel";
  const confirm = document.createElement("button");
  confirm.type = "button";
  confirm.className = "danger";
  confirm.textContent = "Delete";
  (focus ?? cancel).autofocus = true;
  const tools = paragraph(cancel, confirm);
  tools.className = "tools";
  dialog.append(heading, ...body, trouble, tools);
  document.body.append(dialog);

  let running = false;
  const setReady = (is) => confirm.setAttribute("aria-disabled", String(!is));
  setReady(ready);
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  confirm.addEventListener("click", async () => {
    if (running || confirm.getAttribute("aria-disabled") === "true") {
      return;
    }
    running = true;
    setReady(false);
    confirm.textContent = "Deleting …";
    trouble.textContent = "";
    try {
      const result = await run();
      dialog.close();
      ended(result);
    } catch (error) {
      trouble.textContent = error.message;
      confirm.textContent = "Delete";
      setReady(true);
    }
    running = false;
  });
  dialog.showModal();
  return { ready: setReady, fail: (text) => { trouble.textContent = text; } };
}

function paragraph(...content) {
  const p = document.createElement("p");
  p.append(...content);
  return p;
}

// finish shows the list without what was deleted. The next row gets the focus.
function finish(button, text) {
  const results = button.closest("#results");
  if (!results) {
    sayLater(text);
    location.assign("?");
    return;
  }
  const rows = [...results.querySelectorAll(".list > tbody > tr:not(.below)")];
  let row = button.closest("tr");
  if (row?.classList.contains("below")) {
    row = row.previousElementSibling;
  }
  results.dispatchEvent(new CustomEvent("stale", { detail: { text, row: Math.max(0, rows.indexOf(row)) } }));
}
