// Range sets against plain sets of numbers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { intersectRanges, normalRanges, rangesKey, unionRanges, withoutRanges } from './ranges.ts';

const range = fc
  .tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 6 }))
  .map(([first, more]) => ({ first, last: first + more }));
const ranges = fc.array(range, { maxLength: 6 });

function holds(set: readonly { first: number; last: number }[], position: number): boolean {
  return set.some(({ first, last }) => first <= position && position <= last);
}

test('normal form, union, intersection and difference hold the positions that they should', () => {
  fc.assert(
    fc.property(ranges, ranges, fc.integer({ min: 0, max: 48 }), (a, b, position) => {
      const [left, right] = [normalRanges(a), normalRanges(b)];
      assert.equal(holds(left, position), holds(a, position));
      assert.equal(holds(unionRanges(left, right), position), holds(a, position) || holds(b, position));
      assert.equal(holds(intersectRanges(left, right), position), holds(a, position) && holds(b, position));
      assert.equal(holds(withoutRanges(left, right), position), holds(a, position) && !holds(b, position));
    }),
    { numRuns: 2000 },
  );
});

test('one set has one normal form', () => {
  const inPieces = normalRanges([
    { first: 5, last: 5 },
    { first: 1, last: 2 },
    { first: 3, last: 4 },
  ]);
  assert.equal(rangesKey(inPieces), '1-5');
});
