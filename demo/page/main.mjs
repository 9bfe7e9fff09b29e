// Puts the page together: the visitor's clicks go out, lists come in, and every figure finds its place.

import { ask, listEventsPath, neighboursPath, postClick } from "./api.mjs";
import { nameOf } from "./catalogue.mjs";
import { EventStream } from "./event_stream.mjs";
import { mini, showFigures, showWatched } from "./figures.mjs";
import { median, rounded, showJourney, stops } from "./journey.mjs";
import { contains, isNewer } from "./newest.mjs";
import { Note } from "./note.mjs";
import { Outbox } from "./outbox.mjs";
import { ScoreChart } from "./score_chart.mjs";
import { Shelf } from "./shelf.mjs";
import { visitorId } from "./visitor.mjs";

const N_FOR_YOU = 12;
const N_SMALL = 6;
const N_TRAIL = 8;
const N_POPULAR_ASKED = 60; // of which those are shown first that are not in the list for you
const POPULAR_AGAIN_MS = 60_000;
const ASK_AGAIN_MS = 2_000;
const SLOW_MS = 700; // a list that takes longer is worth a word

const byId = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.userId = visitorId(sessionStorage);
    this.shown = undefined; // the list on the screen
    this.waiting = []; // clicks whose list has not come, oldest first
    this.offsetMs = 0; // from the page's clock to the machine's
    this.tookMs = []; // click to list on the screen, of the last clicks
    this.trail = [];
    this.note = new Note(byId("note"));
    const pick = (itemId) => this.click(itemId);
    this.forYou = new Shelf(byId("for-you-items"), pick);
    this.near = new Shelf(byId("near-items"), pick);
    this.popular = new Shelf(byId("popular-items"), pick);
    this.chart = new ScoreChart(byId("chart"), byId("series"));
    this.outbox = new Outbox((click) => postClick(this.userId, click, N_FOR_YOU), sessionStorage, {
      taken: (click, answer) => this.taken(click, answer),
      refused: (click, error) => this.refused(click, error),
      waiting: (nClicks, error) => this.note.away(nClicks, error.title),
      dropped: (nClicks) => this.note.dropped(nClicks),
    });
  }

  start() {
    byId("visitor").textContent = this.userId;
    this.forYou.showLoading(N_FOR_YOU);
    this.popular.showLoading(N_SMALL);
    new EventStream(listEventsPath(this.userId, N_FOR_YOU), "recommendations", {
      event: (list) => this.take(list, "event"),
      open: () => this.connected(),
      lost: () => this.note.away(this.outbox.size),
    });
    new EventStream("/demo/events", "figures", { event: (figures) => this.showFigures(figures) });
    this.refreshPopular();
    this.outbox.flush();
  }

  connected() {
    this.note.back();
    this.outbox.flush();
  }

  /** Milliseconds since 1970, with parts, as the broker and the worker count them. */
  nowMs() {
    return performance.now() + this.offsetMs;
  }

  click(itemId) {
    this.offsetMs = Date.now() - performance.now(); // anew: the two go apart, above all when a machine sleeps
    const startedMs = this.nowMs();
    const click = { ...this.outbox.add(itemId), startedMs, sequenceBefore: this.shown?.sequence ?? 0 };
    this.waiting.push(click);
    this.waiting.splice(0, this.waiting.length - N_TRAIL);
    this.trail = [...this.trail, itemId].slice(-N_TRAIL);
    byId("trail").hidden = false;
    byId("trail-items").replaceChildren(...this.trail.map((id) => mini(id, false)));
    this.showNear(itemId);
    clearTimeout(this.slow);
    this.slow = setTimeout(() => {
      if (this.waiting.length) byId("for-you-sub").textContent = "Waiting for the new list";
    }, SLOW_MS);
  }

  /** The feed has answered a click: the broker has it, and the new list came along if it was there in time. */
  taken({ eventId }, answer) {
    const click = this.waiting.find((other) => other.eventId === eventId);
    if (click) [click.place] = answer.clicks;
    if (this.answered?.eventId === eventId) {
      this.answered.place ??= answer.clicks[0];
      this.showJourney();
    }
    if (answer.recommendations) this.take(answer.recommendations, "answer");
    this.note.back();
  }

  refused({ eventId, itemId }, error) {
    this.waiting = this.waiting.filter((click) => click.eventId !== eventId);
    this.note.error(`The click on ${nameOf(itemId)} was refused: ${error.message}`);
  }

  take(list, came) {
    const arrivedMs = this.nowMs();
    if (!isNewer(list, this.shown)) return;
    this.shown = list;
    const answered = this.waiting.filter((click) => contains(list, click));
    this.waiting = this.waiting.filter((click) => !answered.includes(click));
    this.showList(list);
    const click = answered.at(-1);
    if (click) requestAnimationFrame(() => this.painted({ ...click, arrivedMs, came }, list));
  }

  painted(click, list) {
    this.answered = { ...click, paintedMs: this.nowMs(), list };
    this.showJourney();
    const tookMs = this.answered.paintedMs - click.startedMs;
    this.tookMs = [...this.tookMs, tookMs].slice(-20);
    byId("speed").hidden = false;
    byId("speed-ms").textContent = rounded(tookMs);
    byId("journey-sub").textContent = this.tookMs.length > 1
      ? `${nameOf(click.itemId)}. Median of your last ${this.tookMs.length} clicks: ${rounded(median(this.tookMs))}\u00a0ms`
      : nameOf(click.itemId);
    const first = list.items.slice(0, 3).map((item) => nameOf(item.item_id));
    this.announce(`New list after ${nameOf(click.itemId)}, in ${rounded(tookMs)} milliseconds: ${first.join(", ")}.`);
  }

  showJourney() {
    showJourney(byId("journey"), byId("journey-bar"), stops(this.answered, this.answered.list));
  }

  showList(list) {
    const items = list.items.slice(0, N_FOR_YOU);
    this.forYou.show(items);
    byId("why-key").hidden = !items.some((item) => item.because?.length);
    const empty = byId("for-you-empty");
    empty.hidden = items.length > 0;
    empty.textContent = "Nothing has been clicked yet, by anybody. The first clicks are on their way.";
    byId("for-you-sub").textContent = subtitle(list);
  }

  async showNear(itemId) {
    this.nearTo = itemId;
    try {
      const { items } = await ask(neighboursPath(itemId, N_SMALL));
      if (this.nearTo !== itemId) return; // another click came since
      byId("near-title").textContent = `Often clicked near ${nameOf(itemId)}`;
      byId("near").hidden = items.length === 0;
      this.near.show(items);
    } catch {
      if (this.nearTo === itemId) byId("near").hidden = true; // no model yet, or none that knows the item
    }
  }

  async refreshPopular() {
    const [section, empty] = [byId("popular-items"), byId("popular-empty")];
    if (!document.hidden && !section.matches(":hover, :focus-within")) {
      try {
        const { items } = await ask(`/v1/popular?limit=${N_POPULAR_ASKED}`);
        const listed = new Set((this.shown?.items ?? []).slice(0, N_FOR_YOU).map((item) => item.item_id));
        const shown = [...items].sort((a, b) => listed.has(a.item_id) - listed.has(b.item_id)).slice(0, 2 * N_SMALL);
        this.popular.show(shown.map(({ item_id }) => ({ item_id })));
        empty.hidden = shown.length > 0;
        empty.textContent = "The window is still empty: the first clicks are on their way.";
        setTimeout(() => this.refreshPopular(), shown.length ? POPULAR_AGAIN_MS : ASK_AGAIN_MS);
        return;
      } catch (error) {
        empty.hidden = this.popular.places.size > 0;
        empty.textContent = `The window cannot be filled: ${error.message}. It is tried again.`;
      }
    }
    setTimeout(() => this.refreshPopular(), ASK_AGAIN_MS);
  }

  showFigures(figures) {
    byId("score-k").textContent = figures.list_length;
    showFigures(byId("figures"), figures);
    this.chart.show(figures.curve, figures.n_bundles);
    const watched = JSON.stringify(figures.watched);
    if (watched !== this.watched) showWatched(byId("watched"), figures.watched);
    this.watched = watched;
    if (this.bundle !== undefined && figures.bundle !== this.bundle) this.announce("A new model is served.");
    this.bundle = figures.bundle;
  }

  announce(text) {
    byId("announcer").textContent = text;
  }
}

function subtitle(list) {
  if (list.strategy !== "rnn") return list.sequence ? "What is popular, until the model knows you" : "What is popular. Click something, and it becomes yours";
  return `From ${list.sequence === 1 ? "your first click" : `your ${list.sequence} clicks`}, by model ${list.bundle_id.slice(0, 8)}`;
}

new Page().start();
