// The union of a rule's blocks holds exactly the addresses that one of its blocks holds.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Address } from '#net/address.ts';
import { type Cidr, cidrContains, formatCidr, maskAddress, parseCidr } from '#net/cidr.ts';
import { holds } from '#test/support/property.ts';
import { type AddressSet, type BlockPeer, unionOf } from './block-union.ts';

/** Few bits, so that blocks are nested, equal and side by side; the last address word decides for IPv6. */
const anyAddress = fc
  .tuple(fc.constantFrom(4 as const, 6 as const), fc.nat(15))
  .map(([family, low]): Address => ({ family, words: family === 4 ? [low] : [0, 0, 0, low] }));
const anyCidr = fc.tuple(anyAddress, fc.nat(5)).map(([address, open]): Cidr => {
  const length = address.words.length * 32 - open;
  return { address: maskAddress(address, length), length };
});
const anyPeer: fc.Arbitrary<BlockPeer> = fc.record({ cidr: anyCidr, except: fc.array(anyCidr, { maxLength: 4 }) });

function isIn({ includes, excepts }: AddressSet, address: Address): boolean {
  const marks = [
    ...includes.map((cidr) => ({ cidr, holds: true })),
    ...excepts.map((cidr) => ({ cidr, holds: false })),
  ];
  const inside = marks.filter(({ cidr }) => cidrContains(cidr, address));
  return inside.sort((a, b) => b.cidr.length - a.cidr.length)[0]?.holds ?? false;
}

test('an address is in the union exactly where a block holds it and none of its exceptions does', (t) => {
  let both = 0;
  const check = fc.property(fc.array(anyPeer, { maxLength: 6 }), anyAddress, (peers, address) => {
    const expected = peers.some(({ cidr, except }) => {
      return cidrContains(cidr, address) && !except.some((hole) => cidrContains(hole, address));
    });
    assert.equal(isIn(unionOf(peers), address), expected);
    if (expected) both++;
  });
  holds(t, check, 3000);
  assert.ok(both > 0, 'some address was in');
});

test('blocks that say nothing more than others leave no boundary', () => {
  const block = (text: string): Cidr => parseCidr(text)?.cidr as Cidr;
  const peer = (cidr: string, ...except: string[]): BlockPeer => ({ cidr: block(cidr), except: except.map(block) });
  const { includes, excepts } = unionOf([
    peer('10.0.0.0/8', '10.1.0.0/16', '10.1.2.0/24', '10.3.0.0/16'),
    peer('10.0.0.0/8', '10.1.0.0/16'),
    peer('10.1.2.0/25'),
    peer('10.5.0.0/16'),
  ]);
  assert.deepEqual(
    [includes, excepts].map((list) => list.map(formatCidr)),
    [['10.0.0.0/8', '10.1.2.0/25'], ['10.1.0.0/16']],
  );
});
