// Server-sent events that come back: `EventSource` goes on by itself after a cut, but gives up after an error status.
// Hidden tabs are not connected, for a browser allows six connections to an address, all tabs together.

const AGAIN_MS = 2000;

export class EventStream {
  /**
   * @param path of the events
   * @param name of the events
   * @param tell `event(document)`, `open()`, `lost()`
   */
  constructor(path, name, tell) {
    this.path = path;
    this.name = name;
    this.tell = tell;
    this.source = undefined;
    document.addEventListener("visibilitychange", () => this.follow());
    this.follow();
  }

  follow() {
    clearTimeout(this.timer);
    if (document.hidden) {
      this.source?.close();
      this.source = undefined;
    } else if (!this.source || this.source.readyState === EventSource.CLOSED) {
      this.connect();
    }
  }

  connect() {
    const source = new EventSource(this.path);
    this.source = source;
    source.addEventListener("open", () => this.tell.open?.());
    source.addEventListener(this.name, (event) => this.tell.event(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      this.tell.lost?.();
      if (source.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.follow(), AGAIN_MS);
    });
  }
}
