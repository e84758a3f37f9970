// Tables of places: as the paper's own algorithm makes them, even, and little changed by another backend.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Backend } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import { flowHash, type HashedFlow, hashWords, reduceHash } from '#net/hash.ts';
import { holds } from '#test/support/property.ts';
import { maglevPlaces, sortedBackends, tableSize } from './maglev.ts';

const backend = fc.record({
  address: fc.oneof(
    fc.record({ family: fc.constant(4 as const), words: fc.tuple(word()) }),
    fc.record({ family: fc.constant(6 as const), words: fc.tuple(word(), word(), word(), word()) }),
  ),
  port: fc.integer({ min: 1, max: 65_535 }),
});
const backends = fc.array(backend, { minLength: 2, maxLength: 100 }).map(sortedBackends);

function word(): fc.Arbitrary<number> {
  return fc.integer({ min: 0, max: 2 ** 32 - 1 });
}

/** The paper's pseudocode 1, with all permutations written out: `permutation[i][j] = (offset + j * skip) mod M`. */
function populate(list: readonly Backend[], size: number): readonly number[] {
  const permutation = list.map(({ address, port }) => {
    const words = [...address.words, port];
    const offset = hashWords(0x6f66, words) % size;
    const skip = (hashWords(0x736b, words) % (size - 1)) + 1;
    return Array.from({ length: size }, (_, j) => (offset + j * skip) % size);
  });
  const next = list.map(() => 0);
  const entry: number[] = Array.from({ length: size }, () => -1);
  for (let n = 0; ; ) {
    for (const [i, order] of permutation.entries()) {
      let c = order[next[i] ?? 0] ?? 0;
      while ((entry[c] ?? -1) >= 0) {
        next[i] = (next[i] ?? 0) + 1;
        c = order[next[i] ?? 0] ?? 0;
      }
      entry[c] = i;
      next[i] = (next[i] ?? 0) + 1;
      n++;
      if (n === size) return entry;
    }
  }
}

function ipv4(word: number): Address {
  return { family: 4, words: [word] };
}

function countsOf(places: readonly number[], of: number): readonly number[] {
  const counts = new Array<number>(of).fill(0);
  for (const place of places) counts[place] = (counts[place] ?? 0) + 1;
  return counts;
}

test('places are those of the paper, whatever order backends came in', (context) => {
  const property = fc.property(backends, fc.infiniteStream(word()), (list, random) => {
    const places = maglevPlaces(list);
    assert.deepEqual(places, populate(list, tableSize(list.length)));
    const keyed = list.map((one) => ({ one, key: random.next().value ?? 0 })).sort((a, b) => a.key - b.key);
    const shuffled = [...keyed.map(({ one }) => one), ...list.slice(0, 3)];
    assert.deepEqual(maglevPlaces(sortedBackends(shuffled)), places);
  });
  holds(context, property, 60);
});

test('of two backends one has one place more at most, which is 3.5 % at most', (context) => {
  const property = fc.property(backends, (list) => {
    const counts = countsOf(maglevPlaces(list), list.length);
    const [least, most] = [Math.min(...counts), Math.max(...counts)];
    assert.ok(most - least <= 1, `${least} to ${most}`);
    assert.ok((most - least) / least <= 0.035, `${least} to ${most}`);
  });
  holds(context, property, 100);
});

test('no backends, no places; one has them all; more than places leave some without', () => {
  const one = { address: { family: 4 as const, words: [1] }, port: 80 };
  assert.deepEqual(maglevPlaces([]), []);
  assert.deepEqual(new Set(maglevPlaces([one])), new Set([0]));
  const many = Array.from({ length: 300 }, (_, index) => ({ ...one, port: index + 1 }));
  assert.equal(new Set(maglevPlaces(many, 251)).size, 251);
});

/** Of all places, those whose backend is another one though it has not gone. */
function moved(before: readonly Backend[], gone: number, size: number): number {
  const after = before.filter((_, index) => index !== gone);
  const [old, fresh] = [maglevPlaces(before, size), maglevPlaces(after, size)];
  const changed = old.filter((index, place) => index !== gone && before[index] !== after[fresh[place] ?? -1]);
  return changed.length / size;
}

test('a backend that goes moves few of the others, as in the paper (section 5.3)', () => {
  const list = (count: number, seed: number): readonly Backend[] =>
    sortedBackends(
      Array.from({ length: count }, (_, index) => ({
        address: { family: 4 as const, words: [hashWords(seed, [index])] },
        port: 80,
      })),
    );
  // The paper's own case: 1000 backends on 65537 places, one fails: under 2 % of the other places change.
  assert.ok(moved(list(1000, 1), 500, 65_537) < 0.02);
  // The sizes that are used: a new choice by hash alone would move nearly all.
  for (const count of [2, 3, 10, 12, 40, 51, 100]) {
    const seeds = Array.from({ length: 12 }, (_, seed) => seed);
    const shares = seeds.map((seed) => moved(list(count, seed), seed % count, tableSize(count)));
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    assert.ok(mean < 0.05, `${count} backends: ${(100 * mean).toFixed(1)} % on average`);
    assert.ok(Math.max(...shares) < 0.1, `${count} backends: ${(100 * Math.max(...shares)).toFixed(1)} % at most`);
  }
});

test('flows that differ in their port alone, or in the last octet alone, spread over all places', () => {
  const size = tableSize(3);
  const flow = {
    ...{ source: ipv4(0x0a010001), sourcePort: 40_000, destination: ipv4(0x0a600001), destinationPort: 80 },
    protocol: 6,
  };
  const spreads = {
    port: (index: number): HashedFlow => ({ ...flow, sourcePort: 1024 + index }),
    octet: (index: number): HashedFlow => ({ ...flow, source: ipv4(0x0a010000 + index) }),
  };
  for (const [what, flowOf] of Object.entries(spreads)) {
    const drawn = size * 200;
    const counts = countsOf(
      Array.from({ length: drawn }, (_, index) => reduceHash(flowHash(flowOf(index)), size)),
      size,
    );
    // Chi-squared over `size` - 1 degrees of freedom; six standard deviations above its mean.
    const expected = drawn / size;
    const chi = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    assert.ok(chi < size - 1 + 6 * Math.sqrt(2 * (size - 1)), `${what}: chi-squared ${chi.toFixed(0)}`);
  }
});
