// The place where changes are announced to screen readers, and shown if asked to.
const place = document.createElement("p");
place.id = "live";
place.className = "unseen";
place.setAttribute("role", "status");
document.body.append(place);

// say announces a text, or an element with text.
export function say(text, shown = false) {
  place.replaceChildren(text);
  place.className = shown ? "shown" : "unseen";
}

// A message for the page that is loaded next.
const later = "promspool-said";

export function sayLater(text) {
  sessionStorage.setItem(later, text);
}

export function sayNow() {
  const text = sessionStorage.getItem(later);
  if (text) {
    sessionStorage.removeItem(later);
    say(text, true);
  }
}
