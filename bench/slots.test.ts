// Ratios from slots: worked by hand.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareSlots, parseSlots, quantile } from './slots.ts';

test('a ratio is the quotient of the medians, the spread is that of the rounds', () => {
  const slots = parseSlots('0 a 10 20\n0 b 5 40\n1 a 30 20\n1 b 10 40\n2 a 20 20\n2 b 20 40\n');
  const figure = compareSlots(slots, { name: 'rtt', unit: 'µs', column: 0, pair: 'a', against: 'b' });
  assert.equal(figure.value, 20);
  assert.equal(figure.ratio, 2);
  assert.deepEqual(figure.spread, [1, 3]);
});

test('a line that is no slot, and a pair that was not measured, are errors', () => {
  assert.throws(() => parseSlots('0 a fast'), /no slot/);
  assert.throws(
    () => compareSlots(parseSlots('0 a 1'), { name: 'x', unit: '', column: 0, pair: 'a', against: 'b' }),
    /'b'/,
  );
});

test('quantiles are values that were seen', () => {
  assert.equal(quantile([3, 1, 2], 0.5), 2);
  assert.equal(quantile([1, 2], 0.99), 2);
});
