// The way of a click: when each part had it, in milliseconds since the finger came down.

import { element } from "./elements.mjs";

const TITLES = {
  browser: "Your browser",
  clicks: "Topic clicks",
  worker: "Worker",
  feed: "Feed",
  screen: "Your screen",
};

/**
 * Gives the stops of an answered click, in order. Pure.
 *
 * Times of the broker and the worker are whole milliseconds of the machine's clock, so a stop is never earlier than the
 * one before it, and never later than the arrival.
 * @param click `{startedMs, place?: {partition, offset}, arrivedMs, paintedMs, came}`, times since 1970
 * @param list the list that answered it
 */
export function stops(click, list) {
  const place = click.place ? `partition ${click.place.partition}, offset ${click.place.offset.toLocaleString("en")}` : "the broker has it";
  const raw = [
    ["browser", 0, "sends the click to the feed"],
    ["clicks", list.clicked_at_ms - click.startedMs, place],
    ["worker", list.produced_at_ms - click.startedMs, list.strategy === "rnn" ? "moves your state on, ranks all items" : "does not know you yet: what is popular"],
    ["feed", click.arrivedMs - click.startedMs, click.came === "event" ? "stored it and pushed it here" : "stored it and answered with it"],
    ["screen", click.paintedMs - click.startedMs, "shows the new list"],
  ];
  const arrived = click.arrivedMs - click.startedMs;
  let last = 0;
  return raw.map(([part, ms, text]) => {
    last = Math.max(last, part === "clicks" || part === "worker" ? Math.min(ms, arrived) : ms);
    return { part, title: TITLES[part], text, atMs: last };
  });
}

/** Gives the median of one number or more. Pure. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Shows the stops of a click in a list and as a bar. */
export function showJourney(list, bar, shown) {
  list.replaceChildren(...shown.map((stop) => {
    const row = element("li");
    row.dataset.part = stop.part;
    const text = element("div");
    text.append(element("b", "", stop.title), element("span", "", stop.text));
    row.append(text, element("span", "at", `${rounded(stop.atMs)} ms`));
    return row;
  }));
  bar.replaceChildren(...shown.slice(1).map((stop, i) => {
    const part = element("i");
    part.dataset.part = stop.part;
    part.style.flexGrow = Math.max(stop.atMs - shown[i].atMs, 0.01).toFixed(3);
    return part;
  }));
}

/** Gives milliseconds as a person reads them: tenths below ten. Pure. */
export function rounded(ms) {
  if (ms === 0) return "0";
  return ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en");
}
