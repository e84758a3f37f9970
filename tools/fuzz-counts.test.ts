// What `make fuzz` adds up of what tests say.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addCounts, formatCounts, readCounts } from './fuzz-counts.ts';

test('what tests say of their runs and packets is added up, and nothing else', () => {
  const output = [
    'TAP version 13',
    '# Subtest: a property of 9 packets',
    '    # seed -5, 40 runs',
    '    # seed 7, 60 runs',
    '# 3 worlds, 1200 packets',
    '#     12  none',
    '# 12 runs were enough',
    '# tests 3',
  ].join('\n');
  assert.deepEqual(
    readCounts(output),
    new Map([
      ['runs', 100],
      ['worlds', 3],
      ['packets', 1200],
    ]),
  );
  assert.equal(formatCounts(addCounts(readCounts(output), new Map([['runs', 1]]))), '101 runs, 3 worlds, 1200 packets');
  assert.equal(formatCounts(readCounts('')), 'no runs');
});
