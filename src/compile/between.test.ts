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

const pair = (base: PortTable, own: PortTable): Pair => ({ base, class: own });
const deny = table(['deny', 0, 65535, 1001]);

test('an allow that moves from the class to the base is denied in between', () => {
  const [before, after] = [pair(deny, table(['allow', 80, 80, 2])), pair(table(['allow', 80, 80, 3]), [])];
  assert.equal(isBetween(pair(before.base, after.class), before, after), false);
  assert.equal(isBetween(pair(after.base, before.class), before, after), true);
});

test('a deny in a class that comes before the base allows what it hides is seen in good time', () => {
  const allow = table(['allow', 0, 65535, 1001]);
  const [before, after] = [pair(deny, []), pair(allow, table(['deny', 80, 80, 2]))];
  assert.equal(isBetween(pair(before.base, after.class), before, after), true);
  assert.equal(isBetween(pair(after.base, before.class), before, after), false);
});

test('a fault at one port among many is found', () => {
  const before = pair(deny, table(['allow', 1, 9, 2], ['allow', 80, 80, 2]));
  const after = pair(table(['allow', 80, 80, 3]), table(['allow', 1, 9, 2]));
  assert.equal(isBetween(pair(before.base, after.class), before, after), false);
});

test('a pass is as good as no rule, since both leave the layer', () => {
  const before = pair([], table(['pass', 80, 80, 2]));
  assert.equal(isBetween(pair([], []), before, pair(table(['deny', 80, 80, 3]), [])), true);
});

test('tables say the same where only the rules have other numbers', () => {
  assert.equal(
    sayTheSame(
      deny,
      deny.map((one) => ({ ...one, rule: 7 })),
    ),
    true,
  );
  assert.equal(
    sayTheSame(
      deny,
      deny.map((one) => ({ ...one, order: 7 })),
    ),
    false,
  );
  assert.equal(sayTheSame(deny, table(['allow', 0, 65535, 1001])), false);
  assert.equal(sayTheSame(deny, [...deny, ...deny]), false);
});
