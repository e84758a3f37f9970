// Ratios from slots: worked by hand.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { meets } from './figure.ts';
import { compareSlots, parseRun, quantile } from './slots.ts';

test('a ratio is the median of the rounds’ own ratios, the spread is theirs', () => {
  const run = parseRun('0 a 10 20\n0 b 5 40\n1 a 30 20\n1 b 10 40\n2 a 20 20\n2 b 20 40\n');
  const compared = compareSlots(run, { column: 0, pair: 'a', against: 'b', by: 'slots' });
  assert.deepEqual(compared, { value: 20, ratio: 2, spread: [1, 3] });
});

test('a far percentile is that of all slots’ samples', () => {
  const run = parseRun('0 a 10 20\n0 b 5 40\nall a 11 30\nall b 6 40\n');
  const compared = compareSlots(run, { column: 1, pair: 'a', against: 'b', by: 'pool' });
  assert.deepEqual(compared, { value: 30, ratio: 0.75, spread: [0.5, 0.5] });
});

test('a line that is no slot, and a pair that was not measured, are errors', () => {
  const bare = parseRun('0 a 1');
  assert.throws(() => parseRun('0 a fast'), /no slot/);
  assert.throws(() => compareSlots(bare, { column: 0, pair: 'a', against: 'b', by: 'slots' }), /'b'/);
  assert.throws(() => compareSlots(bare, { column: 0, pair: 'a', against: 'a', by: 'pool' }), /no samples/);
});

test('quantiles are values that were seen', () => {
  assert.equal(quantile([3, 1, 2], 0.5), 2);
  assert.equal(quantile([1, 2], 0.99), 2);
});

test('a bar is held with the two decimals that it is written with', () => {
  assert.equal(meets(1.004, { most: 1 }), true);
  assert.equal(meets(1.006, { most: 1 }), false);
  assert.equal(meets(1.146, { least: 1.15 }), true);
  assert.equal(meets(1.144, { least: 1.15 }), false);
});
