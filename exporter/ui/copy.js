// The command for the first push has the address that the browser knows, and can
// be copied.
import { say } from "./say.js";

export function copying(root) {
  const first = root.querySelector("#first");
  if (first && !first.dataset.url) {
    const url = new URL("metrics/job/some_job", document.baseURI).href;
    if (/^https?:[\w.:\[\]/-]+$/.test(url)) { // nothing that a shell interprets
      first.textContent = first.textContent.replace(/http\S*$/, url);
    }
    first.dataset.url = url;
  }
  for (const code of root.querySelectorAll(".empty pre > code")) {
    if (code.nextElementSibling) {
      continue;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", () => copy(code));
    code.after(button);
  }
}

async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Without TLS a browser gives no clipboard to pages of other hosts.
    getSelection().selectAllChildren(code);
    if (!document.execCommand("copy")) {
      say("Press Ctrl+C to copy the selected command.", true);
      return;
    }
  }
  say("Copied.", true);
}
