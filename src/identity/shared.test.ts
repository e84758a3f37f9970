// Shared values are found as a Map by a text for each would find them, whatever comes and goes, and however hashes collide.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Labels } from '#policy/selector.ts';
import { arbitraryLabels } from '#test/support/arbitrary-policy.ts';
import { fails, holds } from '#test/support/property.ts';
import { BY_LABELS, labelsKey } from './labels.ts';
import { type Keyed, Shared } from './shared.ts';

const changes = fc.array(fc.tuple(arbitraryLabels, fc.boolean()), { minLength: 1, maxLength: 60, size: 'max' });

function likeAMap(keyed: Keyed<Labels, Labels>): fc.IProperty<unknown> {
  return fc.property(changes, (list) => {
    const shared = new Shared(keyed);
    const uses = new Map<string, number>();
    for (const [labels, comes] of list) {
      const key = labelsKey(labels);
      const count = uses.get(key) ?? 0;
      const number = shared.find(labels);
      assert.equal(number !== undefined, count > 0);
      if (comes) assert.equal(labelsKey(shared.at(shared.take(reversed(labels), (one) => one))), key);
      else if (number !== undefined) shared.give(number);
      uses.set(key, Math.max(0, count + (comes ? 1 : -1)));
    }
    const inUse = [...uses].filter(([, count]) => count > 0).map(([key]) => key);
    assert.deepEqual([...shared.numbers()].map((number) => labelsKey(shared.at(number))).sort(), inUse.sort());
  });
}

/** The same labels in another order. */
function reversed(labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).reverse());
}

test('values have one number for equal keys, for as long as they are used', (context) => {
  holds(context, likeAMap(BY_LABELS), 1000);
  holds(context, likeAMap({ ...BY_LABELS, hash: (labels) => Object.keys(labels).length }), 1000);
});

test('that is found out where labels are taken for equal that are not', () => {
  fails(likeAMap({ hash: () => 0, is: (one, other) => Object.keys(one).length === Object.keys(other).length }), 1000);
});

test('labels of other keys and values that read the same in a row have other hashes', () => {
  const hashes = Array.from({ length: 20 }, (_, at) => BY_LABELS.hash({ ['x'.repeat(at + 1)]: 'x'.repeat(20 - at) }));
  assert.equal(new Set(hashes).size, hashes.length);
});
