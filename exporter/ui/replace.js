// replace gives an element the content of another one. Details that are open stay open, and
// the focus stays on the same link.
export function replace(element, fresh) {
  const open = new Set([...element.querySelectorAll("details[open]")].map(nameOf));
  const focus = element.contains(document.activeElement) && document.activeElement.textContent;
  element.replaceChildren(...fresh.childNodes);
  for (const details of element.querySelectorAll("details")) {
    details.open = open.has(nameOf(details));
  }
  if (focus) {
    [...element.querySelectorAll("a, button, summary")].find((e) => e.textContent === focus)?.focus();
  }
}

// nameOf returns the metric that the details belong to.
function nameOf(details) {
  return details.parentElement.querySelector("code")?.textContent;
}
