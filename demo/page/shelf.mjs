// A row of items that can be clicked. Items that stay move to their new place, new ones fade in, and the keyboard's
// focus stays where it was.

import { nameOf } from "./catalogue.mjs";
import { element } from "./elements.mjs";
import { picture } from "./pictures.mjs";
import { mainReason, shares } from "./reasons.mjs";

const MOVE = { duration: 320, easing: "cubic-bezier(0.2, 0.7, 0.2, 1)" };
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Shelf {
  /**
   * @param element the list
   * @param pick called with the id of the item that was clicked
   */
  constructor(element, pick) {
    this.element = element;
    this.places = new Map(); // item id to its <li>
    element.addEventListener("click", (event) => {
      const place = event.target.closest("li[data-item]");
      if (place && event.target.closest("button")) pick(place.dataset.item);
    });
  }

  /** Shows grey cards where items will be. */
  showLoading(nItems) {
    this.element.setAttribute("aria-busy", "true");
    this.element.replaceChildren(...Array.from({ length: nItems }, () => {
      const place = document.createElement("li");
      place.className = "card loading";
      place.setAttribute("aria-hidden", "true");
      return place;
    }));
    this.places.clear();
  }

  /** Shows items, `{item_id, because?}`, in their order. */
  show(items) {
    const before = this.rectangles();
    const focused = this.focusedIndex();
    const places = new Map(items.map((item) => [item.item_id, this.places.get(item.item_id) ?? newPlace(item.item_id)]));
    for (const item of items) setReason(places.get(item.item_id), item);
    this.places = places;
    this.element.replaceChildren(...places.values());
    this.element.setAttribute("aria-busy", "false");
    this.restoreFocus(focused);
    if (!still.matches) this.animate(before);
  }

  rectangles() {
    return new Map([...this.places].map(([itemId, place]) => [itemId, place.getBoundingClientRect()]));
  }

  focusedIndex() {
    const place = document.activeElement?.closest("li[data-item]");
    if (!place || place.parentElement !== this.element) return undefined;
    return { itemId: place.dataset.item, index: [...this.element.children].indexOf(place) };
  }

  restoreFocus(focused) {
    if (!focused) return;
    const place = this.places.get(focused.itemId) ?? this.element.children[Math.min(focused.index, this.places.size - 1)];
    place?.querySelector("button").focus({ preventScroll: true });
  }

  animate(before) {
    for (const [itemId, place] of this.places) {
      const [from, to] = [before.get(itemId), place.getBoundingClientRect()];
      if (!from) {
        place.animate([{ opacity: 0, transform: "scale(0.96)" }, { opacity: 1, transform: "none" }], MOVE);
      } else if (from.left !== to.left || from.top !== to.top) {
        place.animate([{ transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` }, { transform: "none" }], MOVE);
      }
    }
  }
}

function newPlace(itemId) {
  const place = document.createElement("li");
  place.dataset.item = itemId;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "card";
  const text = element("span", "card-text");
  text.append(element("span", "card-name", nameOf(itemId)), element("span", "card-id", itemId), element("span", "card-why"));
  button.append(picture(itemId), text, element("span", "shares"));
  button.lastElementChild.setAttribute("aria-hidden", "true");
  place.append(button);
  return place;
}

function setReason(place, item) {
  const why = place.querySelector(".card-why");
  why.textContent = mainReason(item);
  why.hidden = !why.textContent;
  place.querySelector(".shares").replaceChildren(...shares(item).map(([kind, share]) => {
    const part = element("i");
    part.dataset.kind = kind;
    part.style.flexGrow = share.toFixed(4);
    return part;
  }));
}
