// Blocks of clients → the boundaries that kernel programs search: ascending, an address that is not below an odd number of them
// is in a block.
import type { Cidr } from '#net/cidr.ts';

/** One boundary as struct client_bound has it: four words, of IPv4 the first alone. */
type Bound = readonly [number, number, number, number];

const NOWHERE: Bound = [0, 0, 0, 0];

/** `blocks`: of one family. No block at all: two boundaries with nothing between them, since none would be everybody. */
export function clientBounds(blocks: readonly Cidr[]): readonly Bound[] {
  const spans = blocks.map(spanOf).sort((a, b) => (a.first < b.first ? -1 : 1));
  const bounds: bigint[] = [];
  let end: bigint | null = null;
  for (const { first, next } of spans) {
    if (end === null || first > end) {
      if (end !== null) bounds.push(end);
      bounds.push(first);
      end = next;
    } else if (next > end) {
      end = next;
    }
  }
  // Behind the last address of all there is none.
  if (end !== null && end < SPACE) bounds.push(end);
  return bounds.length === 0 ? [NOWHERE, NOWHERE] : bounds.map(wordsOf);
}

const SPACE = 1n << 128n;

/** As numbers of 128 bits; an IPv4 address is the highest of their words. `next`: the first address behind the block. */
function spanOf({ address, length }: Cidr): { readonly first: bigint; readonly next: bigint } {
  const first = [0, 1, 2, 3].reduce((sum, index) => (sum << 32n) | BigInt(address.words[index] ?? 0), 0n);
  return { first, next: first + (1n << BigInt(128 - length)) };
}

function wordsOf(bound: bigint): Bound {
  const word = (shift: bigint): number => Number((bound >> shift) & 0xffff_ffffn);
  return [word(96n), word(64n), word(32n), word(0n)];
}
