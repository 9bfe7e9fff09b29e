// The figures of the demo: what is going on right now, and one simulated user.

import { nameOf } from "./catalogue.mjs";
import { element } from "./elements.mjs";
import { picture } from "./pictures.mjs";

/** Gives the figures as `[title, value, unit]`. Pure. */
export function tiles(figures) {
  const { bundle, bundle_age_s: ageS } = figures;
  return [
    ["Clicks", whole(figures.clicks_per_s), "a second"],
    ["New lists", whole(figures.updates_per_s), "a second"],
    ["Click to list", `${whole(figures.p50_ms)} ms`, `median; 99 % within ${whole(figures.p99_ms)} ms`],
    ["Worker's lag", whole(figures.lag), figures.lag === 1 ? "click not answered yet" : "clicks not answered yet"],
    bundle
      ? ["Model", bundle.slice(0, 8), ageS === null ? "" : `made ${age(ageS)} ago, number ${figures.n_bundles}`]
      : ["Model", "none yet", "everyone gets what is popular"],
    ["Processors", figures.cores.toFixed(2), "cores in use, all programs together"],
  ];
}

function whole(number) {
  return Math.round(number).toLocaleString("en");
}

/** Gives an age as a person says it. Pure. */
export function age(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}

/** Shows figures in a <dl>. */
export function showFigures(list, figures) {
  list.replaceChildren(...tiles(figures).map(([title, value, unit]) => {
    const tile = element("div");
    const figure = element("dd");
    figure.append(element("b", "", value), element("span", "", unit));
    tile.append(element("dt", "", title), figure);
    return tile;
  }));
}

/** Shows one simulated user: the last clicks, hits marked, and the list that followed. */
export function showWatched(place, watched) {
  if (!watched) return;
  const clicks = element("ol", "minis");
  clicks.append(...watched.clicks.map(([itemId, wasListed]) => mini(itemId, wasListed)));
  const items = element("ol", "minis");
  items.append(...watched.items.map((itemId) => mini(itemId, false)));
  const hits = watched.clicks.filter(([, wasListed]) => wasListed).length;
  place.replaceChildren(
    element("p", "sub", `${watched.user_id} clicked these, the newest last. ${hits ? "A tick: it was on the list shown before." : ""}`),
    clicks,
    element("p", "sub", "and now gets"),
    items,
  );
}

/** Gives a small picture with its name for those who do not see it. */
export function mini(itemId, isHit) {
  const place = element("li", isHit ? "mini hit" : "mini");
  place.title = nameOf(itemId);
  place.append(picture(itemId), element("span", "unseen", `${nameOf(itemId)}${isHit ? ", was on the list" : ""}`));
  return place;
}
