// The page is complete without this script, except for deletions. The script replaces
// the parts of the page that a link or a search changes, which keeps the place and
// the focus.
import { search } from "./search.js";
import { unfold } from "./unfold.js";
import { deletion } from "./delete.js";
import { copying } from "./copy.js";
import { ticking } from "./tick.js";
import { refreshing, whole } from "./refresh.js";
import { sayNow } from "./say.js";

const results = document.getElementById("results");

if (results) {
  refreshing(search(results, upgrade));
} else if (document.querySelector('#tabs a[aria-current][href$="view=status"], #content')) {
  refreshing(whole(upgrade));
}
upgrade(document);
ticking();
sayNow();

function upgrade(root) {
  unfold(root, upgrade);
  deletion(root);
  copying(root);
}
