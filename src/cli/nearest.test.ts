// Names that somebody may have meant.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearest } from './nearest.ts';

const KNOWN = ['backend/cart', 'backend/catalog', 'backend/checkout', 'data/cart', 'data/redis'];

const CASES: readonly (readonly [meant: string, found: readonly string[]])[] = [
  ['backend/chekout', ['backend/checkout']],
  ['bakend/cart', ['backend/cart']],
  ['backend/car', ['backend/cart']],
  ['data/card', ['data/cart']],
  ['nowhere/nobody', []],
  ['', []],
];

for (const [meant, found] of CASES) {
  test(`by "${meant}" may be meant: ${found.join(', ') || 'nothing known'}`, () => {
    assert.deepEqual(nearest(meant, KNOWN), found);
  });
}

test('only the nearest are named, and never more than three', () => {
  const known = ['a/web-22', 'a/web3', 'a/web2', 'a/web', 'a/web1', 'a/web4'];
  assert.deepEqual(nearest('a/web9', known), ['a/web', 'a/web1', 'a/web2']);
  assert.deepEqual(nearest('a/web-23', known), ['a/web-22']);
});
