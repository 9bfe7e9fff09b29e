// What the page asks the feed. Every answer is JSON; whatever goes wrong is a `FeedError` that says what to do.

const PATIENCE_MS = 5000;
const WAIT_MS = 500; // how long the feed may hold the answer to a click until the new list is there

/** Why a request failed. `status` is 0 where no answer came that can be read; `mayHelpLater`: whether to send it again. */
export class FeedError extends Error {
  constructor(status, title, detail = "") {
    super(detail || title);
    this.status = status;
    this.title = title;
    // 501: the feed's settings do not allow it, however often it is asked.
    this.mayHelpLater = status === 0 || status === 408 || status === 429 || (status >= 500 && status !== 501);
  }
}

/** Asks for a path of the feed. */
export function ask(path) {
  return send(path, {});
}

/**
 * Sends one click. A repeated one has the same `eventId` and is applied once.
 * @returns the feed's answer: where the click stands in its topic, and the new list if it was there in time.
 */
export function postClick(userId, click, limit) {
  return send(`/v1/clicks?wait=${WAIT_MS}ms&limit=${limit}&explain=true`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": click.eventId },
    body: JSON.stringify({ user_id: userId, item_id: click.itemId, timestamp_ms: click.timestampMs, event_id: click.eventId }),
  });
}

/** The path of a user's lists as events. */
export function listEventsPath(userId, limit) {
  return `/v1/users/${encodeURIComponent(userId)}/events?limit=${limit}&explain=true`;
}

/** The path of the items near an item. */
export function neighboursPath(itemId, limit) {
  return `/v1/items/${encodeURIComponent(itemId)}/neighbours?limit=${limit}`;
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch {
    throw new FeedError(0, "The feed does not answer");
  }
  const body = await response.json().catch(() => undefined);
  if (!response.ok) throw new FeedError(response.status, body?.title ?? `Status ${response.status}`, body?.detail);
  // The feed may have taken a click all the same: sent again, it is applied once.
  if (!body) throw new FeedError(0, "The answer of the feed cannot be read");
  return body;
}
