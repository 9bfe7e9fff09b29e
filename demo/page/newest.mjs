// Which list is shown: never an older one after a newer one, whichever way it came. Pure.

/** Says whether a list replaces the one that is shown (undefined: none is). */
export function isNewer(list, shown) {
  if (!shown) return true;
  if (list.sequence !== shown.sequence) return list.sequence > shown.sequence || list.clicked_at_ms > shown.clicked_at_ms;
  return list.produced_at_ms > shown.produced_at_ms;
}

/** Says, of a click and a list, whether the click is in the list: the broker took the list's last click after it. */
export function contains(list, click) {
  return list.sequence > click.sequenceBefore && list.clicked_at_ms >= click.startedMs - CLOCK_STEP_MS;
}

const CLOCK_STEP_MS = 2; // both clocks are this machine's, and each cuts off parts of a millisecond
