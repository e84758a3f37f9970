// An index of rows finds what a Map would, whatever comes and goes, and however hashes collide.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { RowIndex } from './row-index.ts';

const changes = fc.array(fc.tuple(fc.nat({ max: 120 }), fc.boolean()), { minLength: 1, maxLength: 400, size: 'max' });

test('rows are found by what is in them, and by nothing else, while they are there', (context) => {
  const kinds = fc.constantFrom(1, 4, 1000);
  holds(
    context,
    fc.property(changes, kinds, (list, hashes) => {
      const hashOf = (row: number): number => (row % hashes) * 0x1000_0001;
      const index = new RowIndex(hashOf);
      const rows = new Set<number>();
      for (const [row, comes] of list) {
        if (comes && !rows.has(row)) index.add(row);
        if (!comes) index.delete(row);
        if (comes) rows.add(row);
        else rows.delete(row);
      }
      for (let row = 0; row <= 120; row++) {
        const found = index.find(hashOf(row), (one) => one === row);
        assert.equal(found, rows.has(row) ? row : undefined);
      }
    }),
    300,
  );
});
