// What namespaces have taken is known while somebody has it, and no longer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Shares } from './shares.ts';

const LIMITS = { entries: 10, ranges: 10, classes: 10 };

test('a share is one while a layer takes from it, or has what it took', () => {
  const shares = new Shares(LIMITS);
  const share = shares.of('a');
  share.layers++;
  shares.sweep();
  assert.equal(shares.of('a'), share);
  share.take({ classes: 3 });
  share.layers--;
  shares.sweep();
  assert.equal(shares.of('a'), share);
  share.give({ classes: 3 });
  shares.sweep();
  assert.equal(shares.size, 0);
  assert.notEqual(shares.of('a'), share);
});
