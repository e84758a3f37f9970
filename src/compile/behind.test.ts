// Whose classes are behind, layer by layer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Behind } from './behind.ts';

test('layers that fell behind alike follow each for itself', () => {
  const behind = new Behind<string>();
  const alike: ReadonlySet<number> = new Set([1, 2, 3]);
  for (const layer of ['a', 'b', 'c']) behind.add(layer, alike, []);
  behind.done('a', 2);
  behind.add('b', new Set([4]), []);
  behind.forget(3);
  const left = ['a', 'b', 'c'].map((layer) => [...behind.of(layer)]);
  assert.deepEqual(
    [left, [...alike]],
    [
      [[1], [1, 2, 4], [1, 2]],
      [1, 2, 3],
    ],
  );
  assert.deepEqual(
    [...behind.next(2)],
    [
      ['a', [1]],
      ['b', [1]],
    ],
  );
  behind.done('a', 1);
  assert.deepEqual([[...behind.take().keys()], behind.isEmpty], [['a'], false]);
});
