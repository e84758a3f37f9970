// What a packet could meet while a base and a class change one after the other.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { axisRange } from '#net/axis.ts';
import { TCP } from '#net/protocol.ts';
import type { Action } from '#policy/model.ts';
import { isBetween, type Pair, sayTheSame } from './between.ts';
import type { Interval, PortTable } from './plan.ts';

function table(
  ...lines: readonly (readonly [action: Action, first: number, last: number, order: number])[]
): PortTable {
  return lines.map(([action, first, last, order]): Interval => {
    return { ...axisRange(TCP, first, last), action, rule: order + 100, order };
  });
}

/** Of rules by these orders (`table`), the rest are policies' of the cluster. */
const own =
  (...orders: readonly number[]) =>
  (rule: number): boolean =>
    orders.includes(rule - 100);
const all = (): boolean => true;
const pair = (base: PortTable, own: PortTable): Pair => ({ base, class: own });
const deny = table(['deny', 0, 65535, 1001]);

test('an allow that moves from the class to the base is denied in between', () => {
  const [before, after] = [pair(deny, table(['allow', 80, 80, 2])), pair(table(['allow', 80, 80, 3]), [])];
  assert.equal(isBetween(pair(before.base, after.class), before, after, all), false);
  assert.equal(isBetween(pair(after.base, before.class), before, after, all), true);
});

test('a deny in a class that comes before the base allows what it hides is seen in good time', () => {
  const allow = table(['allow', 0, 65535, 1001]);
  const [before, after] = [pair(deny, []), pair(allow, table(['deny', 80, 80, 2]))];
  assert.equal(isBetween(pair(before.base, after.class), before, after, all), true);
  assert.equal(isBetween(pair(after.base, before.class), before, after, all), false);
});

test('a fault at one port among many is found', () => {
  const before = pair(deny, table(['allow', 1, 9, 2], ['allow', 80, 80, 2]));
  const after = pair(table(['allow', 80, 80, 3]), table(['allow', 1, 9, 2]));
  assert.equal(isBetween(pair(before.base, after.class), before, after, all), false);
});

test('a pass is as good as no rule, since both leave the layer', () => {
  const before = pair([], table(['pass', 80, 80, 2]));
  assert.equal(isBetween(pair([], []), before, pair(table(['deny', 80, 80, 3]), []), all), true);
});

test('tables say the same where only the rules have other numbers', () => {
  assert.equal(
    sayTheSame(
      deny,
      deny.map((one) => ({ ...one, rule: 7 })),
      all,
    ),
    true,
  );
  assert.equal(
    sayTheSame(
      deny,
      deny.map((one) => ({ ...one, order: 7 })),
      all,
    ),
    false,
  );
  assert.equal(sayTheSame(deny, table(['allow', 0, 65535, 1001]), all), false);
  assert.equal(sayTheSame(deny, [...deny, ...deny], all), false);
});

test('a denial by the cluster is another than one by the namespace, which its audit lets pass', () => {
  const before = pair(table(['deny', 0, 65535, 1001]), []);
  const after = pair(table(['deny', 0, 65535, 1002]), table(['deny', 80, 80, 2]));
  const [oldBase, newBase] = [pair(before.base, after.class), pair(after.base, before.class)];
  // Old base and new class: at 80 what comes after, elsewhere what was before.
  for (const isOwn of [own(1001), own(1002), own(2), own(1001, 1002, 2), own()])
    assert.equal(isBetween(oldBase, before, after, isOwn), true);
  // The new base's deny at 80 would pass under an audit, which neither the old base's nor the new class's would.
  assert.equal(isBetween(newBase, before, after, own(1002)), false);
  assert.equal(isBetween(newBase, before, after, own(1001, 2)), false);
  assert.equal(isBetween(newBase, before, after, own(1002, 2)), true);
  assert.equal(isBetween(newBase, before, after, own()), true);
});

test('tables say the same only where the same of their denials are the namespace’s own', () => {
  const other = deny.map((one) => ({ ...one, rule: 7 }));
  const isOwn = own(1001);
  assert.equal(sayTheSame(deny, other, isOwn), false);
  assert.equal(sayTheSame(other, deny, isOwn), false);
  assert.equal(sayTheSame(other, other, isOwn), true);
  const allow = table(['allow', 0, 65535, 1001]);
  assert.equal(
    sayTheSame(
      allow,
      allow.map((one) => ({ ...one, rule: 7 })),
      isOwn,
    ),
    true,
  );
});
