// Exact addresses as columns: who claims each, who owns it, which identity it has.
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';
import { Column, Rows } from './columns.ts';
import { RowIndex } from './row-index.ts';

/** A row without pod, or without identity. */
export const NONE = -1;

const FEW_BLOCKS = 8;
/** To look for one address takes as long as to look what so many rows are. */
const ROWS_FOR_ADDRESS = 16;

export class AddressTable {
  readonly #rows = new Rows();
  readonly #index = new RowIndex((row) => this.#hashOf(row));
  readonly #family = new Column(0);
  readonly #words = [new Column(0), new Column(0), new Column(0), new Column(0)] as const;
  readonly #owner = new Column(NONE);
  readonly #hosts = new Column(0);
  /** All pods of an address that more than one claims. */
  readonly #contested = new Map<number, number[]>();
  readonly #before: (a: number, b: number) => boolean;
  readonly identity: Column = new Column(NONE);

  /** `before` orders pods: of several that claim one address, the first owns it. */
  constructor(before: (a: number, b: number) => boolean) {
    this.#before = before;
  }

  /** One past the highest row. Rows without a family are free. */
  get end(): number {
    return this.#rows.end;
  }

  find(address: Address): number | undefined {
    return this.#index.find(hashOf(address), (row) => this.#isAt(row, address));
  }

  /** The row of an address; a new one is nobody's yet. */
  take(address: Address): number {
    const found = this.find(address);
    if (found !== undefined) return found;
    const row = this.#rows.take();
    this.#family.set(row, address.family);
    for (const [index, word] of address.words.entries()) this.#words[index as 0 | 1 | 2 | 3].set(row, word | 0);
    this.#index.add(row);
    return row;
  }

  /** A pod has this address. */
  claim(row: number, pod: number): void {
    const owner = this.#owner.at(row);
    if (owner === NONE) {
      this.#owner.set(row, pod);
      return;
    }
    this.#contested.set(row, [...(this.#contested.get(row) ?? [owner]), pod]);
    if (this.#before(pod, owner)) this.#owner.set(row, pod);
  }

  /** A pod no longer has the address. Returns the pods that still claim it. */
  unclaim(row: number, pod: number): readonly number[] {
    const left = (this.#contested.get(row) ?? []).filter((other) => other !== pod);
    if (left.length > 1) this.#contested.set(row, left);
    else this.#contested.delete(row);
    let owner = NONE;
    for (const other of left) if (owner === NONE || this.#before(other, owner)) owner = other;
    this.#owner.set(row, owner);
    return left;
  }

  /** A node or a hostNetwork pod has this address. */
  claimHost(row: number): void {
    this.#hosts.set(row, this.#hosts.at(row) + 1);
  }

  unclaimHost(row: number): void {
    this.#hosts.set(row, this.#hosts.at(row) - 1);
  }

  /** The pod that owns the address; NONE for a node's. */
  owner(row: number): number {
    return this.#owner.at(row);
  }

  /** The pods that claim the address, where there is more than one. */
  rivals(row: number): readonly number[] {
    return this.#contested.get(row) ?? [];
  }

  isClaimed(row: number): boolean {
    return this.#owner.at(row) !== NONE || this.#hosts.at(row) > 0;
  }

  /** Forgets an address that nobody claims. */
  free(row: number): void {
    this.#index.delete(row);
    this.#family.set(row, 0);
    this.identity.set(row, NONE);
    this.#rows.give(row);
  }

  address(row: number): Address {
    const word = (index: 0 | 1 | 2 | 3): number => this.#words[index].at(row) >>> 0;
    if (this.#family.at(row) === 4) return { family: 4, words: [word(0)] };
    return { family: 6, words: [word(0), word(1), word(2), word(3)] };
  }

  /** Rows that could be inside one of the blocks: of many, all rows, since the look at one block goes through them all. */
  nearly(cidrs: readonly Cidr[]): number[] {
    if (cidrs.length > FEW_BLOCKS) return [...Array(this.#rows.end).keys()];
    return [...new Set(cidrs.flatMap((cidr) => this.inside(cidr)))];
  }

  /** The rows inside a block. In one of few addresses, each is looked for. */
  inside(cidr: Cidr): number[] {
    const { family, words } = cidr.address;
    const size = 2 ** (32 - cidr.length);
    if (family === 4 && size * ROWS_FOR_ADDRESS < this.#rows.end) return this.#eachInside(words[0] ?? 0, size);
    const families = this.#family.data;
    const first = this.#words[0].data;
    const word = words[0] ?? 0;
    const bits = mask(cidr.length);
    const found: number[] = [];
    const { end } = this.#rows;
    for (let row = 0; row < end; row++) {
      if (((first[row] ?? 0) ^ word) & bits || families[row] !== family) continue;
      if (cidr.length <= 32 || this.#restInside(row, cidr)) found.push(row);
    }
    return found;
  }

  /** The rows of so many IPv4 addresses from one on. */
  #eachInside(from: number, size: number): number[] {
    const found: number[] = [];
    let word = from;
    const isAtWord = (row: number): boolean => this.#family.at(row) === 4 && this.#words[0].at(row) === (word | 0);
    for (; word < from + size; word++) {
      const row = this.#index.find(word, isAtWord);
      if (row !== undefined) found.push(row);
    }
    return found;
  }

  #isAt(row: number, { family, words }: Address): boolean {
    if (this.#family.at(row) !== family) return false;
    return words.every((word, index) => this.#words[index as 0 | 1 | 2 | 3].at(row) === (word | 0));
  }

  #hashOf(row: number): number {
    let hash = this.#words[0].at(row) | 0;
    if (this.#family.at(row) === 6)
      for (const index of [1, 2, 3] as const) hash = hashWord(hash, this.#words[index].at(row));
    return hash;
  }

  /** True where the words after the first are inside the block too. */
  #restInside(row: number, cidr: Cidr): boolean {
    return ([1, 2, 3] as const).every((index) => {
      return ((this.#words[index].at(row) ^ (cidr.address.words[index] ?? 0)) & mask(cidr.length - index * 32)) === 0;
    });
  }
}

function hashOf({ words }: Address): number {
  return words.reduce(hashWord, 0);
}

function hashWord(hash: number, word: number): number {
  return Math.imul(hash, 31) + word;
}

function mask(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}
