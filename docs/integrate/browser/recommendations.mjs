// Follows a user's recommendations in a web page: `nextclick feed` pushes each new list as a server-sent event.

/**
 * Calls `show` with every new list of a user, beginning with the one that is there, until the returned function is
 * called. The browser connects again by itself, and then gets what it has missed.
 * @param {string} feed address of the feed, as https://feed.shop.example
 * @param {string} userId whose list it is
 * @param {(list: {items: {item_id: string, score: number}[], strategy: string, sequence: number}) => void} show
 * @param {{limit?: number}} options how many items; all, if not given
 * @returns {() => void} ends it
 */
export function followRecommendations(feed, userId, show, { limit } = {}) {
  const address = new URL(`/v1/users/${encodeURIComponent(userId)}/events`, feed);
  if (limit !== undefined) address.searchParams.set('limit', String(limit));
  const source = new EventSource(address);
  source.addEventListener('recommendations', (event) => show(JSON.parse(event.data)));
  return () => source.close();
}
