// The line at the top that says when the page is cut off, that it is back, and which clicks are lost. Read out politely,
// and once.

import { MOST_WAITING } from "./outbox.mjs";

const PATIENCE_MS = 1200; // a cut that is over so soon is not worth a word
const BACK_MS = 4000;

export class Note {
  constructor(element) {
    this.element = element;
    this.isAway = false;
    this.nDropped = 0; // clicks, since the feed was back the last time
  }

  /** Nobody answers; `nKept` clicks wait, `who` does not answer. */
  away(nKept, who = "The feed does not answer") {
    const kept = nKept === 0 ? "" : nKept === 1 ? " One click is kept and sent then." : ` ${nKept} clicks are kept and sent then.`;
    const text = `${who}. This page goes on by itself as soon as it can.${kept}${this.loss()}`;
    if (this.isAway) {
      if (this.element.dataset.kind === "away") this.say("away", text);
      this.text = text;
      return;
    }
    this.isAway = true;
    this.text = text;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.say("away", this.text), PATIENCE_MS);
  }

  /** The feed answers. */
  back() {
    if (this.element.dataset.kind === "error") this.say("", "");
    if (!this.isAway) return;
    this.isAway = false;
    clearTimeout(this.timer);
    if (this.nDropped > 0) {
      this.say("lost", `Connected again.${this.loss()}`); // stays: it is not over with the cut
      this.nDropped = 0;
      return;
    }
    if (this.element.dataset.kind !== "away") return;
    this.say("back", "Connected again.");
    this.timer = setTimeout(() => this.say("", ""), BACK_MS);
  }

  /** So many more clicks are lost. While the page is cut off, the next line about that says so. */
  dropped(nClicks) {
    this.nDropped += nClicks;
    if (this.isAway) return;
    clearTimeout(this.timer);
    this.say("lost", this.loss().trim());
  }

  loss() {
    if (this.nDropped === 0) return "";
    const clicks = this.nDropped === 1 ? "One older click is lost" : `${this.nDropped} older clicks are lost`;
    return ` ${clicks}: no more than ${MOST_WAITING} are kept.`;
  }

  /** Something went wrong that trying again does not mend. */
  error(text) {
    this.say("error", text);
  }

  say(kind, text) {
    if (this.element.textContent === text) return;
    this.element.dataset.kind = kind;
    this.element.textContent = text;
  }
}
