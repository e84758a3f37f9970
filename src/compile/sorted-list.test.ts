// Lists that share what is the same in them say what plain sorted arrays say, and don't look at what they share.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fails, holds } from '#test/support/property.ts';
import { SortedList } from './sorted-list.ts';

type Item = { readonly key: number; readonly serial: number };

const keyOf = ({ key }: Item): number => key;
const byKey = (a: Item, b: Item): number => a.key - b.key;

/** A change of a list: an item put in, or taken out. */
type Edit = { readonly key: number; readonly put: boolean };

const keys = fc.nat({ max: 300 });
const edits = fc.array(fc.record({ key: keys, put: fc.boolean() }), { maxLength: 200, size: 'max' });
const starts = fc.uniqueArray(keys, { maxLength: 300, size: 'max' });

let serials = 0;
const itemOf = (key: number): Item => ({ key, serial: ++serials });

/** The list, and what it must be: every edit made on both. */
type Twin = { readonly list: SortedList<Item>; readonly plain: ReadonlyMap<number, Item> };

function twinOf(start: readonly number[]): Twin {
  const plain = new Map(start.map((key) => [key, itemOf(key)]));
  return { list: SortedList.of(keyOf, plain.values()), plain };
}

function edited({ list, plain }: Twin, { key, put }: Edit): Twin {
  const now = new Map(plain);
  if (!put) {
    now.delete(key);
    return { list: list.without(key), plain: now };
  }
  const item = itemOf(key);
  now.set(key, item);
  return { list: list.with(item), plain: now };
}

function itemsOf({ plain }: Twin): Item[] {
  return [...plain.values()].sort(byKey);
}

function checkTwin(twin: Twin): void {
  const { list, plain } = twin;
  assert.deepEqual([...list], itemsOf(twin));
  assert.equal(list.size, plain.size);
  assert.equal(list.first, itemsOf(twin)[0]);
  for (const key of [0, 1, 150, 300]) assert.equal(list.at(key), plain.get(key));
  const fresh = SortedList.of(keyOf, plain.values());
  assert.equal(list.hash, fresh.hash);
  assert.ok(list.equals(fresh) && fresh.equals(list));
}

/** What comes between a list and its check: nothing, or a fault. */
type Fault = (twin: Twin) => Twin;

const none: Fault = (twin) => twin;
const losesFirst: Fault = ({ list, plain }) => ({ list: list.without(list.first?.key ?? -1), plain });

function listsOf(fault: Fault): fc.IProperty<[number[], Edit[]]> {
  return fc.property(starts, edits, (start, changes) => {
    let twin = fault(twinOf(start));
    checkTwin(twin);
    for (const change of changes) twin = edited(twin, change);
    checkTwin(twin);
  });
}

test('a list is what its edits make it, and equal to one made anew', (context) => {
  holds(context, listsOf(none), 300);
  fails(listsOf(losesFirst), 100);
});

test('changes made together come to the same as one by one', (context) => {
  const property = fc.property(starts, edits, (start, changes) => {
    const begin = twinOf(start);
    const gone = changes.filter(({ put }) => !put).map(({ key }) => key);
    const come = new Map(changes.filter(({ put }) => put).map(({ key }) => [key, itemOf(key)]));
    const plain = new Map(begin.plain);
    for (const key of gone) plain.delete(key);
    for (const [key, item] of come) plain.set(key, item);
    checkTwin({ list: begin.list.edited(gone, [...come.values()]), plain });
  });
  holds(context, property, 300);
});

test('what is not in both of two lists is told, however they came about', (context) => {
  const property = fc.property(starts, edits, edits, (start, some, others) => {
    const begin = twinOf(start);
    const [one, other] = [some.reduce(edited, begin), others.reduce(edited, begin)];
    const { gone, come } = other.list.since(one.list);
    const [old, now] = [new Set(one.plain.values()), new Set(other.plain.values())];
    assert.deepEqual(
      gone,
      itemsOf(one).filter((item) => !now.has(item)),
    );
    assert.deepEqual(
      come,
      itemsOf(other).filter((item) => !old.has(item)),
    );
    assert.equal(one.list.equals(other.list), gone.length + come.length === 0);
  });
  holds(context, property, 300);
});

test('items may get other keys in the same order', () => {
  const items = Array.from({ length: 200 }, (_, at) => ({ key: at, serial: at + 1 }));
  const list = SortedList.of((item: { key: number }) => item.key, items);
  for (const item of items) item.key = item.key * 7 + 3;
  const added = { key: 70, serial: 1000 };
  assert.deepEqual([...list.with(added).without(3)], [...items.slice(1, 10), added, ...items.slice(10)]);
  assert.deepEqual(list.with(added).without(3).since(list), { gone: [items[0]], come: [added] });
});

test('lists with the same serials are equal to those who ask for no more', () => {
  const items = Array.from({ length: 100 }, (_, at) => ({ key: at, serial: at + 1 }));
  const list = SortedList.of(keyOf, items);
  const again = list.with({ key: 50, serial: 51 });
  assert.equal(list.equals(again), false);
  assert.equal(
    list.equals(again, (a, b) => a.serial === b.serial),
    true,
  );
});

test('what two lists share is not looked at', () => {
  const items = Array.from({ length: 10_000 }, (_, at) => ({ key: at, serial: at + 1 }));
  let asked = 0;
  const list = SortedList.of((item: Item) => {
    asked++;
    return item.key;
  }, items);
  const other = list.with({ key: 5000.5, serial: 20_000 }).without(7000);
  asked = 0;
  const { gone, come } = other.since(list);
  assert.deepEqual([gone, come], [[items[7000]], [{ key: 5000.5, serial: 20_000 }]]);
  let compared = 0;
  assert.ok(
    list.equals(other.with(items[7000] ?? itemOf(0)).without(5000.5), (a, b) => {
      compared++;
      return a === b;
    }),
  );
  assert.ok(asked < 1000 && compared < 1000, `${asked} keys were asked for, ${compared} items compared`);
});
