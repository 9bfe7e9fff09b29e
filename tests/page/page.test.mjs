// What the page decides, without a browser: names and pictures, which list is shown, the way of a click, the outbox.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ask, FeedError, postClick } from "../../demo/page/api.mjs";
import { describe, KINDS, nameOf } from "../../demo/page/catalogue.mjs";
import { age, tiles } from "../../demo/page/figures.mjs";
import { median, rounded, stops } from "../../demo/page/journey.mjs";
import { contains, isNewer } from "../../demo/page/newest.mjs";
import { Note } from "../../demo/page/note.mjs";
import { Outbox } from "../../demo/page/outbox.mjs";
import { drawing } from "../../demo/page/pictures.mjs";
import { mainReason, shares } from "../../demo/page/reasons.mjs";
import { clock, pathOf, percent, ticks } from "../../demo/page/score_chart.mjs";
import { visitorId } from "../../demo/page/visitor.mjs";

const aList = (sequence, clicked_at_ms, produced_at_ms = clicked_at_ms + 5) => ({ sequence, clicked_at_ms, produced_at_ms, strategy: "rnn", items: [] });

class Storage extends Map {
  getItem(key) {
    return this.get(key) ?? null;
  }

  setItem(key, value) {
    this.set(key, value);
  }
}

test("the first 2,000 items have 2,000 names, and those of an interest are of one kind", () => {
  const items = Array.from({ length: 2000 }, (_, number) => describe(`item-${number}`));

  assert.equal(new Set(items.map((item) => item.name)).size, 2000);
  for (let first = 0; first < 2000; first += 50) {
    assert.equal(new Set(items.slice(first, first + 50).map((item) => item.kind)).size, 1);
  }
});

test("whatever an item is called, it has a name and a picture, always the same", () => {
  for (const itemId of ["item-2000", "item-99999999999", "sku 4711", "<b>", "", "ä".repeat(500)]) {
    const { name, kind, seed } = describe(itemId);

    assert.match(name, /^[A-Z][a-z]+ [a-z ]+$/);
    assert.deepEqual(describe(itemId), describe(itemId));
    assert.equal(drawing(kind, seed), drawing(kind, seed));
  }
});

test("a picture of any kind is of numbers and its own shapes only", () => {
  for (const kind of KINDS) {
    for (let seed = 0; seed < 200; seed += 1) {
      assert.doesNotMatch(drawing(kind, seed), /NaN|undefined|Infinity|--|script|href/);
    }
  }
});

test("an older list never replaces a newer one", () => {
  assert.ok(isNewer(aList(0, 0), undefined));
  assert.ok(isNewer(aList(3, 900), aList(2, 800)));
  assert.ok(!isNewer(aList(2, 800), aList(3, 900)));
  assert.ok(!isNewer(aList(3, 900), aList(3, 900)));
});

test("a state that was lost counts from one again, and its list is shown", () => {
  assert.ok(isNewer(aList(1, 1000), aList(30, 900)));
});

test("a list that was made later of the same clicks is shown", () => {
  assert.ok(isNewer(aList(0, 0, 20), aList(0, 0, 10)));
});

test("a click is in a list whose last click the broker took after it", () => {
  const click = { startedMs: 1000.7, sequenceBefore: 4 };

  assert.ok(contains(aList(5, 1000), click));
  assert.ok(!contains(aList(4, 1010), click));
  assert.ok(!contains(aList(5, 900), click));
});

test("a reason names the item that speaks for it", () => {
  const because = [
    { kind: "neighbour", share: 0.03, text: "often clicked after item-7", item_id: "item-7" },
    { kind: "network", share: 0.01, text: "fits what you did" },
  ];

  assert.equal(mainReason({ because }), `Often clicked after ${nameOf("item-7")}`);
  assert.deepEqual(shares({ because }), [["neighbour", 0.75], ["network", 0.25]]);
  assert.equal(mainReason({}), "");
  assert.deepEqual(shares({}), []);
});

test("the stops of a click are in order, though clocks cut off parts of a millisecond", () => {
  const click = { startedMs: 1000.9, arrivedMs: 1012.4, paintedMs: 1020.9, came: "event", place: { partition: 1, offset: 2 } };
  const shown = stops(click, aList(1, 1000, 1014));

  assert.deepEqual(shown.map((stop) => stop.part), ["browser", "clicks", "worker", "feed", "screen"]);
  assert.deepEqual(shown.map((stop) => Math.round(stop.atMs * 10) / 10), [0, 0, 11.5, 11.5, 20]);
  assert.deepEqual(stops(click, aList(1, 1010, 1009)).map((stop) => Math.round(stop.atMs * 10) / 10), [0, 9.1, 9.1, 11.5, 20]);
});

test("numbers are said as a person reads them", () => {
  assert.deepEqual([0, 4.25, 31.4, 1234].map(rounded), ["0", "4.3", "31", "1,234"]);
  assert.deepEqual([median([3]), median([9, 1, 5]), median([1, 2])], [3, 5, 1.5]);
  assert.deepEqual([clock(0), clock(75.2), percent(0.1234), percent(null)], ["0:00", "1:15", "12.3 %", "–"]);
  assert.deepEqual([age(59), age(61), age(7200)], ["59 s", "1 min", "2 h"]);
  assert.deepEqual(ticks(0.75), [0, 0.2, 0.4, 0.6]);
});

test("a curve has a gap where there is no value", () => {
  const path = pathOf([[0, 0.1], [1, null], [2, 0.2], [3, 0.3]], 1, (s) => s, (v) => v * 10);

  assert.equal(path, "M0.0 1.0M2.0 2.0L3.0 3.0");
});

test("before there is a model the tile says what everyone gets", () => {
  const figures = { clicks_per_s: 1, updates_per_s: 1, p50_ms: 1, p99_ms: 1, lag: 0, bundle: "", n_bundles: 0, bundle_age_s: null, cores: 0 };

  assert.deepEqual(tiles(figures)[4], ["Model", "none yet", "everyone gets what is popular"]);
});

test("a tab is the same user after a reload, and another tab is another one", () => {
  const [tab, other] = [new Storage(), new Storage()];

  assert.equal(visitorId(tab), visitorId(tab));
  assert.notEqual(visitorId(tab), visitorId(other));
});

test("clicks go out one after the other, in their order", async () => {
  const outbox = outboxOf(new Storage(), (click) => ({ clicks: [click.itemId] }));
  ["a", "b", "c"].forEach((itemId) => outbox.add(itemId));
  await until(() => outbox.size === 0);

  assert.deepEqual(outbox.sent, ["a", "b", "c"]);
  assert.deepEqual(outbox.told, [["taken", "a"], ["taken", "b"], ["taken", "c"]]);
});

test("a click without an answer stays, also over a reload, and goes out again under its event id", async () => {
  const storage = new Storage();
  const cut = outboxOf(storage, () => {
    throw Object.assign(new Error(), { mayHelpLater: true });
  });
  const { eventId } = cut.add("a");
  cut.add("b");
  await until(() => cut.told.length > 0);
  clearTimeout(cut.timer);
  const again = outboxOf(storage, () => ({}));
  await again.flush();

  assert.deepEqual(cut.told[0], ["waiting", 2]);
  assert.deepEqual(again.sent, ["a", "b"]);
  assert.equal(again.sentIds[0], eventId);
  assert.equal(outboxOf(storage, () => ({})).size, 0);
});

test("a click that is refused does not hold up the next one", async () => {
  const outbox = outboxOf(new Storage(), ({ itemId }) => {
    if (itemId === "bad") throw Object.assign(new Error(), { mayHelpLater: false });
  });
  outbox.add("bad");
  outbox.add("good");
  await until(() => outbox.size === 0);

  assert.deepEqual(outbox.told, [["refused", "bad"], ["taken", "good"]]);
});

test("of more clicks than are kept the oldest are dropped, and it is told how many", async () => {
  const storage = new Storage();
  const cut = outboxOf(storage, () => {
    throw Object.assign(new Error(), { mayHelpLater: true });
  });
  for (let number = 0; number < 250; number += 1) cut.add(number);
  await until(() => cut.told.some(([what]) => what === "waiting"));
  clearTimeout(cut.timer);
  const again = outboxOf(storage, () => ({}));
  await again.flush();

  const dropped = cut.told.filter(([what]) => what === "dropped").map(([, nClicks]) => nClicks);
  assert.equal(dropped.reduce((sum, nClicks) => sum + nClicks, 0), 50);
  assert.deepEqual(again.sent, [0, ...Array.from({ length: 199 }, (_, place) => 51 + place)]); // the first was on its way
});

test("a handler that throws stops nothing and has no click sent twice", async () => {
  for (const handler of ["taken", "refused", "waiting"]) {
    const broken = new Error("of the page");
    let answer = { taken: () => ({}), refused: refusal(false), waiting: refusal(true) }[handler];
    const storage = new Storage([["nextclick.outbox", JSON.stringify([{ itemId: "a", eventId: "1" }, { itemId: "b", eventId: "2" }])]]);
    const outbox = outboxOf(storage, (click) => answer(click));
    const { [handler]: tell } = outbox.tell;
    outbox.tell[handler] = (...what) => {
      tell(...what);
      throw broken;
    };

    await assert.rejects(outbox.flush(), broken);
    assert.deepEqual(outbox.told, [[handler, handler === "waiting" ? 2 : "a"]]);
    outbox.tell[handler] = tell;
    answer = () => ({});
    await until(() => outbox.size === 0); // by itself
    assert.deepEqual(outbox.told.at(-1), ["taken", "b"]);
    assert.deepEqual(outbox.sent, handler === "waiting" ? ["a", "a", "b"] : ["a", "b"]);
  }
});

test("an answer that cannot be read is none: the click is sent again", async () => {
  const told = await withFetch(() => new Response('{"clicks":[{"parti', { status: 200 }), () => postClick("u", { itemId: "a" }, 1).catch((error) => error));

  assert.ok(told instanceof FeedError);
  assert.ok(told.mayHelpLater);
  assert.match(told.message, /cannot be read/);
});

test("a refusal without a readable body has its status all the same", async () => {
  const told = await withFetch(() => new Response("<html>", { status: 404 }), () => ask("/v1/popular").catch((error) => error));

  assert.deepEqual([told.status, told.message, told.mayHelpLater], [404, "Status 404", false]);
});

test("what another try may mend is tried again, and what settings forbid is not", () => {
  const later = [0, 400, 404, 408, 422, 429, 500, 501, 502, 503, 504].filter((status) => new FeedError(status, "").mayHelpLater);

  assert.deepEqual(later, [0, 408, 429, 500, 502, 503, 504]);
});

test("dropped clicks are said while the feed is away, and still when it is back", () => {
  const note = new Note({ textContent: "", dataset: {} });
  note.away(200);
  clearTimeout(note.timer);
  note.dropped(1);
  note.dropped(49);
  note.away(200);
  assert.match(note.text, /200 clicks are kept and sent then. 50 older clicks are lost/);

  note.say("away", note.text);
  note.back();
  assert.match(note.element.textContent, /^Connected again. 50 older clicks are lost/);
  note.back(); // with each answer
  assert.match(note.element.textContent, /50 older clicks are lost/);
});

test("dropped clicks are said at once while the feed only is slow", () => {
  const note = new Note({ textContent: "", dataset: {} });
  note.dropped(1);

  assert.equal(note.element.textContent, "One older click is lost: no more than 200 are kept.");
});

/** Does something while `fetch` gives this answer. */
async function withFetch(answer, work) {
  const before = globalThis.fetch;
  globalThis.fetch = async () => answer();
  try {
    return await work();
  } finally {
    globalThis.fetch = before;
  }
}

function refusal(mayHelpLater) {
  return () => {
    throw Object.assign(new Error(), { mayHelpLater });
  };
}

function outboxOf(storage, answer) {
  const post = async (click) => {
    outbox.sent.push(click.itemId);
    outbox.sentIds.push(click.eventId);
    return answer(click);
  };
  const outbox = new Outbox(post, storage, {
    taken: (click) => outbox.told.push(["taken", click.itemId]),
    refused: (click) => outbox.told.push(["refused", click.itemId]),
    waiting: (nClicks) => outbox.told.push(["waiting", nClicks]),
    dropped: (nClicks) => outbox.told.push(["dropped", nClicks]),
  });
  return Object.assign(outbox, { sent: [], sentIds: [], told: [] });
}

async function until(condition) {
  const endMs = Date.now() + 2000;
  while (!condition()) {
    assert.ok(Date.now() < endMs, "it takes too long");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
