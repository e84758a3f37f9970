// Labels with equal answers are the same to every selector in use, by the oracle's own matching.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type LabelSelector, selectorMatches } from '#policy/selector.ts';
import { arbitraryLabels, arbitrarySelector } from '#test/support/arbitrary-policy.ts';
import { fails, holds } from '#test/support/property.ts';
import { AskedLabels } from './asked-labels.ts';

const selectors = fc.array(arbitrarySelector, { maxLength: 6, size: 'max' });
const labelSets = fc.array(arbitraryLabels, { minLength: 6, maxLength: 10, size: 'max' });

/** `heard`: what reaches the table of selectors that come. */
function tellsApart(heard: (selector: LabelSelector) => LabelSelector): fc.IProperty<unknown> {
  return fc.property(selectors, selectors, labelSets, (come, gone, sets) => {
    const asked = new AskedLabels();
    for (const selector of [...gone, ...come]) asked.add(heard(selector));
    for (const selector of gone) asked.remove(heard(selector));
    for (const one of sets) {
      for (const other of sets) {
        if (asked.answers(one) !== asked.answers(other)) continue;
        for (const selector of come) assert.equal(selectorMatches(selector, one), selectorMatches(selector, other));
      }
    }
    for (const selector of come) asked.remove(heard(selector));
    assert.deepEqual(new Set(sets.map((labels) => asked.answers(labels))), new Set(['']));
  });
}

test('labels with equal answers are the same to every selector in use; of those gone nothing is left', (context) => {
  holds(
    context,
    tellsApart((selector) => selector),
    3000,
  );
});

test('that is found out where one requirement is overlooked', () => {
  fails(
    tellsApart(({ requirements }) => ({ requirements: requirements.slice(1) })),
    3000,
  );
});

test('what no selector asks for makes no difference, in whatever order labels stand', () => {
  const asked = new AskedLabels();
  asked.add({
    requirements: [
      { op: 'In', key: 'app', values: ['web'] },
      { op: 'Exists', key: 'tier' },
    ],
  });
  const answers = asked.answers({ app: 'web', tier: 'a', instance: '1' });
  assert.equal(asked.answers({ instance: '2', tier: 'b', app: 'web' }), answers);
  assert.notEqual(asked.answers({ app: 'db', tier: 'a', instance: '1' }), answers);
  assert.notEqual(asked.answers({ app: 'web', instance: '1' }), answers);
});
