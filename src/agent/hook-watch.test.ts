// What people hear of hooks that somebody touched.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HookWatch } from './hook-watch.ts';
import type { HookRepair } from './node-state.ts';

const nameOf = (index: number): string => `shop/pod${index}`;
const taken = (interfaceIndex: number): HookRepair => {
  return { interfaceIndex, found: 'absent', now: 'first', failure: null, gone: false };
};

test('the same is said of an interface once in ten seconds, and of another at once', () => {
  const watch = new HookWatch();
  assert.equal(watch.note([taken(7)], nameOf, 0).length, 1);
  assert.equal(watch.note([taken(7)], nameOf, 9999).length, 0);
  assert.match(watch.note([taken(7), taken(8)], nameOf, 9999)[0] ?? '', /shop\/pod8/);
  assert.equal(watch.note([taken(7)], nameOf, 10_000).length, 1);
  assert.equal(watch.repaired, 5);
});

test('what is wrong with an interface is a complaint until the next look', () => {
  const watch = new HookWatch();
  const [said] = watch.note([{ ...taken(7), now: 'absent', failure: 'no room' }], nameOf, 0);
  assert.match(said ?? '', /not in force.*no room/);
  assert.equal(watch.complaint, said);
  watch.note([], nameOf, 200);
  assert.equal(watch.complaint, null);
});
