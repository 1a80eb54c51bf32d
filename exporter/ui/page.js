// The page works without this script, but for the removal of groups. It takes
// over the parts of the page that a link or a search would change, so that the
// place and the focus stay.
import { search } from "./search.js";
import { unfold } from "./unfold.js";
import { removal } from "./remove.js";

const results = document.getElementById("results");
const upgrades = [unfold, removal];

if (results) {
  search(results, upgrade);
}
upgrade(document);

function upgrade(root) {
  for (const u of upgrades) {
    u(root);
  }
}
