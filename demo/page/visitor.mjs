// Who this tab is: a user of its own, for as long as the tab is open.

const KEY = "nextclick.visitor";

/** Gives the tab's user id; makes one the first time. */
export function visitorId(storage) {
  const before = storage.getItem(KEY);
  if (before) return before;
  const made = `visitor-${randomHex(4)}`;
  storage.setItem(KEY, made);
  return made;
}

/** Gives random bytes in hexadecimal (`crypto.randomUUID` is missing where a page comes over plain HTTP). */
export function randomHex(nBytes) {
  const bytes = crypto.getRandomValues(new Uint8Array(nBytes));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
