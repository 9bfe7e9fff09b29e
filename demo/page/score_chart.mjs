// The hit rate over time beside what it is measured against, with a mark where a new bundle came.

import { element } from "./elements.mjs";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const MOST_LINES = 12; // through the chart: of more swaps, the marks above it say enough
const MARGIN = { top: 14, right: 8, bottom: 24, left: 40 };

// In the order of a point's values after its time; the first is drawn last, on top.
export const SERIES = [
  { key: "rate", title: "nextclick" },
  { key: "popularity", title: "popularity" },
  { key: "association", title: "association" },
  { key: "ceiling", title: "best possible" },
];

/** Gives where ticks of an axis from 0 to `top` stand: three or four round numbers. Pure. */
export function ticks(top) {
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5].find((size) => top / size <= 4.5) ?? 0.5;
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => Math.round(i * step * 100) / 100);
}

/** Gives the path through the points of one series; a gap where it has no value. Pure. */
export function pathOf(points, column, x, y) {
  let text = "";
  let isDown = false;
  for (const point of points) {
    const value = point[column];
    if (value !== null) text += `${isDown ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(value).toFixed(1)}`;
    isDown = value !== null;
  }
  return text;
}

export class ScoreChart {
  /**
   * @param element where the chart is drawn, again when its width changes
   * @param legend a <dl> for the newest values
   */
  constructor(element, legend) {
    this.element = element;
    this.legend = legend;
    this.curve = { points: [], swaps: [] };
    this.nBundles = 0;
    new ResizeObserver(() => this.draw()).observe(element);
  }

  /** Shows a curve: `points` are `[seconds, rate, popularity, association, ceiling]`, `swaps` `[seconds, bundle id]`, the newest ones. */
  show(curve, nBundles) {
    this.curve = curve;
    this.nBundles = nBundles;
    this.draw();
  }

  draw() {
    const { points, swaps } = this.curve;
    const drawn = points.length > 1;
    this.element.classList.toggle("waiting", !drawn);
    if (!drawn) {
      this.element.textContent = "The curve begins when the first lists have been judged.";
      return;
    }
    const width = Math.max(this.element.clientWidth, 200);
    const [from, to] = [points[0][0], Math.max(points.at(-1)[0], points[0][0] + 10)];
    const top = Math.min(1, Math.max(0.1, ...points.flatMap((point) => point.slice(1).filter((v) => v !== null))) * 1.12);
    const x = (s) => MARGIN.left + ((s - from) / (to - from)) * (width - MARGIN.left - MARGIN.right);
    const y = (v) => HEIGHT - MARGIN.bottom - (v / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);

    const svg = made("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": this.inWords() });
    for (const value of ticks(top)) {
      svg.append(made("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }));
      svg.append(made("text", { class: "axis end", x: MARGIN.left - 8, y: y(value) + 4 }, `${Math.round(100 * value)}%`));
    }
    for (const [s, anchor] of [[from, ""], [(from + to) / 2, " middle"], [to, " end"]]) {
      svg.append(made("text", { class: `axis${anchor}`, x: x(s), y: HEIGHT - 6 }, clock(s)));
    }
    const marked = swaps.filter(([at]) => at >= from);
    for (const [s, bundle] of marked) {
      const mark = made("g", { class: "swap" });
      mark.append(made("title", {}, `bundle ${bundle} came after ${clock(s)}`));
      if (marked.length <= MOST_LINES) mark.append(made("line", { x1: x(s), x2: x(s), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }));
      mark.append(made("path", { d: `M${x(s)} ${MARGIN.top - 9}l4.5 4.5l-4.5 4.5l-4.5 -4.5z` }));
      svg.append(mark);
    }
    SERIES.forEach(({ key }, i) => svg.append(made("path", { class: `line ${key}`, d: pathOf(points, i + 1, x, y) })));
    svg.append(svg.querySelector(".line.rate"));
    const [s, value] = points.at(-1);
    if (value !== null) svg.append(made("circle", { class: "now", cx: x(s), cy: y(value), r: 4 }));
    this.element.replaceChildren(svg);
    this.showLegend(points.at(-1));
  }

  inWords() {
    const { points } = this.curve;
    const values = SERIES.map(({ title }, i) => `${title} ${percent(points.at(-1)[i + 1])}`).join(", ");
    return `Hit rates over the last ${clock(points.at(-1)[0] - points[0][0])} minutes. Now: ${values}. New bundles: ${this.nBundles}.`;
  }

  showLegend(point) {
    const rows = SERIES.map(({ key, title }, i) => [key, title, percent(point[i + 1])]);
    rows.push(["swap", this.nBundles === 1 ? "new bundle" : "new bundles", String(this.nBundles)]);
    this.legend.replaceChildren(...rows.map(([key, title, value]) => {
      const row = element("div", key);
      row.append(element("dt", "", title), element("dd", "", value));
      return row;
    }));
  }
}

/** Gives a share as a person reads it. Pure. */
export function percent(share) {
  return share === null ? "–" : `${(100 * share).toFixed(1)} %`;
}

/** Gives seconds as minutes and seconds. Pure. */
export function clock(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function made(name, attributes, text = "") {
  const shape = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
  if (text) shape.textContent = text;
  return shape;
}
