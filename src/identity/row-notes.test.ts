// Notes on rows are what a Map that keeps the first number would hold.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RowNotes } from './row-notes.ts';

test('the first number of a row stays until all is cleared; rows come in the order in which they were noted', () => {
  const notes = new RowNotes();
  notes.note(70, -1);
  notes.note(3, 5);
  notes.note(70, 8);
  notes.note(900, 0);
  assert.deepEqual([notes.get(70), notes.get(3), notes.get(900), notes.get(4)], [-1, 5, 0, undefined]);
  notes.delete(3);
  assert.deepEqual([[...notes.rows()], notes.get(3)], [[70, 900], undefined]);
  notes.clear();
  assert.deepEqual([[...notes.rows()], notes.get(70)], [[], undefined]);
  notes.note(3, 1);
  assert.deepEqual([[...notes.rows()], notes.get(3)], [[3], 1]);
});
