// The identity of each exact address as a map: what a Plan shows of it. It holds nothing of its own.
import { type AddressKey, formatAddress, parseAddress } from '#net/address.ts';
import { type AddressTable, NONE } from './addresses.ts';

export class AddressView implements ReadonlyMap<AddressKey, number> {
  readonly #addresses: AddressTable;

  constructor(addresses: AddressTable) {
    this.#addresses = addresses;
  }

  get size(): number {
    let size = 0;
    for (const _ of this.#rows()) size++;
    return size;
  }

  get(key: AddressKey): number | undefined {
    const address = parseAddress(key);
    const row = address === null ? undefined : this.#addresses.find(address);
    const identity = row === undefined ? NONE : this.#addresses.identity.at(row);
    return identity === NONE ? undefined : identity;
  }

  has(key: AddressKey): boolean {
    return this.get(key) !== undefined;
  }

  *entries(): MapIterator<[AddressKey, number]> {
    const { identity } = this.#addresses;
    for (const row of this.#rows()) yield [formatAddress(this.#addresses.address(row)), identity.at(row)];
  }

  *keys(): MapIterator<AddressKey> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): MapIterator<number> {
    for (const [, identity] of this.entries()) yield identity;
  }

  [Symbol.iterator](): MapIterator<[AddressKey, number]> {
    return this.entries();
  }

  forEach(visit: (identity: number, key: AddressKey, map: ReadonlyMap<AddressKey, number>) => void): void {
    for (const [key, identity] of this.entries()) visit(identity, key, this);
  }

  *#rows(): Generator<number> {
    const { identity, end } = this.#addresses;
    for (let row = 0; row < end; row++) if (identity.at(row) !== NONE) yield row;
  }
}
