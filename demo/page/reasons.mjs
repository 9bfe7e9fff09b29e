// Why an item is on the list, in words and shares. Pure.

import { nameOf } from "./catalogue.mjs";

/** Gives the sentence of the largest reason, with the made-up name of the item that it speaks of; "" if there is none. */
export function mainReason(item) {
  const [reason] = item.because ?? [];
  if (!reason) return "";
  const text = reason.item_id ? reason.text.replaceAll(reason.item_id, nameOf(reason.item_id)) : reason.text;
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Gives `[kind, share]` for every kind, the shares as parts of one; empty if nothing is known. */
export function shares(item) {
  const sums = new Map();
  for (const reason of item.because ?? []) sums.set(reason.kind, (sums.get(reason.kind) ?? 0) + Math.max(reason.share, 0));
  const total = [...sums.values()].reduce((sum, share) => sum + share, 0);
  return total > 0 ? [...sums].map(([kind, share]) => [kind, share / total]) : [];
}
