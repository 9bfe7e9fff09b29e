// Clicks on their way to the feed, one after the other, so that their order is the visitor's. One that gets no answer
// stays and is sent again under the same event id; a reload keeps what waits.

import { randomHex } from "./visitor.mjs";

const KEY = "nextclick.outbox";
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8000;
const MOST_WAITING = 200;

/** Sends clicks with `post(click)`, which rejects with a `FeedError`. */
export class Outbox {
  /**
   * @param post sends a click, `{itemId, timestampMs, eventId}`, and gives the feed's answer
   * @param storage keeps what waits
   * @param tell `taken(click, answer)`, `refused(click, error)`, `waiting(nClicks, error)`
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
    this.clicks.splice(0, this.clicks.length - MOST_WAITING);
    this.keep();
    this.flush();
    return click;
  }

  /** Sends what waits, now. */
  async flush() {
    if (this.isSending) return;
    clearTimeout(this.timer);
    this.isSending = true;
    while (this.clicks.length > 0 && (await this.sendFirst()));
    this.isSending = false;
  }

  async sendFirst() {
    const [click] = this.clicks;
    try {
      const answer = await this.post(click);
      this.done(click);
      this.tell.taken(click, answer);
    } catch (error) {
      if (error.mayHelpLater) {
        this.timer = setTimeout(() => this.flush(), this.delayMs);
        this.delayMs = Math.min(2 * this.delayMs, LONGEST_DELAY_MS);
        this.tell.waiting(this.clicks.length, error);
        return false;
      }
      this.done(click);
      this.tell.refused(click, error);
    }
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
