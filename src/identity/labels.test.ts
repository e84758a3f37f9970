// Labels that a selector matches have a bit of its mask, by the oracle's own matching.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type LabelSelector, selectorMatches } from '#policy/selector.ts';
import { arbitraryLabels, arbitrarySelector } from '#test/support/arbitrary-policy.ts';
import { fails, holds } from '#test/support/property.ts';
import { pairMask, pairsOf } from './labels.ts';

/** `heard`: the selector that the mask is made of. Counts the selectors that have one, and the labels that it leaves out. */
function maskIsMet(
  heard: (selector: LabelSelector) => LabelSelector,
  seen = { masks: 0, without: 0 },
): fc.IProperty<unknown> {
  return fc.property(arbitrarySelector, arbitraryLabels, (selector, labels) => {
    const mask = pairMask(heard(selector));
    if (mask === null) return;
    seen.masks++;
    if ((pairsOf(labels) & mask) === 0) seen.without++;
    if (selectorMatches(selector, labels)) assert.notEqual(pairsOf(labels) & mask, 0);
  });
}

test('labels that a selector matches have a bit of its mask, and most others have none', (context) => {
  const seen = { masks: 0, without: 0 };
  holds(
    context,
    maskIsMet((selector) => selector, seen),
    5000,
  );
  assert.ok(seen.masks > 500 && seen.without > seen.masks / 2, JSON.stringify(seen));
});

test('a mask that lacks a value is found out', () => {
  const cut = (selector: LabelSelector): LabelSelector => ({
    requirements: selector.requirements.map((one) => (one.op === 'In' ? { ...one, values: one.values.slice(1) } : one)),
  });
  fails(maskIsMet(cut), 5000);
});
