// A table is known by the lists of rules that make it, and forgets those that nobody has any more.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WHOLE_AXIS } from '#net/axis.ts';
import type { PortTable } from './plan.ts';
import { Recorder } from './recorder.ts';
import { Share } from './shares.ts';
import { type TableEntry, Tables } from './tables.ts';

const RANGES = 3;
const LIMITS = { entries: 100, ranges: 300, classes: 100 };
const SAYS: PortTable = [{ ...WHOLE_AXIS, action: 'allow', rule: 1, order: 0 }];

/** Takes the one table by lists with these numbers, and gives it back by those that are over. */
function churn(tables: Tables, share: Share, { changes, users }: { changes: number; users: number }): TableEntry[] {
  const held: TableEntry[] = [];
  for (let number = 0; number < changes; number++) {
    held.push(tables.take({ list: `c${number}`, ranges: RANGES, make: () => SAYS }, share));
    if (held.length > users) tables.give(held.shift() as TableEntry);
    tables.sweep();
    tables.publish();
    assert.equal(share.spent, null, `after ${number} changes`);
  }
  return held;
}

test('rules that change and say the same take no more of a share than they need, and all is given back', () => {
  for (const users of [1, 10, 30]) {
    const [tables, share] = [new Tables(new Recorder(new Map())), new Share('shop', LIMITS)];
    const held = churn(tables, share, { changes: 2000, users });
    assert.equal(new Set(held).size, 1, 'one table');
    for (const table of held) tables.give(table);
    tables.sweep();
    assert.equal(share.isInUse, false);
  }
});

test('a list that is in use is found again without being flattened', () => {
  const [tables, share] = [new Tables(new Recorder(new Map())), new Share('shop', LIMITS)];
  churn(tables, share, { changes: 2000, users: 10 });
  const make = (): PortTable => assert.fail('it is known');
  for (let number = 1990; number < 2000; number++) tables.take({ list: `c${number}`, ranges: RANGES, make }, share);
});
