// How long slices of work become.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Slices } from './slices.ts';

test('a slice that was quick makes the next one of its kind longer, and no other', () => {
  const slices = new Slices<'search' | 'moves'>();
  const first = slices.size('moves');
  for (let turn = 0; turn < 20; turn++) slices.took('search', 0.01);
  assert.ok(slices.size('search') > 8 * first);
  assert.equal(slices.size('moves'), first);
  slices.took('search', 1000);
  assert.ok(slices.size('search') > 8 * first, 'one that was interrupted counts for half at most');
  for (let turn = 0; turn < 20; turn++) slices.took('search', 1000);
  assert.ok(slices.size('search') > 0 && slices.size('search') < first);
});
