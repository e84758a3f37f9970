// Who waits is found some places at a time, and moves some members at a time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Members, Waiting } from './waiting.ts';

type Seen = { readonly looked: [number, number][]; readonly moved: number[][] };

/** Waits for all that two searches of three places each find. */
function searching(seen: Seen): Waiting {
  const waiting = new Waiting();
  const move = ({ rows }: Members): unknown => rows.length > 0 && seen.moved.push([...rows]);
  for (const base of [10, 20]) {
    waiting.search({
      places: 3,
      look: (first, end) => seen.looked.push([base + first, base + end]),
      done: () => waiting.add([{ rows: [base, base + 1, base + 2], blocks: [], whole: base === 20 }], move),
    });
  }
  return waiting;
}

test('nobody moves before every place was looked at, and each is looked at once', () => {
  const seen: Seen = { looked: [], moved: [] };
  const waiting = searching(seen);
  for (const left of [4, 5, 6]) {
    assert.ok(waiting.isSearching);
    waiting.advance(2, 1);
    assert.deepEqual([waiting.left, seen.moved], [left, []]);
  }
  assert.deepEqual(seen.looked, [
    [10, 12],
    [12, 13],
    [20, 21],
    [21, 23],
  ]);
  assert.equal(waiting.isSearching, false);
  for (let turn = 0; turn < 3; turn++) waiting.advance(2, 1);
  assert.deepEqual(
    [waiting.left, seen.moved],
    [
      0,
      [
        [10, 11],
        [12, 20, 21, 22],
      ],
    ],
  );
});

test('whoever asks for all has all found and moved at once', () => {
  const seen: Seen = { looked: [], moved: [] };
  const waiting = searching(seen);
  assert.equal(waiting.look(4), 4);
  waiting.advance(Number.POSITIVE_INFINITY);
  assert.deepEqual([waiting.left, seen.moved.flat()], [0, [10, 11, 12, 20, 21, 22]]);
});

test('where there is no place to look at, nobody is waited for', () => {
  const waiting = new Waiting();
  let done = 0;
  waiting.search({ places: 0, look: assert.fail, done: () => done++ });
  assert.deepEqual([waiting.isSearching, waiting.left, done], [false, 0, 1]);
});
