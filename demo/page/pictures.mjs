// Draws an item: an SVG of a few calm shapes, made from the item's id. Colours are classes that style.css knows, so
// that a picture follows the theme without being drawn again.

import { describe, numbers } from "./catalogue.mjs";

const SVG = "http://www.w3.org/2000/svg";

/** Gives a new picture of an item; it is decoration, for the name stands beside it. */
export function picture(itemId) {
  const { kind, hue, second, seed } = describe(itemId);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 120 120");
  svg.setAttribute("preserveAspectRatio", "xMidYMax slice");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  svg.classList.add("picture");
  svg.style.setProperty("--hue", hue);
  svg.style.setProperty("--second", second);
  svg.innerHTML = drawing(kind, seed);
  return svg;
}

/** Gives the shapes of a kind as SVG text; it holds nothing but numbers and names of this file. */
export function drawing(kind, seed) {
  const random = numbers(seed);
  const between = (low, high) => Math.round((low + random() * (high - low)) * 10) / 10;
  const backdrop = BACKDROPS[Math.floor(random() * BACKDROPS.length)](between);
  return `<rect class="ground" width="120" height="120"/>${backdrop}${SHAPES[kind](between, random)}`;
}

const BACKDROPS = [
  () => '<rect class="floor" y="92" width="120" height="28"/>',
  (between) => `<circle class="sun" cx="${between(34, 86)}" cy="${between(38, 54)}" r="${between(26, 34)}"/><rect class="floor" y="92" width="120" height="28"/>`,
  (between) => `<path class="sun" d="M${between(20, 34)} 92V52a${28} ${28} 0 0 1 56 0V92z"/><rect class="floor" y="92" width="120" height="28"/>`,
];

const shadow = (halfWidth) => `<ellipse class="shadow" cx="60" cy="98" rx="${halfWidth}" ry="4"/>`;

const SHAPES = {
  lamp(between, random) {
    const [top, bottom, shade] = [between(12, 20), between(24, 32), between(44, 56)];
    const stem = random() < 0.5
      ? `<rect class="b" x="58" y="${shade}" width="4" height="${94 - shade}" rx="2"/>`
      : `<path class="b" d="M60 ${shade}c${between(6, 12)} 10 -${between(6, 12)} 30 0 ${94 - shade}" fill="none" stroke-width="4"/>`;
    return `${shadow(22)}${stem}<rect class="b" x="${60 - 17}" y="92" width="34" height="6" rx="3"/>`
      + `<path class="a" d="M${60 - top} 22H${60 + top}L${60 + bottom} ${shade}H${60 - bottom}z"/>`
      + `<path class="light" d="M${60 - bottom} ${shade}H${60 + bottom}l-4 5H${60 - bottom + 4}z"/>`;
  },
  vase(between, random) {
    const [neck, belly, top] = [between(7, 12), between(20, 29), between(40, 50)];
    const stems = [-1, 0, 1].map((side) => {
      const [x, y] = [60 + side * between(9, 17), between(14, 26)];
      return `<path class="stem" d="M60 ${top}Q60 ${y + 14} ${x} ${y}" fill="none" stroke-width="2"/><circle class="c" cx="${x}" cy="${y}" r="${between(3, 5.5)}"/>`;
    });
    const band = random() < 0.5 ? `<rect class="light" x="${60 - belly + 2}" y="70" width="${2 * belly - 4}" height="4" rx="2"/>` : "";
    return `${shadow(belly)}${stems.join("")}<path class="a" d="M${60 - neck} ${top}H${60 + neck}C${60 + neck} ${top + 12} ${60 + belly} ${top + 14} ${60 + belly} 74C${60 + belly} 90 ${60 + 14} 98 60 98C${60 - 14} 98 ${60 - belly} 90 ${60 - belly} 74C${60 - belly} ${top + 14} ${60 - neck} ${top + 12} ${60 - neck} ${top}z"/>${band}`;
  },
  chair(between, random) {
    const [back, half] = [between(24, 36), between(20, 25)];
    const rest = random() < 0.5
      ? `<rect class="a" x="${60 - half}" y="${back}" width="${2 * half}" height="22" rx="${between(4, 11)}"/><rect class="b" x="${60 - half + 3}" y="${back + 18}" width="4" height="${62 - back}"/><rect class="b" x="${60 + half - 7}" y="${back + 18}" width="4" height="${62 - back}"/>`
      : `<rect class="a" x="${60 - half}" y="${back}" width="${2 * half}" height="${70 - back}" rx="${between(8, 18)}"/>`;
    return `${shadow(half + 4)}${rest}<path class="b" d="M${60 - half + 4} 72l-5 26h4l6 -26zM${60 + half - 4} 72l5 26h-4l-6 -26z"/>`
      + `<rect class="c" x="${60 - half - 3}" y="64" width="${2 * half + 6}" height="10" rx="5"/>`;
  },
  cup(between) {
    const [half, top, taper] = [between(20, 27), between(46, 58), between(2, 8)];
    return `${shadow(half + 4)}<path class="handle" d="M${60 + half - 3} ${top + 8}h6a9 9 0 0 1 0 ${between(18, 24)}h-9" fill="none" stroke-width="5"/>`
      + `<path class="a" d="M${60 - half} ${top}H${60 + half}L${60 + half - taper} 90q-1 8 -9 8H${60 - half + taper + 9}q-8 0 -9 -8z"/>`
      + `<ellipse class="b" cx="60" cy="${top}" rx="${half}" ry="4"/><path class="steam" d="M54 ${top - 12}q-4 -6 0 -11t0 -11M66 ${top - 12}q-4 -6 0 -11t0 -11" fill="none" stroke-width="2"/>`;
  },
  clock(between, random) {
    const [radius, turn, hour] = [between(28, 34), between(0, 360), between(0, 360)];
    const ticks = [0, 90, 180, 270].map((angle) => `<rect class="b" x="59" y="${62 - radius + 5}" width="2" height="5" rx="1" transform="rotate(${angle} 60 62)"/>`);
    const feet = random() < 0.5 ? '<path class="b" d="M40 86l-5 12h5l5 -8zM80 86l5 12h-5l-5 -8z"/>' : "";
    return `${shadow(24)}${feet}<circle class="a" cx="60" cy="62" r="${radius}"/><circle class="face" cx="60" cy="62" r="${radius - 5}"/>${ticks.join("")}`
      + `<rect class="b" x="58.8" y="${62 - radius + 13}" width="2.4" height="${radius - 11}" rx="1.2" transform="rotate(${turn} 60 62)"/>`
      + `<rect class="c" x="58.5" y="${62 - radius / 2}" width="3" height="${radius / 2 + 2}" rx="1.5" transform="rotate(${hour} 60 62)"/><circle class="b" cx="60" cy="62" r="3"/>`;
  },
  plant(between) {
    const half = between(15, 21);
    const leaves = [-64, -34, -10, 16, 42, 66].map((angle, place) => {
      const [length, width] = [between(34, 48), between(7, 11)];
      return `<path class="${place % 2 ? "leaf" : "leaf dark"}" d="M60 74q-${width} -${length / 2} 0 -${length}q${width} ${length / 2} 0 ${length}z" transform="rotate(${angle} 60 74)"/>`;
    });
    return `${shadow(half + 4)}${leaves.join("")}<path class="a" d="M${60 - half} 70H${60 + half}L${60 + half - 5} 98H${60 - half + 5}z"/>`
      + `<rect class="b" x="${60 - half - 2}" y="68" width="${2 * half + 4}" height="6" rx="3"/>`;
  },
  bottle(between, random) {
    const [half, shoulder, neck] = [between(14, 20), between(50, 60), between(5, 7)];
    const label = random() < 0.6 ? `<rect class="light" x="${60 - half}" y="70" width="${2 * half}" height="${between(10, 16)}"/>` : "";
    return `${shadow(half + 5)}<path class="a" d="M${60 - neck} 28H${60 + neck}V40Q${60 + neck} ${shoulder - 4} ${60 + half} ${shoulder}V92q0 6 -6 6H${60 - half + 6}q-6 0 -6 -6V${shoulder}Q${60 - neck} ${shoulder - 4} ${60 - neck} 40z"/>`
      + `${label}<rect class="c" x="${60 - neck - 1}" y="20" width="${2 * neck + 2}" height="10" rx="3"/>`;
  },
  bowl(between) {
    const [half, top] = [between(29, 36), between(62, 70)];
    const fruit = [-15, 0, 15].map((x, place) => `<circle class="${place === 1 ? "c" : "light"}" cx="${60 + x + between(-3, 3)}" cy="${top - between(3, 8)}" r="${between(8, 12)}"/>`);
    return `${shadow(20)}${fruit.join("")}<path class="a" d="M${60 - half} ${top}H${60 + half}C${60 + half} ${top + 18} ${60 + 18} 94 60 94C${60 - 18} 94 ${60 - half} ${top + 18} ${60 - half} ${top}z"/><rect class="b" x="48" y="92" width="24" height="6" rx="2"/>`;
  },
  shelf(between, random) {
    const left = between(24, 32);
    const span = 120 - 2 * left;
    const books = (floor) => {
      let text = "";
      for (let x = left + 8; x < left + span - 14; ) {
        const [thick, tall] = [between(4, 7), between(12, 19)];
        if (random() < 0.8) text += `<rect class="${["c", "light", "b"][Math.floor(random() * 3)]}" x="${x}" y="${floor - tall}" width="${thick}" height="${tall}" rx="1"/>`;
        x += thick + 1;
      }
      return text;
    };
    return `${shadow(span / 2)}<rect class="a" x="${left}" y="22" width="${span}" height="76" rx="4"/>`
      + [26, 50, 74].map((y) => `<rect class="inside" x="${left + 4}" y="${y}" width="${span - 8}" height="20" rx="1"/>${books(y + 20)}`).join("");
  },
  teapot(between) {
    const [wide, high] = [between(24, 29), between(19, 24)];
    const middle = 96 - high;
    return `${shadow(wide)}<path class="handle" d="M${60 + wide - 5} ${middle - 10}q20 -2 17 12t-20 12" fill="none" stroke-width="5"/>`
      + `<path class="a" d="M${60 - wide + 5} ${middle + 6}q-12 -4 -18 -${between(22, 28)}l7 -2q4 12 16 14z"/>`
      + `<ellipse class="a" cx="60" cy="${middle}" rx="${wide}" ry="${high}"/><path class="b" d="M${60 - 13} ${middle - high + 4}q13 -10 26 0z"/><circle class="c" cx="60" cy="${middle - high - 5}" r="${between(3.5, 5)}"/>`
      + `<path class="light" d="M${60 - wide + 3} ${middle}q${wide - 3} 7 ${2 * wide - 6} 0v4q-${wide - 3} 7 -${2 * wide - 6} 0z"/>`;
  },
};
