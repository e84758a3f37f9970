// Properties of the prefix tree against a list that is looked through from end to end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Cidr, cidrCovers, formatCidr, maskAddress } from '#net/cidr.ts';
import { holds } from '#test/support/property.ts';
import { PrefixTree } from './prefix-tree.ts';

// Few bits differ, so that prefixes often hold one another.
const word = fc.constantFrom(0, 1, 3, 0x8000_0000, 0xc000_0000, 0xc000_0001, 0xffff_ffff, 0x0a00_0000, 0x0a80_0000);

const cidrs = (family: 4 | 6): fc.Arbitrary<Cidr> => {
  const words = fc.array(word, { minLength: family === 4 ? 1 : 4, maxLength: family === 4 ? 1 : 4 });
  const length = fc.oneof(fc.integer({ min: 0, max: family === 4 ? 32 : 128 }), fc.constantFrom(0, 1, 2, 31, 32));
  return fc
    .tuple(words, length)
    .map(([words, length]) => ({ address: maskAddress({ family, words }, length), length }));
};

for (const family of [4, 6] as const) {
  test(`what is inside a prefix is what a list says, whatever came and went (IPv${family})`, (context) => {
    const change = fc.record({ cidr: cidrs(family), add: fc.boolean() });
    const property = fc.property(fc.array(change, { maxLength: 40 }), fc.array(cidrs(family)), (changes, asked) => {
      const tree = new PrefixTree<Cidr>({
        address: maskAddress({ family, words: family === 4 ? [0] : [0, 0, 0, 0] }, 0),
        length: 0,
      });
      const list = new Map<string, Cidr>();
      for (const { cidr, add } of changes) {
        if (add) tree.set(cidr, cidr);
        else tree.delete(cidr);
        if (add) list.set(formatCidr(cidr), cidr);
        else list.delete(formatCidr(cidr));
      }
      for (const outer of [...asked, ...list.values(), ...changes.map(({ cidr }) => cidr)]) {
        const expected = [...list.values()].filter((cidr) => cidrCovers(outer, cidr)).map(formatCidr);
        assert.deepEqual(tree.inside(outer).map(formatCidr).sort(), expected.sort());
      }
    });
    holds(context, property, 300);
  });
}
