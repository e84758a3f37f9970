// Which addresses a block holds is found in one of two ways, by how large it is: both find what a look at each finds.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Address } from '#net/address.ts';
import { type Cidr, cidrContains } from '#net/cidr.ts';
import { holds } from '#test/support/property.ts';
import { AddressTable } from './addresses.ts';

const FIRST = 0xc0a8_0000;
const ROWS = 1200;

const bits = (length: number): number => (length === 0 ? 0 : (-1 << (32 - length)) >>> 0);

/** Blocks about the addresses of the table: of one address up to more than all. */
const blocks: fc.Arbitrary<Cidr> = fc
  .tuple(fc.nat({ max: 3 * ROWS }), fc.integer({ min: 18, max: 32 }))
  .map(([at, length]) => ({ address: { family: 4, words: [((FIRST + at) & bits(length)) >>> 0] }, length }));

test('the rows inside a block are those whose address it holds, while they are there', (context) => {
  const property = fc.property(blocks, fc.nat({ max: 6 }), fc.nat({ max: 4 }), (cidr, step, gap) => {
    const table = new AddressTable(() => false);
    const rows = new Map<number, Address>();
    for (let at = 0; at < ROWS; at++) {
      const words = at % 9 === 0 ? [FIRST + at, 0, 0, at] : [FIRST + at * (step + 1)];
      const address = { family: words.length === 1 ? 4 : 6, words } as Address;
      rows.set(table.take(address), address);
    }
    for (const row of [...rows.keys()].filter((each) => gap > 0 && each % (gap + 1) === 0)) {
      table.free(row);
      rows.delete(row);
    }
    const inside = [...rows].filter(([, address]) => cidrContains(cidr, address)).map(([row]) => row);
    assert.deepEqual(
      table.inside(cidr).sort((a, b) => a - b),
      inside.sort((a, b) => a - b),
    );
  });
  holds(context, property, 200);
});
