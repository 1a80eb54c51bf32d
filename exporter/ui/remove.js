// Groups are removed with the push API, after a question. The server shows the
// buttons only to those who may, and decides again when it is asked to.
export function removal(root) {
  for (const button of root.querySelectorAll("button.remove")) {
    button.hidden = false;
    button.addEventListener("click", () => ask(button));
  }
}

function ask(button) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "question");

  const title = document.createElement("h2");
  title.id = "question";
  title.textContent = button.dataset.title;
  const which = document.createElement("p");
  which.append(button.querySelector("code")?.cloneNode(true) ?? "");
  const what = document.createElement("p");
  what.textContent = button.dataset.question;
  const trouble = document.createElement("p");
  trouble.className = "bad";
  trouble.setAttribute("role", "alert");

  const cancel = document.createElement("button");
  cancel.type = "button";
  cancel.textContent = "Cancel";
  cancel.autofocus = true;
  const confirm = document.createElement("button");
  confirm.type = "button";
  confirm.className = "danger";
  confirm.textContent = "Remove";
  const tools = document.createElement("p");
  tools.className = "tools";
  tools.append(cancel, confirm);

  dialog.append(title, which, what, trouble, tools);
  document.body.append(dialog);
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  confirm.addEventListener("click", async () => {
    confirm.disabled = true;
    trouble.textContent = await remove(button.dataset);
    confirm.disabled = false;
    if (!trouble.textContent) {
      dialog.close();
      gone(button, which.textContent || "all groups");
    }
  });
  dialog.showModal();
}

// remove returns why nothing could be removed, or nothing.
async function remove({ path, method }) {
  try {
    const answer = await fetch(path, { method });
    return answer.ok ? "" : (await answer.text()).trim() || `The agent answered ${answer.status}.`;
  } catch {
    return "The agent does not answer.";
  }
}

// gone shows the page without the group.
function gone(button, name) {
  const results = button.closest("#results");
  if (!results) {
    location.assign("?");
    return;
  }
  document.getElementById("main").focus();
  results.dispatchEvent(new CustomEvent("stale", { detail: `Removed ${name}` }));
}
