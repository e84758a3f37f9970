// Values as lines.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LINE_LIMIT, lineOf } from './json-lines.ts';

test('a value has a line, unless that is longer than readers take', () => {
  assert.equal(lineOf({ id: 1 }), '{"id":1}\n');
  const most = 'x'.repeat(LINE_LIMIT - 3);
  assert.equal(lineOf(most)?.length, LINE_LIMIT);
  assert.equal(lineOf(`${most}x`), null);
});
