// Order keys with gaps: an item put between two others changes no other key, until a gap runs out.

/** An item's place: it has the keys `key` up to `key + width - 1`. */
export type Place<Item> = { readonly item: Item; key: number; width: number };

/** Keys are below this; a table's order is twice a key, plus one for base tables, and fits 31 bits. */
export const KEY_END: number = 2 ** 30;

/** Distance that an item appended at the end leaves before it. */
const STEP = 2 ** 14;
/** Room for each item that a relabelled window must offer. */
const ROOM = 64;

export class OrderList<Item> {
  readonly #places: Place<Item>[] = [];
  readonly #compare: (a: Item, b: Item) => number;

  constructor(compare: (a: Item, b: Item) => number) {
    this.#compare = compare;
  }

  /** Puts an item in its place. `moved`: places of other items whose key had to change. */
  insert(item: Item, width: number): { readonly place: Place<Item>; readonly moved: readonly Place<Item>[] } {
    const index = this.#find(item);
    const place: Place<Item> = { item, key: 0, width };
    const start = this.#endOf(index - 1);
    const next = this.#places[index]?.key ?? Math.min(KEY_END, start + 2 * STEP + width);
    this.#places.splice(index, 0, place);
    const gap = next - start - width;
    if (gap >= 0) {
      place.key = start + Math.floor(gap / 2);
      return { place, moved: [] };
    }
    return { place, moved: this.#relabel(index).filter((other) => other !== place) };
  }

  /** Takes a place away; another one of an equal item may stand beside it. */
  remove(place: Place<Item>): void {
    const index = this.#places.indexOf(place, this.#find(place.item));
    if (index < 0) throw new Error('order list: item is not in its place');
    this.#places.splice(index, 1);
  }

  /** Spreads the places around an index over the smallest window that has room. Returns those that moved. */
  #relabel(index: number): Place<Item>[] {
    for (let reach = 8; ; reach *= 2) {
      const first = Math.max(0, index - reach);
      const last = Math.min(this.#places.length, index + reach + 1);
      const whole = first === 0 && last === this.#places.length;
      const start = this.#endOf(first - 1);
      const end = this.#places[last]?.key ?? KEY_END;
      const window = this.#places.slice(first, last);
      const free = end - start - window.reduce((sum, place) => sum + place.width, 0);
      if (free < window.length * ROOM && !whole) continue;
      if (free < 0) throw new Error('more rules than there are order keys');
      return spread(window, start, Math.min(STEP, Math.floor(free / (window.length + 1))));
    }
  }

  #endOf(index: number): number {
    const place = this.#places[index];
    return place === undefined ? 0 : place.key + place.width;
  }

  /** Index of the first place that is not before the item. */
  #find(item: Item): number {
    let low = 0;
    let high = this.#places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const place = this.#places[middle];
      if (place !== undefined && this.#compare(place.item, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function spread<Item>(window: readonly Place<Item>[], start: number, gap: number): Place<Item>[] {
  const moved: Place<Item>[] = [];
  let at = start;
  for (const place of window) {
    at += gap;
    if (place.key !== at) moved.push(place);
    place.key = at;
    at += place.width;
  }
  return moved;
}
