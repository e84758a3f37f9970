// Ports of fragmented datagrams: the first fragment has them, the later ones look them up.
import { formatAddress } from '#net/address.ts';
import type { Fragment, Tuple } from './packet.ts';

/** A datagram's fragments arrive within this time or not at all. */
const LIFETIME_NS = 30_000_000_000n;
const CAPACITY = 8192;

/** A bounded map from datagram to the tuple of its first fragment; the oldest goes first. */
export class FragmentMap {
  readonly #tuples = new Map<string, { readonly tuple: Tuple; readonly sinceNs: bigint }>();

  /** Remembers the tuple of a first fragment. */
  store(fragment: Fragment, tuple: Tuple, nowNs: bigint): void {
    const key = keyOf(fragment, tuple);
    this.#tuples.delete(key);
    this.#tuples.set(key, { tuple, sinceNs: nowNs });
    for (const oldest of this.#tuples.keys()) {
      if (this.#tuples.size <= CAPACITY) break;
      this.#tuples.delete(oldest);
    }
  }

  /** The tuple of the datagram that a later fragment belongs to, or null. */
  find(fragment: Fragment, tuple: Tuple, nowNs: bigint): Tuple | null {
    const found = this.#tuples.get(keyOf(fragment, tuple));
    return found === undefined || nowNs - found.sinceNs > LIFETIME_NS ? null : found.tuple;
  }
}

function keyOf(fragment: Fragment, tuple: Tuple): string {
  return `${formatAddress(tuple.source)} ${formatAddress(tuple.destination)} ${tuple.protocol} ${fragment.id}`;
}
