// A value for each of some identities, in pages of neighbours. A Map of ten thousand identities is moved as a whole when it
// grows, and all layers' grow with the same identity: that was 10 to 20 ms of one slice. A page is soon moved, and small where
// few of its identities have a value: whoever writes policies chooses how far apart these are.
import { remember } from '#identity/collect.ts';
import type { IdentityNumber } from './plan.ts';

/** A page is of 256 identities. */
const BITS = 8;

export class ByIdentity<Value extends object | number> implements ReadonlyMap<IdentityNumber, Value> {
  readonly #pages = new Map<number, Map<IdentityNumber, Value>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(identity: IdentityNumber): Value | undefined {
    return this.#pages.get(identity >>> BITS)?.get(identity);
  }

  has(identity: IdentityNumber): boolean {
    return this.get(identity) !== undefined;
  }

  set(identity: IdentityNumber, value: Value): this {
    const page = remember(this.#pages, identity >>> BITS, () => new Map<IdentityNumber, Value>());
    const before = page.size;
    page.set(identity, value);
    this.#size += page.size - before;
    return this;
  }

  /** True where it had a value. */
  delete(identity: IdentityNumber): boolean {
    const page = this.#pages.get(identity >>> BITS);
    if (page?.delete(identity) !== true) return false;
    this.#size--;
    if (page.size === 0) this.#pages.delete(identity >>> BITS);
    return true;
  }

  *entries(): MapIterator<[IdentityNumber, Value]> {
    for (const page of this.#pages.values()) yield* page;
  }

  *keys(): MapIterator<IdentityNumber> {
    for (const page of this.#pages.values()) yield* page.keys();
  }

  *values(): MapIterator<Value> {
    for (const page of this.#pages.values()) yield* page.values();
  }

  [Symbol.iterator](): MapIterator<[IdentityNumber, Value]> {
    return this.entries();
  }

  forEach(visit: (value: Value, identity: IdentityNumber, map: ReadonlyMap<IdentityNumber, Value>) => void): void {
    for (const [identity, value] of this.entries()) visit(value, identity, this);
  }
}
