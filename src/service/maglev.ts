// Maglev's consistent hashing (Eisenbud et al., NSDI 2016, section 3.4): which backend each of a table's places has. The
// same backends give the same table on every node, and another backend changes little of it.
import type { Backend } from '#compile/plan.ts';
import { formatAddress } from '#net/address.ts';
import { hashWords } from '#net/hash.ts';

/** Primes just below powers of two, so that tables fill the runs that they are given. */
const SIZES = [89, 251, 1021, 4093, 16_381, 65_521] as const;
/** Each backend's places at least, but in the largest table: of two backends' counts the larger has 3.5 % more at most. */
const PLACES_EACH = 29;
const OFFSET_SEED = 0x6f66;
const SKIP_SEED = 0x736b;

/** How many places a table of so many backends has. A single one needs no choice. */
export function tableSize(backends: number): number {
  if (backends <= 1) return backends;
  return SIZES.find((size) => size >= backends * PLACES_EACH) ?? SIZES[SIZES.length - 1] ?? 0;
}

/** The backends of a table, each once, in an order that does not depend on how they were learnt of. */
export function sortedBackends(backends: readonly Backend[]): readonly Backend[] {
  const byName = new Map(backends.map((backend) => [nameOf(backend), backend]));
  return [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, backend]) => backend);
}

/**
 * For each place the index of its backend. Backends take places in turn, each by its own permutation of all places, so
 * that their counts differ by one at most. `backends`: sorted, each once; more than there are places get none.
 */
export function maglevPlaces(
  backends: readonly Backend[],
  size: number = tableSize(backends.length),
): readonly number[] {
  const places = new Array<number>(size).fill(-1);
  const walks = backends.slice(0, size).map((backend) => walkOf(backend, size));
  for (let filled = 0; filled < size; ) {
    for (const [index, walk] of walks.entries()) {
      if (filled === size) break;
      while (places[walk.at] !== -1) walk.at = (walk.at + walk.skip) % size;
      places[walk.at] = index;
      filled++;
    }
  }
  return places;
}

type Walk = { at: number; readonly skip: number };

/** The size is a prime, so that any skip goes everywhere; or 1. */
function walkOf({ address, port }: Backend, size: number): Walk {
  const words = [...address.words, port];
  return { at: hashWords(OFFSET_SEED, words) % size, skip: (hashWords(SKIP_SEED, words) % Math.max(1, size - 1)) + 1 };
}

function nameOf({ address, port }: Backend): string {
  return `${formatAddress(address)} ${port}`;
}
