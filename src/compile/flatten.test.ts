// Flattening: the first rule at each position decides, pass goes on in the next tier.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Action } from '#policy/model.ts';
import { holds } from '#test/support/property.ts';
import { type Entry, flatten } from './flatten.ts';

/** `allow 80-90 @2`: an entry of rule and order 2. Several ranges are joined by `+`. */
function entry(text: string): Entry {
  const [action = '', ranges = '', order = ''] = text.split(' ');
  const parsed = ranges.split('+').map((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return { first, last };
  });
  const number = Number(order.slice(1));
  return { action: action as Action, ranges: parsed, rule: number, order: number };
}

function check(tiers: readonly (readonly string[])[], keep: 'first' | 'last', expect: readonly string[]): void {
  const table = flatten(
    tiers.map((tier) => tier.map(entry)),
    keep,
  );
  const found = table.map((one) => `${one.action} ${one.first}-${one.last} rule ${one.rule} @${one.order}`);
  assert.deepEqual(found, expect);
}

test('the earlier rule decides where two overlap', () => {
  check([['allow 10-20 @1', 'deny 15-30 @2']], 'first', ['allow 10-20 rule 1 @1', 'deny 21-30 rule 2 @2']);
  check([['allow 10-20 @2', 'deny 15-30 @1']], 'first', ['allow 10-14 rule 2 @2', 'deny 15-30 rule 1 @1']);
  check([['allow 10-20+15-30 @1']], 'first', ['allow 10-30 rule 1 @1']);
  check([['allow 10-12+13-30 @1', 'deny 0-99 @2']], 'first', [
    ...['deny 0-9 rule 2 @2', 'allow 10-30 rule 1 @1', 'deny 31-99 rule 2 @2'],
  ]);
});

test('a pass goes on in the next tier, and leaves where nothing there matches', () => {
  const tiers = [['pass 10-20 @1', 'deny 10-40 @2'], ['allow 15-30 @3']];
  check(tiers, 'first', ['pass 10-14 rule 1 @1', 'allow 15-20 rule 3 @1', 'deny 21-40 rule 2 @2']);
  check(tiers, 'last', ['pass 10-14 rule 1 @1', 'allow 15-20 rule 3 @3', 'deny 21-40 rule 2 @2']);
});

test('nothing is left out of an empty list', () => {
  check([[]], 'first', []);
  check([[], ['allow 1-1 @1'], []], 'first', ['allow 1-1 rule 1 @1']);
});

const ranges = fc
  .tuple(fc.nat({ max: 30 }), fc.nat({ max: 30 }))
  .map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));
const bodies = fc.record({
  action: fc.constantFrom<Action>('allow', 'deny', 'pass'),
  ranges: fc.array(ranges, { maxLength: 3 }),
});

/** What a walk through the tiers finds, position by position. */
function walk(tiers: readonly (readonly Entry[])[], position: number): string {
  let passed = 'nothing';
  for (const tier of tiers) {
    const hit = tier.find((one) => one.ranges.some(({ first, last }) => first <= position && position <= last));
    if (hit !== undefined && hit.action !== 'pass') return `${hit.action} ${hit.rule}`;
    if (hit !== undefined) passed = `pass ${hit.rule}`;
  }
  return passed;
}

/** Of few ranges and of many: they are not flattened in the same way. */
const tierBodies = fc.oneof(
  fc.array(bodies, { maxLength: 5 }),
  fc.array(bodies, { minLength: 12, maxLength: 20, size: 'max' }),
);

test('any tiers flatten to what a walk through them finds', (context) => {
  const property = fc.property(fc.array(tierBodies, { maxLength: 3 }), (sampled) => {
    let order = 0;
    const tiers = sampled.map((tier) => tier.map((body) => ({ ...body, order: ++order, rule: order })));
    const table = flatten(tiers, 'first');
    for (let position = 0; position <= 31; position++) {
      const found = table.filter(({ first, last }) => first <= position && position <= last);
      assert.ok(found.length <= 1);
      const [one] = found;
      assert.equal(one === undefined ? 'nothing' : `${one.action} ${one.rule}`, walk(tiers, position));
    }
  });
  holds(context, property, 500);
});

test('few ranges make the intervals that they make among many', (context) => {
  const others = Array.from({ length: 20 }, (_, at): Entry => {
    return { action: 'allow', ranges: [{ first: 100 + at, last: 100 + at }], rule: 50 + at, order: 50 + at };
  });
  const property = fc.property(fc.array(bodies, { maxLength: 5 }), (sampled) => {
    const tier = sampled.map((body, at) => ({ ...body, order: at, rule: at }));
    const among = flatten([[...tier, ...others]], 'first').filter(({ last }) => last < 100);
    assert.deepEqual(flatten([tier], 'first'), among);
  });
  holds(context, property, 500);
});
