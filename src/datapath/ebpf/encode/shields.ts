// Addresses that found no room among the exact ones. Without more, the longest prefix would say who they are, and a rule
// about a block could let them through. So a prefix of their own stands before it, with no identity: nobody gets there.
import type { Address } from '#net/address.ts';
import { type Cidr, formatCidr } from '#net/cidr.ts';
import { TAGGED } from './abi.gen.ts';
import { prefixBytes, readAddress, taggedBytes } from './bytes.ts';
import type { HashName, Sink } from './sink.ts';
import { prefixTag } from './tag.ts';

const NO_IDENTITY = 0;

export class Shields {
  readonly #sink: Sink;
  /** What the Plan says of each prefix that a shield stands in for; null = nothing. */
  readonly #wanted = new Map<string, Uint8Array | null>();

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  /** `key`: a struct addr. */
  raise(key: Uint8Array): void {
    const { table, cidr, own } = placeOf(key);
    const name = formatCidr(cidr);
    if (this.#wanted.has(name)) return;
    const found = this.#sink.read(table, own);
    this.#wanted.set(name, found !== null && isOf(found, cidr) ? found : null);
    this.#sink.put(table, own, taggedBytes(NO_IDENTITY, prefixTag(cidr)));
  }

  /** The address has its place now, or is nobody's any more. */
  lower(key: Uint8Array): void {
    const { table, cidr, own } = placeOf(key);
    const wanted = this.#wanted.get(formatCidr(cidr));
    if (wanted === undefined) return;
    this.#wanted.delete(formatCidr(cidr));
    if (wanted === null) this.#sink.remove(table, own);
    else this.#sink.put(table, own, wanted);
  }

  /** True where a shield stands for this prefix: what the Plan says of it waits. */
  holds(cidr: Cidr, value: Uint8Array | null): boolean {
    if (this.#wanted.size === 0 || !this.#wanted.has(formatCidr(cidr))) return false;
    this.#wanted.set(formatCidr(cidr), value);
    return true;
  }
}

function placeOf(key: Uint8Array): { readonly table: HashName; readonly cidr: Cidr; readonly own: Uint8Array } {
  const address: Address | null = readAddress(new DataView(key.buffer, key.byteOffset, key.byteLength), 0);
  if (address === null) throw new Error('no address');
  const cidr = { address, length: address.words.length * 32 };
  return { table: address.family === 4 ? 'prefix4' : 'prefix6', cidr, own: prefixBytes(cidr) };
}

/** A look-up finds the longest prefix that there is: another one has another length in its tag. */
function isOf(value: Uint8Array, cidr: Cidr): boolean {
  const tag = new DataView(value.buffer, value.byteOffset, value.byteLength).getUint32(TAGGED.tag, true);
  return tag === prefixTag(cidr);
}
