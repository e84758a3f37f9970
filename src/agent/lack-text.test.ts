// What is said of a full table: which, of what, and what that means for whom.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lackText } from './lack-text.ts';

test('a full table is named, with what found no room and what becomes of it', () => {
  const of = (table: string): string => lackText({ table, count: 2, rule: null }, null);
  for (const table of ['service_slots', 'service_places', 'backend_slots'])
    assert.equal(
      of(table),
      `the kernel's table ${table} is full: there is no room for 2 ports of Services; nobody serves them: what is sent there is refused`,
    );
  assert.match(of('service_map'), /as where no Service is$/);
  assert.match(of('class_map'), /2 peers with rules of their own; they are denied/);
});
