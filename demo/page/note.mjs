// The line at the top that says when the page is cut off, and that it is back. Read out politely, and once.

const PATIENCE_MS = 1200; // a cut that is over so soon is not worth a word
const BACK_MS = 4000;

export class Note {
  constructor(element) {
    this.element = element;
    this.isAway = false;
  }

  /** Nobody answers; `nKept` clicks wait, `who` does not answer. */
  away(nKept, who = "The feed does not answer") {
    const kept = nKept === 0 ? "" : nKept === 1 ? " One click is kept and sent then." : ` ${nKept} clicks are kept and sent then.`;
    const text = `${who}. This page goes on by itself as soon as it can.${kept}`;
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
    if (this.element.dataset.kind !== "away") return;
    this.say("back", "Connected again.");
    this.timer = setTimeout(() => this.say("", ""), BACK_MS);
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
