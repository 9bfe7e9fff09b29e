// The made-up catalogue: a name, a kind and colours for every item id, from the id alone. Pure; nothing is loaded.
//
// The simulator's first 2,000 items are 40 interests of 50 items each, in the order of their numbers. Items of one
// interest are of one kind and one family of colours here, so that a person sees what a list is about. What appears
// later gets a kind by its hash: its number says nothing about its interest.

const ITEMS_PER_INTEREST = 50;
const FIRST_ITEMS = 2000;

export const KINDS = ["lamp", "vase", "chair", "cup", "clock", "plant", "bottle", "bowl", "shelf", "teapot"];

const NOUNS = {
  lamp: ["lamp", "lantern", "reading light", "night light"],
  vase: ["vase", "flower jug", "bud vase", "urn"],
  chair: ["chair", "stool", "armchair", "seat"],
  cup: ["cup", "mug", "beaker", "coffee cup"],
  clock: ["clock", "wall clock", "timer", "alarm clock"],
  plant: ["palm", "fig tree", "rubber plant", "house plant"],
  bottle: ["bottle", "carafe", "flask", "decanter"],
  bowl: ["bowl", "dish", "basin", "fruit bowl"],
  shelf: ["shelf", "bookcase", "wall rack", "cabinet"],
  teapot: ["teapot", "kettle", "coffee pot", "tea urn"],
};

// Each family: a hue, one that goes well with it, and words that sound like it.
const FAMILIES = [
  { hue: 158, second: 38, words: ["Moss", "Fern", "Sage", "Juniper", "Alder", "Laurel", "Ivy", "Willow", "Thyme", "Meadow", "Cedar", "Lichen", "Hazel"] },
  { hue: 16, second: 188, words: ["Clay", "Ember", "Rust", "Terra", "Copper", "Rowan", "Brick", "Saffron", "Amber", "Cinder", "Maple", "Russet", "Coral"] },
  { hue: 212, second: 24, words: ["Harbour", "Slate", "Fjord", "Tide", "Rain", "Cobalt", "Heron", "Drift", "Mist", "Anchor", "Pebble", "Delft", "North"] },
  { hue: 40, second: 205, words: ["Oat", "Linen", "Barley", "Dune", "Honey", "Birch", "Straw", "Chalk", "Almond", "Sand", "Ochre", "Wheat", "Flax"] },
];

/** A 32-bit hash of a text (FNV-1a, mixed), the same in every browser. */
export function hash(text) {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  }
  value = Math.imul(value ^ (value >>> 15), 0x2c1b3c6d);
  return (value ^ (value >>> 12)) >>> 0;
}

/** Numbers in [0, 1) that follow from a seed (mulberry32). */
export function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Gives the interest and the place in it of an item: two whole numbers. */
function placeOf(itemId) {
  const number = /^item-(\d{1,9})$/.exec(itemId)?.[1];
  if (number !== undefined && Number(number) < FIRST_ITEMS) {
    return [Math.floor(number / ITEMS_PER_INTEREST), number % ITEMS_PER_INTEREST];
  }
  const value = hash(itemId);
  return [value % 40, (value >>> 8) % ITEMS_PER_INTEREST];
}

/** Describes an item: `name`, `kind`, `hue`, `second` (degrees) and `seed` of its picture. */
export function describe(itemId) {
  const [interest, place] = placeOf(itemId);
  const kind = KINDS[interest % KINDS.length];
  const family = FAMILIES[Math.floor(interest / KINDS.length) % FAMILIES.length];
  const word = family.words[place % family.words.length];
  const noun = NOUNS[kind][Math.floor(place / family.words.length) % NOUNS[kind].length];
  const seed = hash(`picture of ${itemId}`);
  const shift = (seed % 29) - 14;
  return { name: `${word} ${noun}`, kind, hue: family.hue + shift, second: family.second + shift, seed };
}

/** The name of an item, as a person would say it. */
export function nameOf(itemId) {
  return describe(itemId).name;
}
