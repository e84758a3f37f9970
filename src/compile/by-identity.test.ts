// A map of identities in pages is one: the same as a Map says after any writes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { ByIdentity } from './by-identity.ts';

/** Numbers around the borders of pages, and some far off. */
const identity = fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 2 ** 31 - 70, max: 2 ** 31 }));
const write = fc.tuple(identity, fc.oneof(fc.constant(null), fc.integer({ min: 1 })));

test('after any writes it says what a Map says', (context) => {
  const property = fc.property(fc.array(write), (writes) => {
    const known = new Map<number, number>();
    const pages = new ByIdentity<number>();
    for (const [number, value] of writes) {
      if (value === null) assert.equal(pages.delete(number), known.delete(number));
      else assert.equal(pages.set(number, value).get(number), known.set(number, value).get(number));
      assert.equal(pages.size, known.size);
    }
    assert.deepEqual(new Map(pages), known);
    assert.deepEqual([...pages.keys()].sort(), [...known.keys()].sort());
    assert.deepEqual([...pages.values()].sort(), [...known.values()].sort());
    const seen = new Map<number, number>();
    pages.forEach((value, number) => {
      seen.set(number, value);
    });
    assert.deepEqual(seen, known);
    for (const [number] of writes) assert.equal(pages.has(number), known.has(number));
  });
  holds(context, property, 500);
});
