// Order keys: ascending and apart whatever is put where, and few of them change.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { KEY_END, OrderList, type Place } from './order-list.ts';

const byNumber = (a: number, b: number): number => a - b;

/** Puts items in one by one and checks after each that keys ascend, and that only `moved` places changed. */
function insertAll(items: readonly (readonly [item: number, width: number])[]): { moved: number; most: number } {
  const list = new OrderList<number>(byNumber);
  const places: Place<number>[] = [];
  let moved = 0;
  let most = 0;
  for (const [item, width] of items) {
    const before = new Map(places.map((place) => [place, place.key]));
    const result = list.insert(item, width);
    for (const [place, key] of before) assert.equal(place.key !== key, result.moved.includes(place));
    places.push(result.place);
    places.sort((a, b) => a.item - b.item);
    for (const [index, place] of places.entries()) {
      const next = places[index + 1]?.key ?? KEY_END;
      assert.ok(place.key >= 0 && place.key + place.width <= next, `item ${place.item} at ${place.key}`);
    }
    moved += result.moved.length;
    most = Math.max(most, result.moved.length);
  }
  return { moved, most };
}

test('keys ascend and keep apart whatever is put where', (context) => {
  const items = fc.uniqueArray(fc.tuple(fc.integer(), fc.integer({ min: 1, max: 2000 })), {
    selector: ([item]) => item,
    maxLength: 60,
    size: 'max',
  });
  holds(
    context,
    fc.property(items, (sampled) => void insertAll(sampled)),
    100,
  );
});

test('items at the end move nothing', () => {
  const items = Array.from({ length: 2000 }, (_, index) => [index, 3] as const);
  assert.deepEqual(insertAll(items.slice(0, 500)), { moved: 0, most: 0 });
});

test('items always put at the same place move few others', () => {
  const before = Array.from({ length: 200 }, (_, index) => [index, 1] as const);
  const between = Array.from({ length: 300 }, (_, index) => [100 + 1 / (index + 2), 1] as const);
  const { moved, most } = insertAll([...before, ...between]);
  assert.ok(moved > 0, 'the gap never ran out: the test is too small');
  assert.ok(moved < 300 * 12, `${moved} moves for 300 items`);
  assert.ok(most < 500, `${most} moves at once`);
});

test('an item that is taken out gives its room back', () => {
  const list = new OrderList<number>(byNumber);
  list.insert(1, 1);
  list.insert(3, 1);
  for (let round = 0; round < 1000; round++) {
    const { place, moved } = list.insert(2, 1);
    assert.deepEqual(moved, []);
    list.remove(place);
  }
});
