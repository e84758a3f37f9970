// A value for each of some identities, in pages of neighbours. A Map of ten thousand identities is moved as a whole when it
// grows, and all layers' grow with the same identity: that was 10 to 20 ms of one slice. A page is never moved.
import { remember } from '#identity/collect.ts';
import type { IdentityNumber } from './plan.ts';

const BITS = 6;
const LENGTH = 1 << BITS;

/** `size`: how many of the places have a value. */
type Page<Value> = { readonly values: (Value | undefined)[]; size: number };

export class ByIdentity<Value extends object | number> implements ReadonlyMap<IdentityNumber, Value> {
  readonly #pages = new Map<number, Page<Value>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(identity: IdentityNumber): Value | undefined {
    return this.#pages.get(identity >>> BITS)?.values[identity % LENGTH];
  }

  has(identity: IdentityNumber): boolean {
    return this.get(identity) !== undefined;
  }

  set(identity: IdentityNumber, value: Value): this {
    const page = remember(this.#pages, identity >>> BITS, emptyPage<Value>);
    const at = identity % LENGTH;
    if (page.values[at] === undefined) {
      page.size++;
      this.#size++;
    }
    page.values[at] = value;
    return this;
  }

  /** True where it had a value. */
  delete(identity: IdentityNumber): boolean {
    const page = this.#pages.get(identity >>> BITS);
    if (page?.values[identity % LENGTH] === undefined) return false;
    page.values[identity % LENGTH] = undefined;
    page.size--;
    this.#size--;
    if (page.size === 0) this.#pages.delete(identity >>> BITS);
    return true;
  }

  *entries(): MapIterator<[IdentityNumber, Value]> {
    for (const [number, { values }] of this.#pages) {
      for (const [at, value] of values.entries()) if (value !== undefined) yield [number * LENGTH + at, value];
    }
  }

  *keys(): MapIterator<IdentityNumber> {
    for (const [identity] of this.entries()) yield identity;
  }

  *values(): MapIterator<Value> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): MapIterator<[IdentityNumber, Value]> {
    return this.entries();
  }

  forEach(visit: (value: Value, identity: IdentityNumber, map: ReadonlyMap<IdentityNumber, Value>) => void): void {
    for (const [identity, value] of this.entries()) visit(value, identity, this);
  }
}

function emptyPage<Value>(): Page<Value> {
  return { values: new Array(LENGTH), size: 0 };
}
