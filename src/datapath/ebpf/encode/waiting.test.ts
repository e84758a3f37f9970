// What waits is what was given, whatever becomes of the bytes in which it was given: they are used again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Waiting } from './waiting.ts';

test('elements that wait keep their bytes, though the caller writes the next one into the same', () => {
  const waiting = new Waiting();
  const [key, value] = [new Uint8Array(2), new Uint8Array(2)];
  for (const one of [1, 2, 3]) {
    key.fill(one);
    value.fill(10 * one);
    waiting.add('class_map', key, value);
  }
  const tried: (readonly number[])[] = [];
  waiting.retry((_, key, value) => {
    tried.push([...key, ...value]);
    return true;
  });
  assert.deepEqual(tried, [
    [1, 1, 10, 10],
    [2, 2, 20, 20],
    [3, 3, 30, 30],
  ]);
});
