// Boundaries of clients: an address is in a block where an odd number of them is not above it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Address } from '#net/address.ts';
import { type Cidr, cidrContains, maskAddress } from '#net/cidr.ts';
import { holds } from '#test/support/property.ts';
import { clientBounds } from './clients.ts';

/** Near both ends of the space and of words, so that blocks touch, hold one another, and end where there is nothing more. */
const word = fc.constantFrom(0, 1, 2, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff);
const arbitraryCase = fc.constantFrom(1, 4).chain((words) => {
  const address = fc
    .array(word, { minLength: words, maxLength: words })
    .map((all): Address => ({ family: words === 1 ? 4 : 6, words: all }));
  const block = fc.tuple(address, fc.nat({ max: words * 32 })).map(([at, length]): Cidr => {
    return { address: maskAddress(at, length), length };
  });
  return fc.record({ blocks: fc.array(block, { maxLength: 6 }), asked: address });
});

function isAbove(bound: readonly number[], { words }: Address): boolean {
  for (const [index, each] of bound.entries()) if (each !== (words[index] ?? 0)) return each > (words[index] ?? 0);
  return false;
}

test('whoever is in a block has an odd number of boundaries behind it, and nobody else', (context) => {
  const property = fc.property(arbitraryCase, ({ blocks, asked }) => {
    const bounds = clientBounds(blocks);
    assert.ok(bounds.length > 0, 'none would be everybody');
    const behind = bounds.findIndex((bound) => isAbove(bound, asked));
    const count = behind === -1 ? bounds.length : behind;
    assert.ok(
      bounds.slice(count).every((bound) => isAbove(bound, asked)),
      'ascending',
    );
    assert.equal(
      count % 2 === 1,
      blocks.some((block) => cidrContains(block, asked)),
    );
  });
  holds(context, property, 2000);
});
