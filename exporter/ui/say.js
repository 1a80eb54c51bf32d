// The place where changes are told to those who do not see them.
const place = document.createElement("p");
place.id = "live";
place.className = "unseen";
place.setAttribute("role", "status");
document.body.append(place);

export function say(text) {
  place.textContent = text;
}
