// Clicks on their way to the feed, one after the other, so that their order is the visitor's. One that gets no answer
// stays and is sent again under the same event id; a reload keeps what waits. What is beyond the bound is dropped, and told.

import { randomHex } from "./visitor.mjs";

const KEY = "nextclick.outbox";
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8000;
export const MOST_WAITING = 200;

/** Sends clicks with `post(click)`, which rejects with a `FeedError`. */
export class Outbox {
  /**
   * @param post sends a click, `{itemId, timestampMs, eventId}`, and gives the feed's answer
   * @param storage keeps what waits
   * @param tell `taken(click, answer)`, `refused(click, error)`, `waiting(nClicks, error)`, `dropped(nClicks)`. One that
   *   throws ends this `flush`; the next one comes by itself.
   */
  constructor(post, storage, tell) {
    this.post = post;
    this.storage = storage;
    this.tell = tell;
    this.clicks = JSON.parse(storage.getItem(KEY) ?? "[]");
    this.isSending = false;
    this.delayMs = FIRST_DELAY_MS;
    this.timer = undefined;
  }

  get size() {
    return this.clicks.length;
  }

  /** Takes a click of this moment and gives it back as it will be sent. */
  add(itemId) {
    const click = { itemId, timestampMs: Date.now(), eventId: randomHex(16) };
    this.clicks.push(click);
    // The first one may be on its way: it is not dropped then.
    const dropped = this.clicks.splice(this.isSending ? 1 : 0, Math.max(0, this.clicks.length - MOST_WAITING));
    this.keep();
    this.flush();
    if (dropped.length > 0) this.tell.dropped(dropped.length);
    return click;
  }

  /** Sends what waits, now. */
  async flush() {
    if (this.isSending) return;
    clearTimeout(this.timer);
    this.isSending = true;
    try {
      while (this.clicks.length > 0 && (await this.sendFirst()));
    } finally {
      this.isSending = false;
      if (this.clicks.length > 0) this.flushLater();
    }
  }

  flushLater() {
    this.timer = setTimeout(() => this.flush(), this.delayMs);
    this.delayMs = Math.min(2 * this.delayMs, LONGEST_DELAY_MS);
  }

  /** Sends the first click; tells whether the next one can be sent. */
  async sendFirst() {
    const [click] = this.clicks;
    let answer;
    try {
      answer = await this.post(click);
    } catch (error) {
      if (error.mayHelpLater) {
        this.tell.waiting(this.clicks.length, error);
        return false;
      }
      this.done(click);
      this.tell.refused(click, error);
      return true;
    }
    this.done(click);
    this.tell.taken(click, answer); // what it throws is no failure of the click's
    return true;
  }

  done(click) {
    this.clicks = this.clicks.filter((other) => other !== click);
    this.delayMs = FIRST_DELAY_MS;
    this.keep();
  }

  keep() {
    this.storage.setItem(KEY, JSON.stringify(this.clicks));
  }
}
